#include "engine/workspace.h"

#include <algorithm>
#include <cstring>

namespace greta {
namespace {
constexpr std::size_t kAlignment = 64;
std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
}  // namespace

std::byte* Buffer::reserve(Stage stage, int layer, std::size_t bytes) {
  if (memory_ != nullptr) return memory_->reserve(id_, stage, layer, bytes);
  if (bytes <= capacity_) return data_.get();
  data_.reset(new (std::align_val_t{kAlignment}) std::byte[bytes]);
  capacity_ = bytes;
  std::memset(data_.get(), 0xff, bytes);  // NaN in every floating type
  return data_.get();
}

TensorView Buffer::next(Stage stage, int layer, DType dtype, std::span<const RowId> rows, std::int64_t n_cols) {
  const std::size_t stride = aligned(static_cast<std::size_t>(row_bytes(dtype, n_cols)));
  TensorView view;
  view.data = reserve(stage, layer, stride * rows.size());
  view.dtype = dtype;
  view.n_rows = static_cast<std::int64_t>(rows.size());
  view.n_cols = n_cols;
  view.row_stride = static_cast<std::int64_t>(stride);
  view.rows = rows;
  view.origin = {stage, layer, id_, ++generation_};
  return view;
}

TensorView Buffer::next_ragged(Stage stage, int layer, DType dtype, std::span<const RowId> rows,
                               std::span<const RowExtent> extents, std::size_t bytes) {
  TensorView view;
  view.data = reserve(stage, layer, bytes);
  view.dtype = dtype;
  view.n_rows = static_cast<std::int64_t>(rows.size());
  for (const RowExtent& extent : extents) view.n_cols = std::max(view.n_cols, extent.cols);
  view.extents = extents;
  view.rows = rows;
  view.origin = {stage, layer, id_, ++generation_};
  return view;
}

}  // namespace greta
