// Operands of GPU kernels as the CPU's ops take them, and what the CPU's reference route makes of them: the exact expected
// bits.
#pragma once

#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "ops/gpu/emulated_blocks.h"
#include "tests/gpu/devices.h"
#include "tests/ops/harness.h"

namespace greta::gpu {

using test::Tensor;
using test::Weight;

/// Plan `reference` on the CPU.
inline const test::ArmOps& cpu() {
  static const test::ArmOps ops({RouteId::reference, best_isa()});
  return ops;
}

/// A tensor's copy on a device, padding (NaN) included.
class Placed {
 public:
  Placed(Device& device, const Tensor& tensor) : view_(tensor.view()), memory_(device, tensor.bytes()) {}
  MatrixArg arg() const { return {memory_.bytes(), view_.dtype, view_.n_cols, view_.row_stride}; }
  float* floats() const { return reinterpret_cast<float*>(memory_.bytes()); }
  std::vector<std::byte> download() const { return memory_.download(); }

 private:
  TensorView view_;
  DeviceArray<std::byte> memory_;
};

/// How many of the floats (all of the buffer, padding included) differ. NaN is equal to NaN.
inline int count_different(const std::vector<std::byte>& want, const std::vector<std::byte>& got) {
  EXPECT_EQ(want.size(), got.size());
  int different = 0;
  for (std::size_t i = 0; i + 4 <= want.size(); i += 4) {
    float a = 0, b = 0;
    std::memcpy(&a, &want[i], 4);
    std::memcpy(&b, &got[i], 4);
    if (!(a != a && b != b) && std::memcmp(&a, &b, 4) != 0) ++different;
  }
  return different;
}
inline int count_different(const Tensor& want, const std::vector<std::byte>& got) { return count_different(want.bytes(), got); }

/// Calls run() under several orders of threads and blocks; once on hardware.
inline void under_schedules(bool emulated, const std::function<void()>& run) {
  using emulation::Order;
  if (!emulated) return run();
  for (const Order order : {Order::forward, Order::reverse, Order::shuffled}) {
    SCOPED_TRACE(testing::Message() << "schedule " << static_cast<int>(order));
    emulation::set_schedule(order, 5);
    run();
  }
  emulation::set_schedule(Order::forward);
}
/// Whether a kernel's result differs from `want` under any schedule: what a race shows.
inline bool ever_different(bool emulated, const Tensor& want, const std::function<std::vector<std::byte>()>& run) {
  bool different = false;
  under_schedules(emulated, [&] { different = different || count_different(want, run()) > 0; });
  return different;
}

/// Values that conversions and sums stumble over, spread over a tensor: zeros of both signs, subnormal and huge numbers.
inline void sprinkle(Tensor& tensor, std::initializer_list<double> values) {
  std::int64_t at = 1;
  for (const double value : values) {
    const TensorView& view = tensor.view();
    tensor.set(at % view.n_rows, at * 5 % view.cols(at % view.n_rows), value);
    at += 3;
  }
}
inline constexpr std::initializer_list<double> kOddNumbers{-0.0,  0x1p-149, -0x1p-130, 3e38, -3e38,
                                                           65504, 65519,    0x1.1p-24, 1e-20};

/// Weights on a device.
class PlacedWeight {
 public:
  PlacedWeight(Device& device, const WeightView& view)
      : view_(view), memory_(device, std::span<const std::byte>(view.data, static_cast<std::size_t>(view.size()))) {}
  WeightArg arg() const {
    return {memory_.bytes(), view_.dtype, view_.n_rows, view_.n_cols, view_.layout == WeightLayout::transposed};
  }

 private:
  WeightView view_;
  DeviceArray<std::byte> memory_;
};

/// K or V of one layer, the same numbers twice: as floats for the CPU, in their own type on a device. Slots that nobody wrote
/// are NaN in both.
class TwinKv final : public KvView {
 public:
  TwinKv(DType stored, std::int32_t n_seq, std::int32_t n_slots, std::int64_t width)
      : stored_(stored), n_slots_(n_slots), width_(width), floats_(static_cast<std::size_t>(n_seq * n_slots * width), NAN) {}
  DType dtype() const override { return DType::f32; }
  std::int64_t width() const override { return width_; }
  std::byte* write_slot(KvPart, int, RowId token) override { return reinterpret_cast<std::byte*>(floats_.data() + at(token)); }
  const std::byte* read_slot(KvPart, int, RowId token) override { return write_slot(KvPart::k, 0, token); }

  void set(RowId token, std::int64_t i, float value) { floats_[at(token) + static_cast<std::size_t>(i)] = rounded(value); }
  float get(RowId token, std::int64_t i) const { return floats_[at(token) + static_cast<std::size_t>(i)]; }
  void fill_normal(std::int32_t seq, std::int32_t begin, std::int32_t end, std::mt19937_64& random) {
    std::normal_distribution<float> normal;
    for (std::int32_t p = begin; p < end; ++p) {
      for (std::int64_t i = 0; i < width_; ++i) set({seq, p}, i, normal(random));
    }
  }
  /// In the stored type.
  std::vector<std::byte> bytes() const {
    std::vector<std::byte> out(floats_.size() * element_bytes());
    for (std::size_t i = 0; i < floats_.size(); ++i) {
      if (stored_ == DType::f32) {
        std::memcpy(&out[i * 4], &floats_[i], 4);
      } else {
        const std::uint16_t word = stored_ == DType::f16 ? f32_to_f16(floats_[i]) : f32_to_bf16(floats_[i]);
        std::memcpy(&out[i * 2], &word, 2);
      }
    }
    return out;
  }
  KvArg arg(std::byte* base) const {
    const auto slot = static_cast<std::int64_t>(element_bytes()) * width_;
    return {base, stored_, slot * n_slots_, slot, static_cast<std::int32_t>(width_)};
  }

 private:
  std::size_t element_bytes() const { return stored_ == DType::f32 ? 4 : 2; }
  std::size_t at(RowId token) const {
    return static_cast<std::size_t>((std::int64_t{token.seq} * n_slots_ + token.position) * width_);
  }
  float rounded(float value) const {
    if (stored_ == DType::f32) return value;
    return stored_ == DType::f16 ? f16_to_f32(f32_to_f16(value)) : bf16_to_f32(f32_to_bf16(value));
  }

  DType stored_;
  std::int32_t n_slots_;
  std::int64_t width_;
  std::vector<float> floats_;
};

/// Metadata of rows on a device.
class PlacedRows {
 public:
  PlacedRows(Device& device, const std::vector<RowId>& rows, std::span<const RowExtent> scores = {})
      : position_(device, map(rows, [](const RowId& row) { return row.position; })),
        sequence_(device, map(rows, [](const RowId& row) { return row.seq; })),
        offset_(device, offsets(rows.size(), scores)),
        n_(static_cast<std::int32_t>(rows.size())) {
    for (const RowId& row : rows) most_ = std::max(most_, row.position + 1);
  }
  RowsArg arg() const { return {n_, position_.get(), sequence_.get(), offset_.get(), most_}; }

 private:
  template <class F>
  static std::vector<std::int32_t> map(const std::vector<RowId>& rows, const F& f) {
    std::vector<std::int32_t> out;
    for (const RowId& row : rows) out.push_back(f(row));
    return out;
  }
  static std::vector<std::int64_t> offsets(std::size_t n, std::span<const RowExtent> scores) {
    std::vector<std::int64_t> out(n);
    for (std::size_t r = 0; r < scores.size(); ++r) out[r] = scores[r].offset / 4;
    return out;
  }

  DeviceArray<std::int32_t> position_, sequence_;
  DeviceArray<std::int64_t> offset_;
  std::int32_t n_ = 0, most_ = 0;
};

}  // namespace greta::gpu
