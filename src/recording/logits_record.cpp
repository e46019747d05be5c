#include "recording/logits_record.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace greta {
namespace {

double value_at(const std::byte* row, DType dtype, std::size_t i) {
  if (dtype == DType::f64) return reinterpret_cast<const double*>(row)[i];
  return static_cast<double>(reinterpret_cast<const float*>(row)[i]);
}

}  // namespace

LogitsRecord logits_record(const TensorView& output, std::int64_t r, const StageRecord& row) {
  LogitsRecord logits;
  logits.position = row.position;
  logits.token_id = row.token_id;
  logits.phase = row.phase;
  logits.step = row.step;
  logits.hash = row.print.hash;
  logits.vocab = static_cast<std::int32_t>(output.cols(r));
  logits.min = std::numeric_limits<double>::infinity();
  logits.max = -logits.min;
  double sum = 0;
  for (std::int32_t id = 0; id < logits.vocab; ++id) {
    const double x = value_at(output.row(r), output.dtype, static_cast<std::size_t>(id));
    sum += x;
    logits.min = std::min(logits.min, x);
    logits.max = std::max(logits.max, x);
    if (std::isnan(x)) continue;
    if (logits.top1_id < 0 || x > logits.top1_logit) {
      logits.top2_id = logits.top1_id;
      logits.top2_logit = logits.top1_logit;
      logits.top1_id = id;
      logits.top1_logit = x;
    } else if (logits.top2_id < 0 || x > logits.top2_logit) {
      logits.top2_id = id;
      logits.top2_logit = x;
    }
  }
  logits.mean = sum / logits.vocab;
  logits.tie = logits.top2_id >= 0 && logits.top1_logit == logits.top2_logit;
  return logits;
}

}  // namespace greta
