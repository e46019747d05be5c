// The fields of a logits record: the same in capture.json and in the JSONL.
#pragma once

#include <string>

#include "core/error.h"
#include "trace/json.h"
#include "trace/record.h"

namespace greta::trace {

/// pos_id, token_id, step, logits_hash, logits_mean, logits_min, logits_max, top1_id, top1_logit, top2_id, top2_logit, gap,
/// tie, vocab.
void append_logits(json::ObjectWriter& object, const LogitsRecord& record);
/// Into a record whose phase is set; fields that are missing stay unknown (NaN, -1, has_hash false). The error names the field.
Result<LogitsRecord> parse_logits(const json::Value& object);

}  // namespace greta::trace
