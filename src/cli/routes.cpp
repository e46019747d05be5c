// `greta routes`: every implementation of every op, and the ones that a plan chooses.
#include "ops/routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/checks.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "ops/gpu/device.h"

namespace greta::cli {
namespace {

struct Options {
  std::string plan, backend = "cpu";
  std::vector<std::string> overrides;  // op=route
  std::int64_t rows = 1;
  bool json = false;
};

std::map<std::string, std::string> parse_overrides(const std::vector<std::string>& items) {
  std::map<std::string, std::string> overrides;
  for (const std::string& item : items) {
    const auto equals = item.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == item.size())
      fail("--route '{}' is not OP=ROUTE, for example --route matmul=float64", item);
    if (!overrides.emplace(item.substr(0, equals), item.substr(equals + 1)).second)
      fail("--route names op '{}' twice", item.substr(0, equals));
  }
  return overrides;
}

void print_json(const Options& options, const RouteTable& chosen) {
  nlohmann::ordered_json routes = nlohmann::ordered_json::array();
  for (const RouteInfo& info : all_routes())
    routes.push_back({{"op", name(info.op)},
                      {"route", name(info.id)},
                      {"chosen", chosen[info.op] == info.id},
                      {"cpu", info.on_cpu},
                      {"gpu", info.on_gpu},
                      {"description", info.description}});
  std::cout << nlohmann::ordered_json{{"plan", options.plan},
                                      {"backend", options.backend},
                                      {"rows", options.rows},
                                      {"routes", routes}}
                   .dump(2)
            << '\n';
}

void print_text(const Options& options, const RouteTable& chosen) {
  fmt::print("plan {} of {}, {} row(s) a call; * is chosen\n  {:<10} {:<10} {:<8} {}\n", options.plan, options.backend,
             options.rows, "op", "route", "where", "description");
  for (const RouteInfo& info : all_routes())
    fmt::print("{} {:<10} {:<10} {:<8} {}\n", chosen[info.op] == info.id ? '*' : ' ', name(info.op), name(info.id),
               info.on_cpu && info.on_gpu ? "cpu gpu"
               : info.on_cpu              ? "cpu"
                                          : "gpu",
               info.description);
  fmt::print("backends\n  {:<10} here\n", "cpu");
  for (const gpu::BackendState& state : gpu::backend_states())
    fmt::print("  {:<10} {}\n", state.name,
               state.why.empty() ? fmt::format("here, {} device(s)", std::count_if(state.devices.begin(), state.devices.end(),
                                                                                   std::mem_fn(&gpu::DeviceInfo::usable)))
                                 : state.why);
  fmt::print("  route names are the same on CUDA and HIP; nothing was run on AMD hardware yet (greta doctor says more)\n");
}

}  // namespace

void add_routes(CLI::App& app, Program& program) {
  auto* verb = app.add_subcommand("routes", "Every implementation of every op, and which ones a plan chooses");
  auto options = std::make_shared<Options>();
  verb->add_option("--plan", options->plan,
                   "reference, q8, float64 (cpu), invariant or free (GPUs); default: reference, and invariant on a GPU");
  verb->add_option("--backend", options->backend, "cpu, cuda, hip or emulated")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda", "hip", "emulated"}));
  verb->add_option("--route", options->overrides, "OP=ROUTE: another route for one op; may be repeated");
  verb->add_option("--rows", options->rows, "Rows of a forward call")->capture_default_str()->check(at_least(1));
  verb->add_flag("--json", options->json, "Print JSON on stdout");
  verb->callback([&program, options] {
    program.action = [options] {
      const Target target = options->backend == "cpu" ? Target::cpu : Target::gpu;
      if (options->plan.empty()) options->plan = target == Target::cpu ? "reference" : "invariant";
      const RouteTable chosen =
          select_routes(options->plan, RouteShape{options->rows}, parse_overrides(options->overrides), target);
      options->json ? print_json(*options, chosen) : print_text(*options, chosen);
      return static_cast<int>(ExitCode::ok);
    };
  });
}

}  // namespace greta::cli
