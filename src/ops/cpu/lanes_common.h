// What the lane types of every target share.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/dtype.h"
#include "core/half.h"

namespace greta {

/// Virtual lanes of the reference route: partial sums of a dot product, whatever the vector width.
inline constexpr int kLanes = 16;

/// ln 2 in two floats: their sum is good to 2^-53.
inline constexpr float kLn2High = 0x1.62e43p-1f;
inline constexpr float kLn2Low = -0x1.05c61p-29f;

/// Elements of a block of the smaller formats.
inline constexpr std::int64_t kQuantBlock = 32;

template <DType kType>
inline constexpr bool kIsSuperBlock = kType == DType::q2_k || kType == DType::q3_k || kType == DType::q4_k ||
                                      kType == DType::q5_k || kType == DType::q6_k || kType == DType::iq4_xs;
template <DType kType>
inline constexpr bool kIsBlockOf32 = kType >= DType::q8_0 && !kIsSuperBlock<kType>;

template <class T>
inline T load_as(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
inline std::uint16_t load_u16(const std::byte* p) { return load_as<std::uint16_t>(p); }

}  // namespace greta
