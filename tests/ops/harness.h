// Operands for the tests of ops: tensors whose padding is NaN, weights whose values are known, a KV cache of loose slots.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "core/blocks.h"
#include "core/half.h"
#include "ops/cpu_ops.h"
#include "tests/core/slow_decoder.h"

namespace greta::test {

inline constexpr double kUnit32 = 0x1p-24;  // half an ULP of 1 in F32: the relative error of one rounding
inline constexpr double kUnit64 = 0x1p-53;

/// An activation tensor: rows 64-byte aligned strides apart, everything outside the values NaN, as the engine's buffers are.
class Tensor {
 public:
  Tensor(DType dtype, std::int64_t n_rows, std::int64_t n_cols)
      : Tensor(dtype, std::vector<std::int64_t>(static_cast<std::size_t>(n_rows), n_cols)) {
    view_.extents = {};
    view_.n_cols = n_cols;
  }
  /// Ragged: row r has cols[r] elements.
  Tensor(DType dtype, const std::vector<std::int64_t>& cols) {
    std::int64_t offset = 0;
    for (const std::int64_t n : cols) {
      extents_.push_back({offset, n});
      view_.row_stride = (row_bytes(dtype, n) + 63) / 64 * 64;
      view_.n_cols = std::max(view_.n_cols, n);
      offset += view_.row_stride;
    }
    bytes_.assign(static_cast<std::size_t>(offset) + 64, std::byte{0xff});
    view_.data = bytes_.data();
    view_.dtype = dtype;
    view_.n_rows = static_cast<std::int64_t>(cols.size());
    view_.extents = extents_;
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  Tensor(Tensor&&) = default;

  const TensorView& view() const { return view_; }
  /// Rows [begin, begin + n).
  TensorView rows(std::int64_t begin, std::int64_t n) const {
    TensorView part = view_;
    part.n_rows = n;
    if (view_.extents.empty()) {
      part.data = view_.row(begin);
    } else {
      part.extents = view_.extents.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(n));
    }
    return part;
  }
  double get(std::int64_t r, std::int64_t c) const {
    return view_.dtype == DType::f64 ? view_.row_as<double>(r)[c] : static_cast<double>(view_.row_as<float>(r)[c]);
  }
  void set(std::int64_t r, std::int64_t c, double value) {
    if (view_.dtype == DType::f64) {
      view_.row_as<double>(r)[c] = value;
    } else {
      view_.row_as<float>(r)[c] = static_cast<float>(value);
    }
  }
  void fill_normal(std::mt19937_64& random, double scale = 1) {
    std::normal_distribution<double> normal(0, scale);
    for (std::int64_t r = 0; r < view_.n_rows; ++r) {
      for (std::int64_t c = 0; c < view_.cols(r); ++c) set(r, c, normal(random));
    }
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  std::vector<RowExtent> extents_;
  TensorView view_;
};

/// A weight matrix made of random codes of its format; values(o, i) by the format's definition, not by the code under test.
class Weight {
 public:
  Weight(DType dtype, std::int64_t n_rows, std::int64_t n_cols, std::mt19937_64& random, double scale = 1) {
    std::normal_distribution<double> normal(0, scale);
    const std::int64_t n = n_rows * n_cols;
    for (std::int64_t i = 0; i < n; i += dtype_info(dtype).block_elems) {
      switch (dtype) {
        case DType::f32:
          add_number(static_cast<float>(normal(random)), static_cast<float>(normal(random)));
          break;
        case DType::f16:
          add_half(f32_to_f16(static_cast<float>(normal(random))));
          break;
        case DType::bf16:
          add_brain(f32_to_bf16(static_cast<float>(normal(random))));
          break;
        default:
          add_block(dtype, random);
      }
    }
    view_ = {"w", dtype, n_rows, n_cols, bytes_.data(), WeightLayout::row_major};
  }
  Weight(const Weight&) = delete;
  Weight& operator=(const Weight&) = delete;

  const WeightView& view() const { return view_; }
  WeightView transposed() const {
    WeightView view = view_;
    view.layout = WeightLayout::transposed;
    return view;
  }
  /// Value of flat element i.
  double flat(std::int64_t i) const { return values_[static_cast<std::size_t>(i)]; }
  double value(std::int64_t o, std::int64_t i) const { return flat(o * view_.n_cols + i); }

 private:
  template <class T>
  void append(T value) {
    const auto* from = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), from, from + sizeof value);
  }
  void add_number(float value, float) {
    append(value);
    values_.push_back(static_cast<double>(value));
  }
  void add_half(std::uint16_t bits) {
    append(bits);
    values_.push_back(static_cast<double>(f16_to_f32(bits)));
  }
  void add_brain(std::uint16_t bits) {
    append(bits);
    values_.push_back(static_cast<double>(bf16_to_f32(bits)));
  }
  /// Random codes and sub-scales under random binary16 scales.
  void add_block(DType dtype, std::mt19937_64& random) {
    std::normal_distribution<double> normal(0, 1.0 / 32);
    std::uniform_int_distribution<int> byte(0, 255);
    const DTypeInfo& info = dtype_info(dtype);
    std::vector<unsigned char> block(static_cast<std::size_t>(info.block_bytes));
    for (auto& value : block) value = static_cast<unsigned char>(byte(random));
    for (const std::int64_t offset : scale_offsets(dtype)) {
      const std::uint16_t scale = f32_to_f16(static_cast<float>(normal(random)));
      std::memcpy(block.data() + offset, &scale, sizeof scale);
    }
    const SlowBlock decoder(block.data());
    for (std::int64_t e = 0; e < info.block_elems; ++e) {
      values_.push_back(static_cast<double>(decoder.element(dtype, static_cast<int>(e))));
    }
    for (const auto value : block) bytes_.push_back(static_cast<std::byte>(value));
  }

  std::vector<std::byte> bytes_;
  std::vector<double> values_;
  WeightView view_;
};

/// Slots of a cache, each its own allocation: nothing can be reached by address arithmetic.
class LooseKv final : public KvView {
 public:
  LooseKv(DType dtype, std::int64_t width) : dtype_(dtype), width_(width) {}
  DType dtype() const override { return dtype_; }
  std::int64_t width() const override { return width_; }
  std::byte* write_slot(KvPart part, int layer, RowId token) override { return slot(part, layer, token); }
  const std::byte* read_slot(KvPart part, int layer, RowId token) override {
    ++reads[{part, token.seq, token.position}];
    return slot(part, layer, token);
  }
  void set(KvPart part, int layer, RowId token, std::int64_t i, double value) {
    std::byte* at = slot(part, layer, token);
    if (dtype_ == DType::f64) {
      reinterpret_cast<double*>(at)[i] = value;
    } else if (dtype_ == DType::f32) {
      reinterpret_cast<float*>(at)[i] = static_cast<float>(value);
    } else if (dtype_ == DType::q8_0) {  // scale 1/64 in every block, the nearest code; NaN for the block of a NaN
      const std::uint16_t scale = std::isnan(value) ? 0x7e00 : 0x2400;
      std::memcpy(at + i / 32 * 34, &scale, 2);
      reinterpret_cast<std::int8_t*>(at + i / 32 * 34 + 2)[i % 32] =
          std::isnan(value) ? std::int8_t{0} : static_cast<std::int8_t>(std::clamp(std::round(value * 64), -127.0, 127.0));
    } else {
      reinterpret_cast<std::uint16_t*>(at)[i] = f32_to_f16(static_cast<float>(value));
    }
  }
  double get(KvPart part, int layer, RowId token, std::int64_t i) {
    const std::byte* at = slot(part, layer, token);
    if (dtype_ == DType::f64) return reinterpret_cast<const double*>(at)[i];
    if (dtype_ == DType::f32) return static_cast<double>(reinterpret_cast<const float*>(at)[i]);
    if (dtype_ == DType::q8_0) {
      std::uint16_t scale = 0;
      std::memcpy(&scale, at + i / 32 * 34, 2);
      return static_cast<double>(f16_to_f32(scale)) * reinterpret_cast<const std::int8_t*>(at + i / 32 * 34 + 2)[i % 32];
    }
    return static_cast<double>(f16_to_f32(reinterpret_cast<const std::uint16_t*>(at)[i]));
  }
  void fill_normal(KvPart part, int layer, int n_seq, int n_positions, std::mt19937_64& random) {
    std::normal_distribution<double> normal;
    for (int seq = 0; seq < n_seq; ++seq) {
      for (int p = 0; p < n_positions; ++p) {
        for (std::int64_t i = 0; i < width_; ++i) set(part, layer, {seq, p}, i, normal(random));
      }
    }
  }

  std::map<std::tuple<KvPart, std::int32_t, std::int32_t>, int> reads;

 private:
  std::byte* slot(KvPart part, int layer, RowId token) {
    auto& bytes = slots_[{part, layer, token.seq, token.position}];
    if (bytes.empty()) bytes.resize(static_cast<std::size_t>(row_bytes(dtype_, width_)), std::byte{0xff});
    return bytes.data();
  }
  DType dtype_;
  std::int64_t width_;
  std::map<std::tuple<KvPart, int, std::int32_t, std::int32_t>, std::vector<std::byte>> slots_;
};

/// One way to compute: a route, its instruction set, the type of the activations.
struct Arm {
  RouteId route = RouteId::reference;
  Isa isa = Isa::scalar;
  DType activations = DType::f32;
  int threads = 2;

  std::string label() const {
    if (route == RouteId::reference) return "reference_" + std::string(name(isa));
    return "float64_" + std::string(name(activations));
  }
  /// False, with a word on stdout, where this machine cannot run it.
  bool runs_here() const {
    for (const Isa known : supported_isas()) {
      if (known == isa) return true;
    }
    std::cout << "[ passed over ] this machine has no " << name(isa) << "\n";
    return false;
  }
};

inline std::vector<Arm> all_arms() {
  return {{RouteId::reference, Isa::scalar},
          {RouteId::reference, Isa::avx2},
          {RouteId::reference, Isa::avx512},
          {RouteId::float64, Isa::scalar, DType::f32},
          {RouteId::float64, Isa::scalar, DType::f64}};
}

/// Ops of one arm, with their threads.
class ArmOps {
 public:
  explicit ArmOps(const Arm& arm) : pool_(arm.threads) {
    RouteTable routes;
    routes.route.fill(arm.route);
    ops_ = make_cpu_ops({.routes = routes, .isa = arm.isa, .pool = pool_});
  }
  Ops* operator->() const { return ops_.get(); }

 private:
  ThreadPool pool_;
  std::unique_ptr<Ops> ops_;
};

/// Rows of one sequence at positions first...
inline std::vector<RowId> rows_from(int first, std::int64_t n) {
  std::vector<RowId> rows;
  for (int i = 0; i < n; ++i) rows.push_back({0, first + i});
  return rows;
}

}  // namespace greta::test
