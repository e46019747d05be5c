// Between the JSONL's writer and its reader: the words of the format, and one line taken apart.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "trace/issue.h"
#include "trace/json.h"
#include "trace/name_map.h"
#include "trace/record.h"

namespace greta::trace {

inline constexpr std::string_view kTraceEvent = "post_wo_trace";
inline constexpr std::string_view kLogitsEvent = "post_wo_logits";
inline constexpr std::string_view kHeaderEvent = "post_wo_header";
inline constexpr std::string_view kEndEvent = "post_wo_end";
inline constexpr std::string_view kNotExposed = "not_exposed";
/// Layers and positions of a trace from outside: more is a mistake, and would only cost memory.
inline constexpr std::int64_t kMaxLayer = 65'535;
/// The one after it, and the number of tokens up to it, are int32 too.
inline constexpr std::int32_t kMaxPosition = std::numeric_limits<std::int32_t>::max() - 1;

struct PhaseLabel {
  Phase phase = Phase::prefill;
  bool last = false;         // prefill_last
  std::int32_t decode = -1;  // K of decodeK; -1: "decode" without a number
};
std::optional<PhaseLabel> parse_phase(std::string_view text);

/// Which capture a line belongs to, and where in it.
struct Place {
  std::string prompt_id;  // empty: missing
  std::string exp;        // empty: missing
  char arm = 'a';
  PhaseLabel phase;
  std::optional<std::int32_t> position;
  std::int32_t step = 0;
};

/// Something said about a line that could still be used.
struct Remark {
  IssueKind kind = IssueKind::unused;
  std::string what;
};

struct TraceLine {
  Place place;
  StageRecord record;  // position still to be set
  std::vector<Remark> remarks;
};
struct LogitsLine {
  Place place;
  LogitsRecord record;  // position still to be set
};

/// A line that cannot be used, and why.
struct Refusal {
  IssueKind kind = IssueKind::unreadable;
  std::string what;
};

tl::expected<TraceLine, Refusal> parse_trace(const json::Value& object, const NameMap& names);
tl::expected<LogitsLine, Refusal> parse_logits_line(const json::Value& object);

}  // namespace greta::trace
