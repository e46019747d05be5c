#include "fault/spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/nearest.h"
#include "core/quote.h"

namespace greta {
namespace {

constexpr std::int32_t kLargestShift = 64;  // KV caches keep this many slots to spare

template <class T>
T number(std::string_view fault, std::string_view key, std::string_view value) {
  T parsed{};
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
  if (error != std::errc{} || end != value.data() + value.size())
    fail("fault {}: {}={} is not a number that fits", quote(fault), key, quote(value));
  return parsed;
}

std::optional<std::int32_t> selector(std::string_view fault, std::string_view key, std::string_view value) {
  if (value == "all") return std::nullopt;
  const auto n = number<std::int32_t>(fault, key, value);
  if (n < -1) fail("fault {}: {}={} is not a {}; use 0 or more, -1 (last) or all", quote(fault), key, n, key);
  return n;
}

Stage stage_of(std::string_view fault, std::string_view key, std::string_view value) {
  if (const auto stage = stage_from_name(value)) return *stage;
  std::vector<std::string_view> known;
  for (const Stage stage : all_stages()) known.push_back(name(stage));
  fail("fault {}: {}={} is not a stage{}", quote(fault), key, quote(value), suggestion(value, known));
}

/// The keys that each kind takes beside layer, stage and position.
bool takes(FaultKind kind, std::string_view key) {
  switch (kind) {
    case FaultKind::stale_input: return key == "from" || key == "row";
    case FaultKind::rmsnorm_epsilon: return key == "eps";
    case FaultKind::perturb: return key == "ulp" || key == "rel" || key == "add" || key == "index";
    case FaultKind::nan: return key == "index";
    case FaultKind::weight_transposed: return false;
    case FaultKind::rope_position:
    case FaultKind::kv_slot_shift: return key == "delta";
  }
  return false;
}

void set_key(FaultSpec& spec, std::string_view text, std::string_view key, std::string_view value) {
  if (key == "layer") {
    spec.layer = selector(text, key, value);
  } else if (key == "position") {
    spec.position = selector(text, key, value);
  } else if (key == "stage") {
    spec.stage = stage_of(text, key, value);
  } else if (!takes(spec.kind, key)) {
    fail("fault {}: key {} is not one of {}'s; its keys: layer, stage, position; {}", quote(text), quote(key),
         info(spec.kind).name, info(spec.kind).keys);
  } else if (key == "from") {
    spec.from = stage_of(text, key, value);
  } else if (key == "row") {
    spec.row = number<std::int32_t>(text, key, value);
  } else if (key == "eps") {
    spec.eps = number<double>(text, key, value);
  } else if (key == "ulp") {
    spec.ulp = number<std::int32_t>(text, key, value);
  } else if (key == "rel") {
    spec.rel = number<double>(text, key, value);
  } else if (key == "add") {
    spec.add = number<double>(text, key, value);
  } else if (key == "index") {
    spec.index = number<std::int64_t>(text, key, value);
  } else {
    spec.delta = number<std::int32_t>(text, key, value);
  }
}

void check(const FaultSpec& spec, std::string_view text) {
  const FaultInfo& kind = info(spec.kind);
  if (kind.stage_required && !spec.stage) fail("fault {}: {} needs stage=STAGE", quote(text), kind.name);
  if (spec.stage && !spec.can_stand_at(*spec.stage)) {
    std::vector<std::string_view> known;
    for (const Stage stage : kind.stages) known.push_back(name(stage));
    fail("fault {}: {} cannot stand at stage '{}'{}", quote(text), kind.name, name(*spec.stage),
         suggestion(name(*spec.stage), known));
  }
  if (spec.kind == FaultKind::stale_input) {
    if (!spec.from) fail("fault {}: stale-input needs from=STAGE, the stage whose row is served", quote(text));
    if (*spec.from == Stage::k_cache || *spec.from == Stage::v_cache)
      fail("fault {}: from={} is the KV cache; use kv-slot-shift, or k_rope or v", quote(text), name(*spec.from));
    if (spec.row < 0) fail("fault {}: row={} is not a position; use 0 or more", quote(text), spec.row);
  }
  if (!(spec.eps >= 0) || std::isinf(spec.eps)) fail("fault {}: eps={} is not an epsilon", quote(text), spec.eps);
  if (spec.rel && !std::isfinite(*spec.rel)) fail("fault {}: rel={} is not a fraction", quote(text), *spec.rel);
  if (spec.add && !std::isfinite(*spec.add)) fail("fault {}: add={} is not a number to add", quote(text), *spec.add);
  if (spec.rel && spec.add) fail("fault {}: rel= and add= exclude each other", quote(text));
  if (spec.ulp < 1) fail("fault {}: ulp={} moves nothing; use 1 or more", quote(text), spec.ulp);
  if (spec.index < 0) fail("fault {}: index={} is not an element; use 0 or more", quote(text), spec.index);
  if (spec.kind == FaultKind::kv_slot_shift && (spec.delta < -kLargestShift || spec.delta > kLargestShift))
    fail("fault {}: delta={} is more than {} slots away", quote(text), spec.delta, kLargestShift);
  if (spec.kind == FaultKind::rope_position && std::abs(static_cast<std::int64_t>(spec.delta)) > 1'000'000'000)
    fail("fault {}: delta={} is out of range", quote(text), spec.delta);
}

}  // namespace

bool FaultSpec::can_stand_at(Stage at_stage) const {
  const auto stages = info(kind).stages;
  return std::find(stages.begin(), stages.end(), at_stage) != stages.end();
}

bool FaultSpec::matches(Phase at_phase, std::int32_t at_layer, Stage at_stage, std::int32_t n_layers) const {
  if (phase && *phase != at_phase) return false;
  if (stage ? *stage != at_stage : !can_stand_at(at_stage)) return false;
  if (once_per_token(at_stage) || !layer) return true;
  return at_layer == (*layer < 0 ? n_layers - 1 : *layer);
}

FaultSpec parse_fault(std::string_view text) {
  for (const FaultPreset& preset : fault_presets())
    if (preset.name == text) return parse_fault(preset.expansion);

  const std::size_t at = text.find('@');
  std::vector<std::string_view> known;
  for (const FaultInfo& kind : fault_catalogue()) known.push_back(kind.name);
  for (const FaultPreset& preset : fault_presets()) known.push_back(preset.name);
  const std::string_view kind_name = text.substr(0, at);
  const auto catalogue = fault_catalogue();
  const auto found = std::find_if(catalogue.begin(), catalogue.end(), [&](const auto& kind) { return kind.name == kind_name; });
  if (found == catalogue.end()) fail("fault {}: kind {} is not known{}", quote(text), quote(kind_name), suggestion(kind_name, known));
  if (at == std::string_view::npos)
    fail("fault {}: says no phase; write {}@prefill, {}@decode or {}@any", quote(text), kind_name, kind_name, kind_name);

  FaultSpec spec;
  spec.kind = found->kind;
  std::string_view rest = text.substr(at + 1);
  std::size_t colon = rest.find(':');
  const std::string_view phase = rest.substr(0, colon);
  if (phase == "prefill") {
    spec.phase = Phase::prefill;
  } else if (phase == "decode") {
    spec.phase = Phase::decode;
  } else if (phase != "any") {
    fail("fault {}: phase {} is not known; use prefill, decode or any", quote(text), quote(phase));
  }
  std::vector<std::string_view> seen;
  while (colon != std::string_view::npos) {
    rest = rest.substr(colon + 1);
    colon = rest.find(':');
    const std::string_view item = rest.substr(0, colon);
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) fail("fault {}: {} is not KEY=VALUE", quote(text), quote(item));
    const std::string_view key = item.substr(0, equals);
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) fail("fault {}: key {} stands twice", quote(text), quote(key));
    seen.push_back(key);
    set_key(spec, text, key, item.substr(equals + 1));
  }
  check(spec, text);
  return spec;
}

std::string to_string(const FaultSpec& fault) {
  std::string text = fmt::format("{}@{}", info(fault.kind).name, fault.phase ? name(*fault.phase) : "any");
  if (fault.layer) text += fmt::format(":layer={}", *fault.layer);
  if (fault.stage) text += fmt::format(":stage={}", name(*fault.stage));
  if (fault.position) text += fmt::format(":position={}", *fault.position);
  switch (fault.kind) {
    case FaultKind::stale_input: return text + fmt::format(":from={}:row={}", name(*fault.from), fault.row);
    case FaultKind::rmsnorm_epsilon: return text + fmt::format(":eps={}", fault.eps);
    case FaultKind::perturb:
      if (fault.rel) text += fmt::format(":rel={}", *fault.rel);
      if (fault.add) text += fmt::format(":add={}", *fault.add);
      if (!fault.rel && !fault.add) text += fmt::format(":ulp={}", fault.ulp);
      return text + fmt::format(":index={}", fault.index);
    case FaultKind::nan: return text + fmt::format(":index={}", fault.index);
    case FaultKind::weight_transposed: return text;
    case FaultKind::rope_position:
    case FaultKind::kv_slot_shift: return text + fmt::format(":delta={}", fault.delta);
  }
  return text;
}

}  // namespace greta
