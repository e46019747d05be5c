#include "fault/spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/nearest.h"
#include "core/quote.h"
#include "fault/catalogue.h"

namespace greta {
namespace {

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

std::vector<std::string_view> split_words(std::string_view words) {
  std::vector<std::string_view> out;
  while (!words.empty()) {
    const std::size_t space = words.find(' ');
    out.push_back(words.substr(0, space));
    words = space == std::string_view::npos ? std::string_view{} : words.substr(space + 1);
  }
  return out;
}

FaultValue value_of(const FaultKey& key, std::string_view fault, std::string_view text) {
  const std::vector<std::string_view> words = split_words(key.words);
  if (std::find(words.begin(), words.end(), text) != words.end()) return std::string(text);
  const auto check_range = [&](double n) {
    if (!(n >= key.min && n <= key.max))
      fail("fault {}: {}={} is out of range: {} to {} ({})", quote(fault), key.name, text, key.min, key.max, key.doc);
  };
  switch (key.type) {
    case KeyType::integer: {
      const auto n = number<std::int64_t>(fault, key.name, text);
      check_range(static_cast<double>(n));
      return n;
    }
    case KeyType::real: {
      const auto n = number<double>(fault, key.name, text);
      check_range(n);
      return n;
    }
    case KeyType::stage:
      return stage_of(fault, key.name, text);
    case KeyType::word:
      fail("fault {}: {}={} is not known{}", quote(fault), key.name, quote(text), suggestion(text, words));
  }
  return {};
}

void set_key(FaultSpec& spec, std::string_view text, std::string_view key, std::string_view value) {
  if (key == "layer") {
    spec.layer = selector(text, key, value);
    return;
  }
  if (key == "position") {
    spec.position = selector(text, key, value);
    return;
  }
  if (key == "stage") {
    spec.stage = stage_of(text, key, value);
    return;
  }
  const auto keys = spec.kind->keys;
  const auto known = std::find_if(keys.begin(), keys.end(), [&](const FaultKey& k) { return k.name == key; });
  if (known == keys.end())
    fail("fault {}: key {} is not one of {}'s; its keys: layer, stage, position; {}", quote(text), quote(key), spec.kind->name,
         keys_text(*spec.kind));
  const auto i = static_cast<std::size_t>(known - keys.begin());
  spec.values[i] = value_of(*known, text, value);
  spec.given[i] = true;
}

void check(const FaultSpec& spec, std::string_view text) {
  const FaultInfo& kind = *spec.kind;
  if (kind.stage_required && !spec.stage) fail("fault {}: {} needs stage=STAGE", quote(text), kind.name);
  if (spec.stage && !spec.can_stand_at(*spec.stage)) {
    std::vector<std::string_view> known;
    for (const Stage stage : kind.stages) known.push_back(name(stage));
    fail("fault {}: {} cannot stand at stage '{}'{}", quote(text), kind.name, name(*spec.stage),
         suggestion(name(*spec.stage), known));
  }
  for (std::size_t i = 0; i < kind.keys.size(); ++i)
    if (kind.keys[i].required && !spec.given[i])
      fail("fault {}: {} needs {}=: {}", quote(text), kind.name, kind.keys[i].name, kind.keys[i].doc);
  if (kind.check != nullptr) kind.check(spec, text);
}

const FaultInfo& kind_of(std::string_view text, std::string_view kind_name) {
  if (const FaultInfo* kind = find_fault(kind_name)) return *kind;
  std::vector<std::string_view> known;
  for (const FaultInfo& kind : fault_catalogue()) known.push_back(kind.name);
  for (const FaultPreset& preset : fault_presets()) known.push_back(preset.name);
  fail("fault {}: kind {} is not known{}", quote(text), quote(kind_name), suggestion(kind_name, known));
}

FaultSpec with_fallbacks(const FaultInfo& kind) {
  FaultSpec spec;
  spec.kind = &kind;
  spec.given.assign(kind.keys.size(), false);
  for (const FaultKey& key : kind.keys)
    spec.values.push_back(key.fallback.empty() ? FaultValue{} : value_of(key, kind.name, key.fallback));
  return spec;
}

}  // namespace

bool FaultSpec::can_stand_at(Stage at_stage) const {
  return std::find(kind->stages.begin(), kind->stages.end(), at_stage) != kind->stages.end();
}

bool FaultSpec::matches_layer(std::int32_t at_layer, Stage at_stage, std::int32_t n_layers) const {
  if (stage ? *stage != at_stage : !can_stand_at(at_stage)) return false;
  if (once_per_token(at_stage) || !layer) return true;
  return at_layer == (*layer < 0 ? n_layers - 1 : *layer);
}

bool FaultSpec::matches(Phase at_phase, std::int32_t at_layer, Stage at_stage, std::int32_t n_layers) const {
  return (!phase || *phase == at_phase) && matches_layer(at_layer, at_stage, n_layers);
}

const FaultValue& FaultSpec::value(std::string_view key) const {
  for (std::size_t i = 0; i < kind->keys.size(); ++i)
    if (kind->keys[i].name == key) return values[i];
  fail("internal error: fault {} has no key {}", kind->name, key);
}

bool FaultSpec::has(std::string_view key) const { return !std::holds_alternative<std::monostate>(value(key)); }

namespace {
template <class T>
const T& held(const FaultSpec& spec, std::string_view key, const FaultValue& value) {
  if (const T* found = std::get_if<T>(&value)) return *found;
  fail("internal error: key {} of fault {} holds something else", key, spec.kind->name);
}
}  // namespace

std::int64_t FaultSpec::integer(std::string_view key) const { return held<std::int64_t>(*this, key, value(key)); }
double FaultSpec::real(std::string_view key) const { return held<double>(*this, key, value(key)); }
Stage FaultSpec::stage_value(std::string_view key) const { return held<Stage>(*this, key, value(key)); }
std::string_view FaultSpec::word(std::string_view key) const {
  const std::string* found = std::get_if<std::string>(&value(key));
  return found == nullptr ? std::string_view{} : *found;
}

FaultSpec parse_fault(std::string_view text) {
  for (const FaultPreset& preset : fault_presets())
    if (preset.name == text) return parse_fault(preset.expansion);
  const std::size_t at = text.find('@');
  const std::string_view kind_name = text.substr(0, at);
  const FaultInfo& kind = kind_of(text, kind_name);
  if (at == std::string_view::npos)
    fail("fault {}: says no phase; write {}@prefill, {}@decode or {}@any", quote(text), kind_name, kind_name, kind_name);

  FaultSpec spec = with_fallbacks(kind);
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
  std::string text = fmt::format("{}@{}", fault.kind->name, fault.phase ? name(*fault.phase) : "any");
  if (fault.layer) text += fmt::format(":layer={}", *fault.layer);
  if (fault.stage) text += fmt::format(":stage={}", name(*fault.stage));
  if (fault.position) text += fmt::format(":position={}", *fault.position);
  for (std::size_t i = 0; i < fault.values.size(); ++i) {
    if (!fault.given[i]) continue;
    text += fmt::format(":{}=", fault.kind->keys[i].name);
    if (const auto* n = std::get_if<std::int64_t>(&fault.values[i])) text += fmt::format("{}", *n);
    if (const auto* x = std::get_if<double>(&fault.values[i])) text += fmt::format("{}", *x);
    if (const auto* s = std::get_if<Stage>(&fault.values[i])) text += name(*s);
    if (const auto* w = std::get_if<std::string>(&fault.values[i])) text += *w;
  }
  return text;
}

}  // namespace greta
