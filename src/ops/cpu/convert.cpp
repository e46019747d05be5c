#include "ops/cpu/convert.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "core/activation_blocks.h"
#include "core/blocks.h"
#include "core/quantize.h"
#include "core/error.h"
#include "core/half.h"
#include "ops/cpu/lanes_common.h"

namespace greta {
namespace {

template <class T>
void store_as(std::byte* p, T value) {
  std::memcpy(p, &value, sizeof value);
}

/// One block of 32 values.
template <class From>
void store_q8_0(const std::byte* in, std::byte* out) {
  float values[kQuantBlock];
  bool finite = true;
  for (std::int64_t i = 0; i < kQuantBlock; ++i) {
    values[i] = static_cast<float>(load_as<From>(in + i * static_cast<std::int64_t>(sizeof(From))));
    finite = finite && std::isfinite(values[i]);
  }
  if (finite) return quantize_row(DType::q8_0, values, kQuantBlock, out);
  BlockQ8_0 block{};
  block.d = 0x7e00;  // NaN
  store_as(out, block);
}

template <class From>
void convert(const std::byte* in, std::int64_t n, DType to, std::byte* out) {
  constexpr std::int64_t kIn = sizeof(From);
  switch (to) {
    case DType::f64:
      for (std::int64_t i = 0; i < n; ++i) store_as(out + i * 8, static_cast<double>(load_as<From>(in + i * kIn)));
      return;
    case DType::f32:
      for (std::int64_t i = 0; i < n; ++i) store_as(out + i * 4, static_cast<float>(load_as<From>(in + i * kIn)));
      return;
    case DType::f16:
      for (std::int64_t i = 0; i < n; ++i) store_as(out + i * 2, f64_to_f16(static_cast<double>(load_as<From>(in + i * kIn))));
      return;
    case DType::bf16:
      for (std::int64_t i = 0; i < n; ++i) store_as(out + i * 2, f64_to_bf16(static_cast<double>(load_as<From>(in + i * kIn))));
      return;
    case DType::q8_0:
      for (std::int64_t i = 0; i < n; i += kQuantBlock) store_q8_0<From>(in + i * kIn, out + row_bytes(DType::q8_0, i));
      return;
    default:
      fail("conversion to {}: only f64, f32, f16, bf16 and q8_0 are stored", name(to));
  }
}

}  // namespace

namespace {

/// The float from which one more rounding to at most 22 bits gives what one rounding of `value` would have given.
float round_to_odd(double value) {
  auto nearest = static_cast<float>(value);
  const double back = static_cast<double>(nearest);
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  // Round to odd: an inexact float gets its last bit set, so that the second rounding sees on which side of a tie the value
  // lies (Boldo & Melquiond 2008). 24 bits are enough more than 11 or 8 for that. Infinities and NaN stay.
  if (back != value && !std::isnan(value) && !std::isinf(nearest) && (bits & 1u) == 0) {
    bits += std::fabs(back) < std::fabs(value) ? 1u : ~0u;
    nearest = std::bit_cast<float>(bits);
  }
  return nearest;
}

}  // namespace

std::uint16_t f64_to_f16(double value) { return f32_to_f16(round_to_odd(value)); }
std::uint16_t f64_to_bf16(double value) { return f32_to_bf16(round_to_odd(value)); }

void convert_row(DType from, const std::byte* in, std::int64_t n, DType to, std::byte* out) {
  switch (from) {
    case DType::f64:
      return convert<double>(in, n, to, out);
    case DType::f32:
      return convert<float>(in, n, to, out);
    default:
      fail("conversion from {}: activations are f64 or f32", name(from));
  }
}

void widen_row(DType from, const std::byte* in, std::int64_t n, double* out) {
  switch (from) {
    case DType::f64:
      std::memcpy(out, in, static_cast<std::size_t>(n) * sizeof(double));
      return;
    case DType::f32:
      for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<double>(load_as<float>(in + i * 4));
      return;
    case DType::f16:
      for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<double>(f16_to_f32(load_u16(in + i * 2)));
      return;
    case DType::bf16:
      for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<double>(bf16_to_f32(load_u16(in + i * 2)));
      return;
    case DType::q8_f32:
      return dequantize_activations(in, n, out);
    case DType::q8_0:
      for (std::int64_t i = 0; i < n; i += kQuantBlock) {
        float values[kQuantBlock];
        dequantize_row(from, in + row_bytes(from, i), kQuantBlock, values);
        for (std::int64_t j = 0; j < kQuantBlock; ++j) out[i + j] = static_cast<double>(values[j]);
      }
      return;
    default:
      fail("widening of {}: activations and KV are f64, f32, f16, bf16, q8_f32 or q8_0", name(from));
  }
}

}  // namespace greta
