#include "cli/arm_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "cli/arm_ops.h"
#include "core/error.h"
#include "core/nearest.h"
#include "core/quote.h"

namespace greta::cli {
namespace {

constexpr std::array<std::string_view, 12> kKeys{"model", "binary", "backend", "device",  "plan", "route.<op>",
                                                 "kv",    "chunk",  "batch",   "threads", "isa",  "fault"};

int integer(std::string_view where, std::string_view key, std::string_view value, int min, int max) {
  int parsed = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
  if (error != std::errc{} || end != value.data() + value.size() || parsed < min || parsed > max)
    fail("{}: {}={} is not a whole number from {} to {}", where, key, quote(value), min, max);
  return parsed;
}

}  // namespace

int default_threads() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

Isa default_isa() { return supported_isas().back(); }

void ArmOptions::set(std::string_view where, std::string_view key, std::string_view value) {
  if (key == "model") {
    model = value;
  } else if (key == "backend") {
    backend = value;
  } else if (key == "device") {
    device = integer(where, key, value, 0, 1 << 20);
  } else if (key == "plan") {
    plan = value;
  } else if (key == "kv") {
    kv = value;
  } else if (key == "isa") {
    isa = value;
  } else if (key == "chunk") {
    chunk = integer(where, key, value, 0, 1 << 30);
  } else if (key == "batch") {
    batch = integer(where, key, value, 1, kLargestBatch);
  } else if (key == "threads") {
    threads = integer(where, key, value, 1, 1024);
  } else if (key == "fault") {
    faults.emplace_back(value);
  } else if (key.starts_with("route.")) {
    routes[std::string(key.substr(6))] = value;
  } else if (key == "binary") {
    if (value.empty()) fail("{}: binary= is empty; name a build of greta", where);
    binary = value;
  } else {
    fail("{}: key {} is not known{}", where, quote(key), suggestion(key, kKeys));
  }
}

ArmOptions parsed_arm(std::string_view where, std::string_view text) {
  ArmOptions options;
  options.parse(where, text);
  return options;
}

void ArmOptions::parse(std::string_view where, std::string_view text) {
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) fail("{}: {} is not key=value", where, quote(item));
    set(where, item.substr(0, equals), item.substr(equals + 1));
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
  }
}

void ArmOptions::merge(const ArmOptions& other) {
  if (!other.model.empty()) model = other.model;
  if (!other.binary.empty()) binary = other.binary;
  if (!other.backend.empty()) backend = other.backend;
  if (!other.plan.empty()) plan = other.plan;
  if (!other.kv.empty()) kv = other.kv;
  if (!other.isa.empty()) isa = other.isa;
  if (other.device) device = other.device;
  if (other.chunk) chunk = other.chunk;
  if (other.batch) batch = other.batch;
  if (other.threads) threads = other.threads;
  for (const auto& [op, route] : other.routes) routes[op] = route;
  faults.insert(faults.end(), other.faults.begin(), other.faults.end());
}

ArmSpec ArmOptions::resolve() const {
  ArmSpec spec;
  if (!binary.empty()) fail("binary={}: only --arm-a and --arm-b of isolate take another build", quote(binary));
  spec.device = device.value_or(0);
  spec.backend = resolve_backend(backend, spec.device);
  const Target target = target_of(spec.backend);
  std::optional<DType> kv_type;
  if (!kv.empty()) {
    kv_type = dtype_from_name(kv);
    if (!kv_type) fail("KV type {} is not known; use f64, f32, f16, bf16 or q8_0", quote(kv));
  }
  spec.plan = make_plan(!plan.empty() ? plan : target == Target::cpu ? "reference" : "invariant", kv_type, routes, target);
  spec.chunk = chunk.value_or(0);
  spec.batch = batch.value_or(1);
  spec.threads = threads.value_or(default_threads());
  spec.isa = default_isa();
  if (!isa.empty()) {
    const auto wanted = isa_from_name(isa);
    if (!wanted) fail("instruction set {} is not known; use scalar, avx2 or avx512", quote(isa));
    spec.isa = *wanted;
  }
  for (const std::string& fault : faults) spec.faults.push_back(parse_fault(fault));
  return spec;
}

isolate::DeclaredArm ArmOptions::declared(const ArmSpec& spec) const {
  isolate::DeclaredArm arm;
  arm.backend = spec.backend;
  arm.plan = spec.plan.name;
  arm.kv = name(spec.plan.kv);
  arm.threads = spec.threads;
  for (const auto& [op, route] : routes) arm.routes.emplace_back(op, route);
  return arm;
}

std::string ArmOptions::text() const {
  std::vector<std::string> items;
  const auto add = [&](std::string_view key, std::string_view value) {
    if (!value.empty()) items.push_back(fmt::format("{}={}", key, value));
  };
  add("model", model);
  add("binary", binary);
  add("backend", backend);
  if (device) add("device", std::to_string(*device));
  add("plan", plan);
  for (const auto& [op, route] : routes) add("route." + op, route);
  add("kv", kv);
  if (chunk) add("chunk", std::to_string(*chunk));
  if (batch) add("batch", std::to_string(*batch));
  if (threads) add("threads", std::to_string(*threads));
  add("isa", isa);
  for (const std::string& fault : faults) add("fault", fault);
  return fmt::format("{}", fmt::join(items, ","));
}

}  // namespace greta::cli
