#include "engine/session.h"

#include <utility>

#include "core/error.h"

namespace greta {

Session::Session(const Model& model, Plan plan, Ops& ops, KvView& kv, BufferMemory* buffers)
    : model_(model), plan_(std::move(plan)), ops_(ops), kv_(kv), sequences_(model, ops, kv), workspace_(buffers) {
  check_kv_type(kv.dtype(), model.config.head_dim);
}

TensorView Session::step(Phase phase, const Batch& batch, Probe* probe) {
  if (batch.tokens.empty() || batch.tokens.size() != batch.rows.size())
    fail("forward call with {} tokens for {} rows; give one token a row, at least one", batch.tokens.size(), batch.rows.size());
  for (const std::int32_t token : batch.tokens)
    if (token < 0 || token >= model_.config.vocab_size)
      fail("token id {} is outside the vocabulary of {}", token, model_.config.vocab_size);
  for (const RowId& row : batch.rows)
    if (row.position < 0 || row.position >= model_.config.context_length)
      fail("position {} is outside the model's context of {} tokens; shorten the prompt", row.position,
           model_.config.context_length);
  sequences_.check_history(batch.rows);
  const RouteTable routes = plan_.routes(static_cast<std::int64_t>(batch.rows.size()));
  ops_.begin_step({phase, static_cast<int>(schedule_.size()), batch.rows}, routes);
  schedule_.push_back(static_cast<std::int32_t>(batch.rows.size()));
  const TensorView logits = forward(model_, batch, kv_, plan_, ops_, probe, workspace_);
  sequences_.wrote(batch.rows);
  return logits;
}

TensorView Session::run_rows(Phase phase, std::span<const std::int32_t> tokens, std::int32_t first, std::int32_t logits_from,
                             Probe* probe) {
  std::vector<RowId> rows(tokens.size());
  std::vector<std::int32_t> wanted;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    rows[r] = {0, first + static_cast<std::int32_t>(r)};
    if (rows[r].position >= logits_from) wanted.push_back(static_cast<std::int32_t>(r));
  }
  // The rows that the returned view names die here: callers read its values only.
  TensorView logits = step(phase, {tokens, rows, wanted}, probe);
  logits.rows = {};
  return logits;
}

std::vector<double> row_values(const TensorView& view, std::int64_t r) {
  const auto n = static_cast<std::size_t>(view.cols(r));
  if (view.dtype == DType::f64) return {view.row_as<double>(r), view.row_as<double>(r) + n};
  if (view.dtype != DType::f32) fail("logits of type '{}' cannot be read", name(view.dtype));
  return {view.row_as<float>(r), view.row_as<float>(r) + n};
}

}  // namespace greta
