// The environment of the original's habits: GRETA_TRACE_* and GRETA_MAX_SEQ_LEN. Nothing else in greta reads it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace greta::cli {

struct Environment {
  bool trace_post_wo = false;              // GRETA_TRACE_POST_WO=1
  std::optional<std::string> out;          // GRETA_TRACE_POST_WO_OUT: the JSONL file
  std::optional<std::string> layers;       // GRETA_TRACE_POST_WO_LAYERS: "0,3,-1"
  std::optional<std::string> sample;       // GRETA_TRACE_POST_WO_SAMPLE
  std::optional<std::string> phases;       // GRETA_TRACE_POST_WO_PHASES: "prefill_last,decode0"
  std::optional<std::string> prompt_id;    // GRETA_TRACE_PROMPT_ID
  std::optional<std::string> max_seq_len;  // GRETA_MAX_SEQ_LEN
};

/// Reads `variables` ("NAME=value", as in environ).
Environment read_environment(const char* const* variables);

/// A warning, with the nearest known name, for each GRETA_* variable that no verb knows.
std::vector<std::string> unknown_variables(const char* const* variables);

}  // namespace greta::cli
