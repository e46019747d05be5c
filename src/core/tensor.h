// Tensor and weight views: they own nothing, and they know where their rows came from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/dtype.h"
#include "core/stage.h"

namespace greta {

/// What a row of an activation is: a token of sequence `seq` at absolute `position`.
struct RowId {
  std::int32_t seq = 0;
  std::int32_t position = 0;
  friend bool operator==(const RowId&, const RowId&) = default;
};

/// Where the values of a view were produced. Copies of a view keep it. Buffers are reused, so `generation` counts the writes.
struct Origin {
  Stage stage = Stage::x_in;
  std::int32_t layer = -1;
  std::uint32_t buffer = 0;
  std::uint64_t generation = 0;
};

/// Rows of a view that are ragged (attention scores: heads x keys, keys 0..pos) or not contiguous (KV slots).
struct RowExtent {
  std::int64_t offset = 0;  // bytes from TensorView::data
  std::int64_t cols = 0;    // elements
};

/// A matrix of activations, [n_rows, n_cols], one row a token. Valid during the forward call that made it.
struct TensorView {
  std::byte* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t n_rows = 0;
  std::int64_t n_cols = 0;      // of every row, or the longest where `extents` is set
  std::int64_t row_stride = 0;  // bytes
  std::span<const RowExtent> extents;  // empty: regular rows; else n_rows entries
  std::span<const RowId> rows;         // n_rows entries: token of each row
  Origin origin;

  std::byte* row(std::int64_t r) const {
    return data + (extents.empty() ? r * row_stride : extents[static_cast<std::size_t>(r)].offset);
  }
  std::int64_t cols(std::int64_t r) const { return extents.empty() ? n_cols : extents[static_cast<std::size_t>(r)].cols; }
  template <class T>
  T* row_as(std::int64_t r) const {
    return reinterpret_cast<T*>(row(r));
  }
};

/// How the bytes of a weight matrix are laid out: GGUF files hold `row_major` [n_rows = outputs, n_cols = inputs].
enum class WeightLayout : std::uint8_t { row_major, transposed };

/// One weight tensor as it lies in the mapped file. A vector (norm weight, bias) has n_rows == 1.
struct WeightView {
  std::string_view name;
  DType dtype = DType::f32;
  std::int64_t n_rows = 0;  // outputs
  std::int64_t n_cols = 0;  // inputs, contiguous
  const std::byte* data = nullptr;
  WeightLayout layout = WeightLayout::row_major;

  explicit operator bool() const { return data != nullptr; }
  std::int64_t row_size() const { return row_bytes(dtype, n_cols); }  // bytes
  std::int64_t size() const { return row_size() * n_rows; }           // bytes
  const std::byte* row(std::int64_t r) const { return data + r * row_size(); }
};

}  // namespace greta
