// `greta doctor`: what this machine and this build can do, and why something is missing.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "cli/defaults.h"
#include "cli/paths.h"
#include "cli/verbs.h"
#include "core/dtype.h"
#include "core/error.h"
#include "engine/plan.h"
#include "model/ggml_types.h"
#include "ops/gpu/device.h"
#include "ops/routes.h"

namespace greta::cli {
namespace {

using Json = nlohmann::ordered_json;

/// Said wherever the backend is.
constexpr std::string_view kHipNote =
    "compiled for gfx942 and gfx90a and run by emulation only: no AMD GPU has computed with it yet";

/// Every backend: whether it can be used here, its devices, or why there are none.
Json backends() {
  Json list = Json::array({{{"name", "cpu"}, {"present", true}}});
  for (const gpu::BackendState& state : gpu::backend_states()) {
    Json entry{{"name", state.name}, {"present", state.why.empty()}};
    if (!state.why.empty()) entry["why"] = state.why;
    if (state.name == "hip") entry["note"] = std::string(kHipNote);
    entry["devices"] = Json::array();
    for (const gpu::DeviceInfo& device : state.devices) {
      entry["devices"].push_back({{"index", device.index},
                                  {"name", device.name},
                                  {"architecture", device.architecture},
                                  {"memory_bytes", device.memory},
                                  {"wave", device.wave},
                                  {"multiprocessors", device.multiprocessors},
                                  {"driver", device.driver}});
      if (!device.usable()) entry["devices"].back()["unusable"] = device.unusable;
    }
    list.push_back(entry);
  }
  return list;
}

/// The value of the first line `key : value` of a /proc file; empty where there is none.
std::string proc_value(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const auto colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    const auto begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

/// Bytes of a /proc/meminfo entry ("16326428 kB"); 0 where it is not given.
std::uint64_t memory_bytes(std::string_view key) {
  const std::string text = proc_value("/proc/meminfo", key);
  return text.empty() ? 0 : std::strtoull(text.c_str(), nullptr, 10) * 1024;
}

/// What make_plan takes, asked of it: no second list to go stale.
std::vector<std::string_view> kv_types() {
  std::vector<std::string_view> types;
  for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0}) {
    try {
      (void)make_plan("reference", dtype, {});
      types.push_back(name(dtype));
    } catch (const Error&) {  // not a KV type
    }
  }
  return types;
}

/// computable_type_names() as a list.
std::vector<std::string> weight_types() {
  std::vector<std::string> types;
  std::istringstream names(computable_type_names());
  for (std::string type; std::getline(names >> std::ws, type, ',');) types.push_back(type);
  return types;
}

Json machine() {
  utsname system{};
  uname(&system);
  return {{"host", system.nodename},
          {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)},
          {"cpu", proc_value("/proc/cpuinfo", "model name")},
          {"cores", std::thread::hardware_concurrency()},
          {"memory_bytes", memory_bytes("MemTotal")},
          {"memory_available_bytes", memory_bytes("MemAvailable")}};
}

Json demo_model_state() {
  Json state{{"found", false}};
  try {
    const auto path = default_model_path();
    state["path"] = path.string();
    state["bytes"] = std::filesystem::file_size(path);
    state["found"] = true;
  } catch (const std::exception& error) {
    state["why"] = error.what();
  }
  return state;
}

Json diagnose() {
  Json isas = Json::array();
  for (const Isa isa : supported_isas()) isas.push_back(name(isa));
  return {{"version", GRETA_VERSION},
          {"executable", executable().string()},
          {"machine", machine()},
          {"instruction_sets", isas},
          {"plans", {"reference", "q8", "float64", "invariant", "free"}},
          {"weight_types", weight_types()},
          {"kv_types", kv_types()},
          {"backends", backends()},
          {"demo_model", demo_model_state()}};
}

void print_line(std::string_view label, const std::string& text) { fmt::print("{:<18}{}\n", label, text); }

std::string words(const Json& list) { return fmt::format("{}", fmt::join(list.get<std::vector<std::string>>(), " ")); }

void print_text(const Json& d) {
  constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
  const Json& m = d["machine"];
  print_line("greta", fmt::format("{} ({})", d["version"].get<std::string>(), d["executable"].get<std::string>()));
  print_line("machine", fmt::format("{} ({})", m["host"].get<std::string>(), m["system"].get<std::string>()));
  print_line("processor", fmt::format("{}, {} core(s) usable", m["cpu"].get<std::string>(), m["cores"].get<unsigned>()));
  print_line("memory", fmt::format("{:.1f} GiB, {:.1f} GiB available", m["memory_bytes"].get<double>() / kGiB,
                                   m["memory_available_bytes"].get<double>() / kGiB));
  print_line("instruction sets", words(d["instruction_sets"]));
  print_line("plans", words(d["plans"]));
  print_line("weight types", words(d["weight_types"]));
  print_line("KV cache types", words(d["kv_types"]));
  for (const Json& backend : d["backends"]) {
    std::string text = backend["present"].get<bool>() ? "present" : "absent: " + backend["why"].get<std::string>();
    for (const Json& device : backend.value("devices", Json::array()))
      text += fmt::format("\n{:<18}device {}: {} ({}), {:.1f} GiB", "", device["index"].get<int>(),
                          device["name"].get<std::string>(), device["architecture"].get<std::string>(),
                          device["memory_bytes"].get<double>() / kGiB) +
              (device.contains("unusable") ? ", unusable: " + device["unusable"].get<std::string>() : "");
    if (backend.contains("note")) text += "; " + backend["note"].get<std::string>();
    print_line("backend " + backend["name"].get<std::string>(), text);
  }
  const Json& model = d["demo_model"];
  print_line("demo model", model["found"].get<bool>() ? fmt::format("{} ({:.1f} MB)", model["path"].get<std::string>(),
                                                                    model["bytes"].get<double>() / 1e6)
                                                      : "missing: " + model["why"].get<std::string>());
}

}  // namespace

void add_doctor(CLI::App& app, Program& program) {
  auto* verb =
      app.add_subcommand("doctor", "This machine and this build: instruction sets, types, backends and why one is missing");
  auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "Print JSON on stdout");
  verb->callback([&program, json] {
    program.action = [json] {
      const Json diagnosis = diagnose();
      if (*json) {
        std::cout << diagnosis.dump(2) << '\n';
      } else {
        print_text(diagnosis);
      }
      return static_cast<int>(ExitCode::ok);
    };
  });
}

}  // namespace greta::cli
