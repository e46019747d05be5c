// One op call as data, so that a fault can alter any operand of any op.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "ops/ops.h"

namespace greta {

/// The operands of one call of any op; those that the op does not take stay empty.
struct OpCall {
  std::optional<OpKind> op = {};  // nullopt: a handoff, whose `out` is a copy of `x`
  OpSite site = {};
  TensorView x = {};  // of rmsnorm, matmul, rope, kv_write; q of qk, scores of softmax, probs of pv, branch of add, gate of
                      // act_mul, input of softcap and quantize
  TensorView second = {};  // residual stream of add, up of act_mul
  WeightView weight = {};  // table of embed
  WeightView bias = {};
  std::span<const std::int32_t> tokens = {};     // of embed
  std::span<const std::int32_t> positions = {};  // of rope
  double scale = 1;                              // of embed
  double eps = 0;
  double cap = 0;  // of softcap
  Activation activation = Activation::silu;
  RopeParams rope = {};
  AttentionParams attention = {};
  KvShift shift = {};
  KvPart part = KvPart::k;
  KvView* kv = nullptr;
  TensorView out = {};  // empty for kv_write and kv_shift: the cache is their output
};

/// Runs the call on `ops`; a handoff copies its rows.
void run(Ops& ops, const OpCall& call);

/// What views made during a call point into.
struct Arena {
  std::deque<std::vector<std::byte>> bytes;
  std::deque<std::vector<RowExtent>> extents;
  std::deque<std::vector<RowId>> ids;
  std::deque<std::vector<std::int32_t>> numbers;
  std::deque<std::vector<float>> floats;
  std::vector<std::shared_ptr<const void>> held;
};

/// Some rows of a view, over the same memory.
TensorView pick_rows(const TensorView& whole, std::span<const std::int64_t> indices, Arena& arena);
/// Some rows of a call, over the same memory.
OpCall pick_rows(const OpCall& whole, std::span<const std::int64_t> indices, Arena& arena);
/// The rows of a view, one after the other without gaps.
std::vector<std::byte> copy_rows(const TensorView& view);
/// The reverse.
void put_rows(const TensorView& view, const std::vector<std::byte>& bytes);
/// A view of the same rows over memory of its own, which holds a copy; the origin stays.
TensorView copy_of(const TensorView& view, Arena& arena);

/// Elements first.. of row `r` become zero (of q8_f32: their codes).
void clear_from(const TensorView& view, std::int64_t r, std::int64_t first);
/// Row `r` as double, exactly (f64, f32, f16, q8_f32).
std::vector<double> row_as_double(const TensorView& view, std::int64_t r);
/// Values rounded once to the view's type.
void store_row(const TensorView& view, std::int64_t r, std::span<const double> values);

}  // namespace greta
