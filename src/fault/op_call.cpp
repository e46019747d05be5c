#include "fault/op_call.h"

#include <algorithm>
#include <cstring>

#include "core/activation_blocks.h"
#include "core/error.h"
#include "ops/cpu/convert.h"

namespace greta {

void run(Ops& ops, const OpCall& c) {
  if (!c.op) {
    for (std::int64_t r = 0; r < c.out.n_rows; ++r)
      std::memcpy(c.out.row(r), c.x.row(r), static_cast<std::size_t>(row_bytes(c.out.dtype, c.out.cols(r))));
    return;
  }
  switch (*c.op) {
    case OpKind::embed:
      return ops.embed(c.site, c.weight, c.tokens, c.scale, c.out);
    case OpKind::rmsnorm:
      return ops.rmsnorm(c.site, c.x, c.weight, c.eps, c.out);
    case OpKind::matmul:
      return ops.matmul(c.site, c.x, c.weight, c.bias, c.out);
    case OpKind::rope:
      return ops.rope(c.site, c.x, c.rope, c.positions, c.out);
    case OpKind::kv_write:
      return ops.kv_write(c.site, c.x, c.part, *c.kv);
    case OpKind::kv_shift:
      return ops.kv_shift(c.site, c.shift, *c.kv);
    case OpKind::qk:
      return ops.qk(c.site, c.x, c.attention, *c.kv, c.out);
    case OpKind::softmax:
      return ops.softmax(c.site, c.x, c.attention, c.out);
    case OpKind::pv:
      return ops.pv(c.site, c.x, c.attention, *c.kv, c.out);
    case OpKind::add:
      return ops.add(c.site, c.second, c.x, c.out);
    case OpKind::act_mul:
      return ops.act_mul(c.site, c.activation, c.x, c.second, c.out);
    case OpKind::softcap:
      return ops.softcap(c.site, c.x, c.cap, c.out);
    case OpKind::quantize:
      return ops.quantize(c.site, c.x, c.out);
  }
  fail("internal error: op {} has no call", static_cast<int>(*c.op));
}

TensorView pick_rows(const TensorView& whole, std::span<const std::int64_t> indices, Arena& arena) {
  if (whole.data == nullptr) return whole;
  auto& extents = arena.extents.emplace_back();
  auto& ids = arena.ids.emplace_back();
  TensorView view = whole;
  view.n_rows = static_cast<std::int64_t>(indices.size());
  view.n_cols = 0;
  for (const std::int64_t r : indices) {
    extents.push_back({whole.row(r) - whole.data, whole.cols(r)});
    view.n_cols = std::max(view.n_cols, whole.cols(r));
    if (!whole.rows.empty()) ids.push_back(whole.rows[static_cast<std::size_t>(r)]);
  }
  view.extents = extents;
  view.rows = ids;
  return view;
}

OpCall pick_rows(const OpCall& whole, std::span<const std::int64_t> indices, Arena& arena) {
  OpCall call = whole;
  const auto numbers = [&](std::span<const std::int32_t> values) -> std::span<const std::int32_t> {
    if (values.empty()) return {};
    auto& picked = arena.numbers.emplace_back();
    for (const std::int64_t r : indices) picked.push_back(values[static_cast<std::size_t>(r)]);
    return picked;
  };
  auto& rows = arena.ids.emplace_back();
  for (const std::int64_t r : indices) rows.push_back(whole.site.rows[static_cast<std::size_t>(r)]);
  call.site.rows = rows;
  call.x = pick_rows(whole.x, indices, arena);
  call.second = pick_rows(whole.second, indices, arena);
  call.out = pick_rows(whole.out, indices, arena);
  call.tokens = numbers(whole.tokens);
  call.positions = numbers(whole.positions);
  return call;
}

std::vector<std::byte> copy_rows(const TensorView& view) {
  std::vector<std::byte> bytes;
  for (std::int64_t r = 0; r < view.n_rows; ++r)
    bytes.insert(bytes.end(), view.row(r), view.row(r) + row_bytes(view.dtype, view.cols(r)));
  return bytes;
}

void put_rows(const TensorView& view, const std::vector<std::byte>& bytes) {
  const std::byte* from = bytes.data();
  for (std::int64_t r = 0; r < view.n_rows; ++r) {
    const std::int64_t size = row_bytes(view.dtype, view.cols(r));
    std::memcpy(view.row(r), from, static_cast<std::size_t>(size));
    from += size;
  }
}

TensorView copy_of(const TensorView& view, Arena& arena) {
  auto& bytes = arena.bytes.emplace_back(copy_rows(view));
  auto& extents = arena.extents.emplace_back();
  auto& ids = arena.ids.emplace_back(view.rows.begin(), view.rows.end());
  std::int64_t offset = 0;
  for (std::int64_t r = 0; r < view.n_rows; ++r) {
    extents.push_back({offset, view.cols(r)});
    offset += row_bytes(view.dtype, view.cols(r));
  }
  TensorView copy = view;
  copy.data = bytes.data();
  copy.extents = extents;
  copy.rows = ids;
  return copy;
}

void clear_from(const TensorView& view, std::int64_t r, std::int64_t first) {
  std::byte* row = view.row(r);
  if (view.dtype != DType::q8_f32) {
    const std::int64_t begin = row_bytes(view.dtype, first);
    std::memset(row + begin, 0, static_cast<std::size_t>(row_bytes(view.dtype, view.cols(r)) - begin));
    return;
  }
  for (std::int64_t i = first; i < view.cols(r); ++i)
    reinterpret_cast<BlockQ8F32*>(row)[i / kActivationBlock].q[i % kActivationBlock] = 0;
}

std::vector<double> row_as_double(const TensorView& view, std::int64_t r) {
  std::vector<double> values(static_cast<std::size_t>(view.cols(r)));
  widen_row(view.dtype, view.row(r), view.cols(r), values.data());
  return values;
}

void store_row(const TensorView& view, std::int64_t r, std::span<const double> values) {
  convert_row(DType::f64, reinterpret_cast<const std::byte*>(values.data()), static_cast<std::int64_t>(values.size()),
              view.dtype, view.row(r));
}

}  // namespace greta
