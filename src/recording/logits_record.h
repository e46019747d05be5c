// What a capture says of a row of logits.
#pragma once

#include "core/tensor.h"
#include "trace/record.h"

namespace greta {

/// Of row `r` of logits in memory of the host; `row` is its record, which gives the key and the hash.
LogitsRecord logits_record(const TensorView& output, std::int64_t r, const StageRecord& row);

}  // namespace greta
