// The catalogue, family by family, and the presets: printed by `greta faults`.
#include "fault/catalogue.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/error.h"
#include "core/quote.h"

namespace greta {
namespace {

constexpr std::array<FaultPreset, 1> kPresets{{
    {"b3_41", "stale-input@decode:layer=0:stage=ffn_norm:from=x_after_attn:row=0",
     "decode's first ffn_norm reads the prefill buffer at offset 0, the BOS row of every prompt: the collapse of B3.41"},
}};

std::string value_text(const FaultKey& key) {
  std::string words(key.words);
  std::replace(words.begin(), words.end(), ' ', '|');
  switch (key.type) {
    case KeyType::integer:
      return words.empty() ? "N" : words + "|N";
    case KeyType::real:
      return words.empty() ? "VALUE" : words + "|VALUE";
    case KeyType::stage:
      return "STAGE";
    case KeyType::word:
      return words;
  }
  return words;
}

}  // namespace

std::span<const FaultInfo> fault_catalogue() {
  static const std::vector<FaultInfo> all = [] {
    std::vector<FaultInfo> rows;
    for (const auto family : {buffer_faults(), norm_faults(), rope_faults(), weight_faults(), accumulate_faults(),
                              attention_faults(), kv_faults(), residual_faults(), head_faults(), gpu_faults()})
      rows.insert(rows.end(), family.begin(), family.end());
    return rows;
  }();
  return all;
}

const FaultInfo* find_fault(std::string_view wanted) {
  const auto all = fault_catalogue();
  const auto found = std::find_if(all.begin(), all.end(), [&](const FaultInfo& kind) { return kind.name == wanted; });
  return found == all.end() ? nullptr : &*found;
}

std::string_view name(ShowsIn shows) {
  switch (shows) {
    case ShowsIn::operand:
      return "operand";
    case ShowsIn::kernel:
      return "kernel";
    case ShowsIn::output:
      return "output";
  }
  return "";
}

std::string keys_text(const FaultInfo& kind) {
  std::string text;
  for (const FaultKey& key : kind.keys) {
    if (!text.empty()) text += "; ";
    text += fmt::format("{}={}", key.name, value_text(key));
    if (key.required) text += " (required)";
    if (!key.fallback.empty()) text += fmt::format(" (default {})", key.fallback);
    text += fmt::format(": {}", key.doc);
  }
  return text.empty() ? "none" : text;
}

std::span<const FaultPreset> fault_presets() { return kPresets; }

void check_fault(const FaultSpec& fault, const FaultTarget& target) {
  if (fault.layer && *fault.layer >= target.n_layers() && !(fault.stage && once_per_token(*fault.stage)))
    fail("fault {}: layer {} is not one of the model's 0..{}", quote(to_string(fault)), *fault.layer, target.n_layers() - 1);
  if (fault.kind->lacks == nullptr) return;
  const std::string missing = fault.kind->lacks(fault, target);
  if (!missing.empty()) fail("fault {}: {}; it needs {}", quote(to_string(fault)), missing, fault.kind->needs);
}

}  // namespace greta
