#include "cli/environment.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/nearest.h"
#include "core/quote.h"

namespace greta::cli {
namespace {
constexpr std::array<std::string_view, 7> kKnown{
    "GRETA_TRACE_POST_WO",        "GRETA_TRACE_POST_WO_OUT", "GRETA_TRACE_POST_WO_LAYERS", "GRETA_TRACE_POST_WO_SAMPLE",
    "GRETA_TRACE_POST_WO_PHASES", "GRETA_TRACE_PROMPT_ID",   "GRETA_MAX_SEQ_LEN"};
}  // namespace

Environment read_environment(const char* const* variables) {
  Environment env;
  for (; *variables != nullptr; ++variables) {
    const std::string_view entry = *variables;
    const std::size_t equals = entry.find('=');
    if (!entry.starts_with("GRETA_") || equals == std::string_view::npos) continue;
    const std::string_view name = entry.substr(0, equals);
    const std::string value(entry.substr(equals + 1));
    if (name == kKnown[0]) {
      if (value != "0" && value != "1" && !value.empty()) fail("{}={}: use 1 (on) or 0 (off)", name, quote(value));
      env.trace_post_wo = value == "1";
    } else if (name == kKnown[1]) {
      env.out = value;
    } else if (name == kKnown[2]) {
      env.layers = value;
    } else if (name == kKnown[3]) {
      env.sample = value;
    } else if (name == kKnown[4]) {
      env.phases = value;
    } else if (name == kKnown[5]) {
      env.prompt_id = value;
    } else if (name == kKnown[6]) {
      env.max_seq_len = value;
    }
  }
  return env;
}

std::vector<std::string> unknown_variables(const char* const* variables) {
  std::vector<std::string> warnings;
  for (; *variables != nullptr; ++variables) {
    const std::string_view entry = *variables;
    const std::string_view name = entry.substr(0, entry.find('='));
    if (!name.starts_with("GRETA_") || std::find(kKnown.begin(), kKnown.end(), name) != kKnown.end()) continue;
    warnings.push_back(fmt::format("environment variable {} is not known and has no effect{}", name, suggestion(name, kKnown)));
  }
  return warnings;
}

}  // namespace greta::cli
