// `--arm-a`, `--arm-b` and the bare flags that set both arms.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/arm.h"
#include "isolate/outcome.h"

namespace greta::cli {

/// Sequences of a batch at most.
inline constexpr int kLargestBatch = 64;

/// What the command line and the experiment say of one arm; empty: not said.
struct ArmOptions {
  std::string model;
  std::string binary;  // another build of greta that computes the arm (cli/two_builds.h)
  std::string backend, plan, kv, isa;
  std::optional<int> device, chunk, batch, threads;
  std::map<std::string, std::string> routes;  // op -> route
  std::vector<std::string> faults;

  /// Sets one `key=value`; `where` names the option in errors. Throws Error on an unknown key, naming the nearest known one.
  void set(std::string_view where, std::string_view key, std::string_view value);
  /// Reads `key=value,key=value`.
  void parse(std::string_view where, std::string_view text);
  /// What `other` says replaces what this says; faults and routes add up.
  void merge(const ArmOptions& other);

  /// Checks everything and fills in the defaults. Throws Error.
  ArmSpec resolve() const;
  /// What was asked for, for the check "as declared".
  isolate::DeclaredArm declared(const ArmSpec& spec) const;
  /// As command-line text that `parse` reads back; faults included.
  std::string text() const;
};

/// What an arm's option says, which `where` names in errors: `key=value,key=value`. Throws Error.
ArmOptions parsed_arm(std::string_view where, std::string_view text);

/// Threads that a run uses where none are asked for: the cores this process may use.
int default_threads();
/// The best instruction set of this machine.
Isa default_isa();

}  // namespace greta::cli
