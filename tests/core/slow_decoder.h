// Every weight format decoded the slow way: one element at a time, from the format's description, with the bits of a code
// picked one by one out of the bytes of a block. Shares nothing with src/core but the names of the types.
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>

#include "core/dtype.h"

namespace greta::test {

/// One block, as bytes.
class SlowBlock {
 public:
  explicit SlowBlock(const unsigned char* bytes) : bytes_(bytes) {}

  /// Element `e` of the block.
  float element(DType dtype, int e) const {
    switch (dtype) {
      case DType::q8_0: {
        const int q = byte(2 + e);
        return product(half(0), q < 128 ? q : q - 256);
      }
      case DType::q4_0:
        return product(half(0), nibble32(2, e) - 8);
      case DType::q4_1:
        return rounded(half(0) * nibble32(4, e) + half(2));
      case DType::q5_0:
        return product(half(0), nibble32(6, e) + 16 * bit(2, e) - 16);
      case DType::q5_1:
        return rounded(half(0) * (nibble32(8, e) + 16 * bit(4, e)) + half(2));
      case DType::iq4_nl:
        return product(half(0), level(nibble32(2, e)));
      case DType::q2_k: {
        const int scale = byte(e / 16) % 16;
        const int minimum = byte(e / 16) / 16;
        return rounded(half(80) * scale * pair(16, e) - half(82) * minimum);
      }
      case DType::q3_k:
        return product(half(108) * scale_q3(e / 16), pair(32, e) + 4 * bit(e % 32, e / 32) - 4);
      case DType::q4_k:
        return rounded(half(0) * scale_k(e / 32) * nibble64(16, e) - half(2) * minimum_k(e / 32));
      case DType::q5_k: {
        const int code = nibble64(48, e) + 16 * bit(16 + e % 32, e / 32);
        return rounded(half(0) * scale_k(e / 32) * code - half(2) * minimum_k(e / 32));
      }
      case DType::q6_k: {
        const int signed_scale = byte(192 + e / 16) < 128 ? byte(192 + e / 16) : byte(192 + e / 16) - 256;
        const int h = e / 128;
        const int place = e % 128;                       // in the half
        const int low_byte = byte(64 * h + place % 64);  // places p and p + 64 share a byte
        const int low = place < 64 ? low_byte % 16 : low_byte / 16;
        const int column = 128 + 32 * h + place % 32;  // places p, p + 32, p + 64 and p + 96 share a byte
        const int high = bit(column, 2 * (place / 32)) + 2 * bit(column, 2 * (place / 32) + 1);
        return product(half(208) * signed_scale, low + 16 * high - 32);
      }
      case DType::iq4_xs: {
        const int s = e / 32;
        const int low = s % 2 == 0 ? byte(4 + s / 2) % 16 : byte(4 + s / 2) / 16;
        const int high = bit(2, 2 * s) + 2 * bit(2, 2 * s + 1);
        return product(half(0) * (low + 16 * high - 32), level(nibble32(8 + 16 * s, e % 32)));
      }
      default:
        throw std::logic_error("not a block type");
    }
  }

 private:
  int byte(int i) const { return bytes_[i]; }
  /// Bit `n` of the string of bits that begins at byte `at`, the lowest bit of a byte first.
  int bit(int at, int n) const { return (byte(at + n / 8) >> (n % 8)) % 2; }
  /// IEEE binary16 at byte `at`, by its definition.
  double half(int at) const {
    const int bits = byte(at) + 256 * byte(at + 1);
    const int exponent = bits / 1024 % 32;
    const int fraction = bits % 1024;
    const double sign = bits >= 32768 ? -1.0 : 1.0;
    if (exponent == 31) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
    return exponent == 0 ? sign * std::ldexp(fraction, -24) : sign * std::ldexp(1024 + fraction, exponent - 25);
  }
  /// Code e of 32 in 16 bytes: the low nibbles first, then the high ones.
  int nibble32(int at, int e) const { return e < 16 ? byte(at + e) % 16 : byte(at + e - 16) / 16; }
  /// Code e of 256 in 128 bytes: of each 64, the low nibbles of 32 bytes, then the high ones.
  int nibble64(int at, int e) const {
    const int b = byte(at + e / 64 * 32 + e % 32);
    return e % 64 < 32 ? b % 16 : b / 16;
  }
  /// 2-bit code e of 256 in 64 bytes: of each 128, bits 0-1 of 32 bytes, then bits 2-3, 4-5, 6-7.
  int pair(int at, int e) const {
    const int column = at + e / 128 * 32 + e % 32;
    const int place = e % 128 / 32;
    return bit(column, 2 * place) + 2 * bit(column, 2 * place + 1);
  }
  /// 6-bit scales and minima of Q4_K and Q5_K, in the 12 bytes from byte 4.
  int scale_k(int s) const { return s < 4 ? byte(4 + s) % 64 : byte(12 + s - 4) % 16 + 16 * (byte(4 + s - 4) / 64); }
  int minimum_k(int s) const { return s < 4 ? byte(8 + s) % 64 : byte(12 + s - 4) / 16 + 16 * (byte(8 + s - 4) / 64); }
  /// 6-bit scales of Q3_K, in the 12 bytes from byte 96: two nibbles each of the first 8 bytes, then pairs of bits.
  int scale_q3(int s) const {
    const int low = s < 8 ? byte(96 + s) % 16 : byte(96 + s - 8) / 16;
    const int high = byte(104 + s % 4);
    constexpr int kDivisor[]{1, 4, 16, 64};
    return low + 16 * (high / kDivisor[s / 4] % 4) - 32;
  }
  static int level(int code) {
    constexpr int kLevels[]{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    return kLevels[code];
  }
  /// Scale times code is exact in binary32; in double as well, so converting does not round.
  static float product(double scale, int code) { return rounded(scale * code); }
  static float rounded(double exact) { return static_cast<float>(exact); }

  const unsigned char* bytes_;
};

}  // namespace greta::test
