// The flags that set arms, shared by the verbs that compute.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cli/arm_options.h"

namespace greta::cli {

/// What was given for both arms at once.
struct BareFlags {
  std::string backend, plan, kv, isa;
  int chunk = -1, batch = 0, threads = 0, device = -1;
  std::vector<std::string> routes;  // "op=route"

  void add_to(CLI::App& verb);
  /// Throws Error on a route that is not op=route.
  ArmOptions options() const;
};

}  // namespace greta::cli
