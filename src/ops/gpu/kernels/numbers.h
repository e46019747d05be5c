// Plain numbers as they lie in memory: binary16, bfloat16 and F32, to floats and back as core/half.h converts, and 16 bytes at
// a time.
#pragma once

#include "core/activation_blocks.h"
#include "core/half.h"
#include "ops/gpu/kernels/lane_math.h"

namespace greta::gpu::GRETA_GPU_TARGET {

/// Exact; the hardware's conversion, whose numbers are those of core/half.h (a NaN is some quiet NaN).
GRETA_DEVICE float half_to_float(std::uint16_t h) {
#if defined(__CUDACC__)
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
#elif defined(__HIP__)
  return static_cast<float>(__builtin_bit_cast(_Float16, h));
#else
  return f16_to_f32(h);
#endif
}
/// Ties to even, overflow to infinity; a NaN has the bits that core/half.h gives it.
GRETA_DEVICE std::uint16_t float_to_half(float f) {
#if defined(GRETA_GPU_EMULATED)
  return f32_to_f16(f);
#else
  if (f != f) return static_cast<std::uint16_t>(((bits_of(f) >> 16) & 0x8000u) | 0x7e00u);
#if defined(__CUDACC__)
  std::uint16_t h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
#else
  return __builtin_bit_cast(std::uint16_t, static_cast<_Float16>(f));
#endif
#endif
}
GRETA_DEVICE float bfloat_to_float(std::uint16_t b) { return float_of(static_cast<std::uint32_t>(b) << 16); }
GRETA_DEVICE std::uint16_t float_to_bfloat(float f) {
  const std::uint32_t bits = bits_of(f);
  if (f != f) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// The number that a binary16 can hold nearest to x: sums of fault f16_accumulation.
GRETA_DEVICE float through_half(float x) { return half_to_float(float_to_half(x)); }

/// Element i of a row of f32, f16 or bf16.
GRETA_DEVICE float load_number(DType dtype, const std::byte* row, std::int64_t i) {
  if (dtype == DType::f32) return reinterpret_cast<const float*>(row)[i];
  const std::uint16_t word = reinterpret_cast<const std::uint16_t*>(row)[i];
  return dtype == DType::f16 ? half_to_float(word) : bfloat_to_float(word);
}
GRETA_DEVICE void store_number(DType dtype, std::byte* row, std::int64_t i, float value) {
  if (dtype == DType::f32) {
    reinterpret_cast<float*>(row)[i] = value;
  } else {
    reinterpret_cast<std::uint16_t*>(row)[i] = dtype == DType::f16 ? float_to_half(value) : float_to_bfloat(value);
  }
}

/// Element i of a row of activations: plain numbers, or q8_f32 (code times scale, rounded once).
GRETA_DEVICE float load_activation(DType dtype, const std::byte* row, std::int64_t i) {
  if (dtype != DType::q8_f32) return load_number(dtype, row, i);
  const BlockQ8F32& block = reinterpret_cast<const BlockQ8F32*>(row)[i / kActivationBlock];
  return static_cast<float>(block.q[i % kActivationBlock]) * block.d;
}

/// 16 bytes, loaded and stored at once; from addresses that are multiples of 16.
struct alignas(16) Words {
  std::uint32_t w[4];
};
GRETA_DEVICE Words load_words(const void* from) { return *static_cast<const Words*>(from); }

/// Eight elements of f32, f16 or bf16 from `from`, a multiple of 16.
GRETA_DEVICE void load_eight(DType dtype, const std::byte* from, float (&out)[8]) {
  const Words first = load_words(from);
  if (dtype == DType::f32) {
    const Words second = load_words(from + 16);
    GRETA_UNROLL
    for (int i = 0; i < 4; ++i) {
      out[i] = float_of(first.w[i]);
      out[i + 4] = float_of(second.w[i]);
    }
    return;
  }
  GRETA_UNROLL
  for (int i = 0; i < 4; ++i) {
    const auto low = static_cast<std::uint16_t>(first.w[i] & 0xffffu);
    const auto high = static_cast<std::uint16_t>(first.w[i] >> 16);
    out[2 * i] = dtype == DType::f16 ? half_to_float(low) : bfloat_to_float(low);
    out[2 * i + 1] = dtype == DType::f16 ? half_to_float(high) : bfloat_to_float(high);
  }
}

/// Floats i .. i + 3 of a row of n, zeros beyond its end. Aligned: the row begins at a multiple of 16 bytes.
GRETA_DEVICE void load_four(const float* row, int i, int n, bool aligned, float (&out)[4]) {
  if (aligned && i + 4 <= n) {
    const Words words = load_words(row + i);
    GRETA_UNROLL
    for (int k = 0; k < 4; ++k) out[k] = float_of(words.w[k]);
  } else {
    GRETA_UNROLL
    for (int k = 0; k < 4; ++k) out[k] = i + k < n ? row[i + k] : 0.0f;
  }
}
GRETA_DEVICE void store_four(float* row, int i, int n, bool aligned, const float (&in)[4]) {
  if (aligned && i + 4 <= n) {
    Words words;
    GRETA_UNROLL
    for (int k = 0; k < 4; ++k) words.w[k] = bits_of(in[k]);
    *reinterpret_cast<Words*>(row + i) = words;
  } else {
    GRETA_UNROLL
    for (int k = 0; k < 4; ++k) {
      if (i + k < n) row[i + k] = in[k];
    }
  }
}

/// The largest of values[begin..end) in shared memory, and `least` where there is none larger; by a wave, the same in all
/// lanes.
GRETA_DEVICE std::int32_t largest_between(const std::int32_t* values, int begin, int end, std::int32_t least) {
  std::int32_t most = least;
  for (int i = begin + lane_id(); i < end; i += kWave) most = values[i] > most ? values[i] : most;
  GRETA_UNROLL
  for (int mask = kWave / 2; mask > 0; mask /= 2) {
    const std::int32_t other = shuffle_xor(most, mask);
    most = other > most ? other : most;
  }
  return most;
}

inline std::int64_t number_bytes(DType dtype) { return dtype == DType::f32 ? 4 : 2; }
/// Whether all of them are multiples of 16: of addresses and strides that are read 16 bytes at a time.
template <class... Values>
inline bool all_aligned(Values... values) {
  return ((reinterpret_cast<std::uintptr_t>(values) % 16 == 0) && ...);
}

GRETA_DEVICE int least(int a, int b) { return a < b ? a : b; }

}  // namespace greta::gpu::GRETA_GPU_TARGET
