// The formats whose quantisation is a search: super-blocks, and the formats with uneven levels.
//
// 1. Each sub-block alone: many trial scales give codes; for given codes the best scale (and minimum) is a least-squares
//    solution. The trial with the least error wins.
// 2. The super-block's scale d (and dmin) is the largest of them over the largest integer.
// 3. Each sub-block's integers are tried with their neighbours, codes made anew for each, and the least error wins.
// Why square error without weights: it is what "RMSE" measures, and without a model's activations no element is known to matter
// more. Sums run in eight fixed chains, so that the answer does not depend on the compiler's vectors.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/half.h"
#include "core/quantize.h"

namespace greta {
namespace {

/// Sum of f(0..kCount-1).
template <int kCount, class F>
float sum_of(const F& f) {
  constexpr int kChains = 8;
  static_assert(kCount % kChains == 0);
  float chain[kChains] = {};
  for (int i = 0; i < kCount; i += kChains) {
    for (int j = 0; j < kChains; ++j) chain[j] += f(i + j);
  }
  return ((chain[0] + chain[4]) + (chain[2] + chain[6])) + ((chain[1] + chain[5]) + (chain[3] + chain[7]));
}

/// Nearest integer, ties to even, |y| < 2^22.
inline float nearest_integer(float y) { return (y + 12582912.0f) - 12582912.0f; }
inline float clamped(float y, float low, float high) { return std::min(std::max(y, low), high); }

/// Levels low..high, one apart.
struct EvenLevels {
  float low, high;
  float operator()(float y) const { return nearest_integer(clamped(y, low, high)); }
};

/// kIq4Values; ties go up.
struct Iq4Levels {
  float operator()(float y) const {
    float level = -127.0f;
    for (unsigned i = 0; i + 1 < kIq4Values.size(); ++i) {
      const auto below = static_cast<float>(kIq4Values[i]);
      const auto above = static_cast<float>(kIq4Values[i + 1]);
      level += y >= (below + above) * 0.5f ? above - below : 0.0f;
    }
    return level;
  }
};

float inverse_of(float scale) {
  const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
  return std::isfinite(inverse) ? inverse : 0.0f;
}

// --- scale alone: x ~ scale * level
// ---------------------------------------------------------------------------------------------

/// The best scale of kCount elements. A trial maps the element of largest magnitude to about the lowest or the highest level:
/// `low_end` and `high_end`, moved by -kTrials..kTrials times `step`.
template <int kCount, class Levels>
float fit_scale(const float* x, const Levels& levels, float low_end, float high_end, float step) {
  constexpr int kTrials = 8;
  float extreme = 0.0f;
  for (int i = 0; i < kCount; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  const float inverse_extreme = inverse_of(extreme);
  if (inverse_extreme == 0.0f) return 0.0f;
  float best_scale = 0.0f;
  float best_gain = 0.0f;  // of square error against all zeros
  for (const float end : {low_end, high_end}) {
    for (int trial = -kTrials; trial <= kTrials; ++trial) {
      const float inverse = (end + step * static_cast<float>(trial)) * inverse_extreme;
      float level[kCount];
      for (int i = 0; i < kCount; ++i) level[i] = levels(x[i] * inverse);
      const float xl = sum_of<kCount>([&](int i) { return x[i] * level[i]; });
      const float ll = sum_of<kCount>([&](int i) { return level[i] * level[i]; });
      if (ll > 0.0f && xl * (xl / ll) > best_gain) {
        best_gain = xl * (xl / ll);
        best_scale = xl / ll;
      }
    }
  }
  return best_scale;
}

template <int kCount, class Levels>
float scale_error(const float* x, const Levels& levels, float scale) {
  const float inverse = inverse_of(scale);
  return sum_of<kCount>([&](int i) {
    const float error = x[i] - scale * levels(x[i] * inverse);
    return error * error;
  });
}

/// Scales of the sub-blocks of a super-block: element = d * scale[s] * level.
template <int kSubs>
struct ScaleFit {
  std::uint16_t d = 0;  // binary16
  std::array<int, kSubs> scale{};
};

/// Integers are low..-low-1 (signed bits), the largest scale gets `low`.
template <int kSubs, class Levels>
ScaleFit<kSubs> fit_scales(const float* x, const Levels& levels, float low_end, float high_end, float step, int low) {
  constexpr int kCount = kSuperBlock / kSubs;
  std::array<float, kSubs> scales{};
  float extreme = 0.0f;
  for (unsigned s = 0; s < kSubs; ++s) {
    scales[s] = fit_scale<kCount>(x + s * kCount, levels, low_end, high_end, step);
    if (std::fabs(scales[s]) > std::fabs(extreme)) extreme = scales[s];
  }
  ScaleFit<kSubs> fit;
  fit.d = f32_to_f16(extreme / static_cast<float>(low));
  const float d = f16_to_f32(fit.d);
  if (!std::isfinite(d)) return fit;  // too large for binary16, for the caller to find
  const float inverse = inverse_of(d);
  for (unsigned s = 0; s < kSubs; ++s) {
    const int middle = static_cast<int>(
        nearest_integer(clamped(scales[s] * inverse, static_cast<float>(low), -1.0f - static_cast<float>(low))));
    float least = std::numeric_limits<float>::infinity();
    fit.scale[s] = middle;
    for (int trial = std::max(low, middle - 1); trial <= std::min(-low - 1, middle + 1); ++trial) {
      const float error = scale_error<kCount>(x + s * kCount, levels, d * static_cast<float>(trial));
      if (error < least) {
        least = error;
        fit.scale[s] = trial;
      }
    }
  }
  return fit;
}

// --- scale and minimum: x ~ scale * code - minimum, code 0..top, minimum >= 0
// ------------------------------------------------------

struct Affine {
  float scale = 0, minimum = 0;
};

/// The best for given codes; error is the square error.
struct AffineSolution {
  Affine fit;
  double error = std::numeric_limits<double>::infinity();
};

template <int kCount>
AffineSolution solve_affine(const float* x, const float* code) {
  const double sum_x = sum_of<kCount>([&](int i) { return x[i]; });
  const double sum_xx = sum_of<kCount>([&](int i) { return x[i] * x[i]; });
  const double sum_c = sum_of<kCount>([&](int i) { return code[i]; });
  const double sum_cc = sum_of<kCount>([&](int i) { return code[i] * code[i]; });
  const double sum_xc = sum_of<kCount>([&](int i) { return x[i] * code[i]; });
  const double determinant = kCount * sum_cc - sum_c * sum_c;
  if (determinant <= 0) return {};
  double scale = (kCount * sum_xc - sum_x * sum_c) / determinant;
  double offset = (sum_cc * sum_x - sum_c * sum_xc) / determinant;
  if (offset > 0) {  // minima cannot be negative
    offset = 0;
    scale = sum_xc / sum_cc;
  }
  AffineSolution out;
  out.fit = {static_cast<float>(scale), static_cast<float>(-offset)};
  out.error = sum_xx - 2 * scale * sum_xc - 2 * offset * sum_x + scale * scale * sum_cc + 2 * scale * offset * sum_c +
              kCount * offset * offset;
  return out;
}

template <int kCount>
Affine fit_affine(const float* x, float top) {
  constexpr int kTrials = 10;
  float low = 0.0f;
  float high = x[0];
  for (int i = 0; i < kCount; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  const float inverse_range = inverse_of(high - low);
  if (high <= low || inverse_range == 0.0f) return {0.0f, -low};
  AffineSolution best{{0.0f, -low}, std::numeric_limits<double>::infinity()};
  for (int trial = -kTrials; trial <= kTrials; ++trial) {
    const float inverse = (top + 0.1f * static_cast<float>(trial)) * inverse_range;
    float code[kCount];
    for (int i = 0; i < kCount; ++i) code[i] = nearest_integer(clamped((x[i] - low) * inverse, 0.0f, top));
    const AffineSolution solution = solve_affine<kCount>(x, code);
    if (solution.error < best.error) best = solution;
  }
  return best.fit;
}

/// Code of x under integers' scale and minimum, as `quantize` and the error below must agree on it.
inline float affine_code(float x, float inverse, float minimum, float top) {
  return nearest_integer(clamped((x + minimum) * inverse, 0.0f, top));
}

template <int kCount>
float affine_error(const float* x, Affine by, float top) {
  const float inverse = inverse_of(by.scale);
  return sum_of<kCount>([&](int i) {
    const float error = x[i] - (by.scale * affine_code(x[i], inverse, by.minimum, top) - by.minimum);
    return error * error;
  });
}

/// Element = d * scale[s] * code - dmin * minimum[s].
template <int kSubs>
struct AffineFit {
  std::uint16_t d = 0, dmin = 0;  // binary16
  std::array<int, kSubs> scale{}, minimum{};
  std::array<std::uint8_t, kSuperBlock> code{};
};

/// Integers are 0..largest.
template <int kSubs>
AffineFit<kSubs> fit_affines(const float* x, float top, int largest) {
  constexpr int kCount = kSuperBlock / kSubs;
  std::array<Affine, kSubs> subs;
  Affine most;
  for (unsigned s = 0; s < kSubs; ++s) {
    subs[s] = fit_affine<kCount>(x + s * kCount, top);
    most = {std::max(most.scale, subs[s].scale), std::max(most.minimum, subs[s].minimum)};
  }
  AffineFit<kSubs> fit;
  fit.d = f32_to_f16(most.scale / static_cast<float>(largest));
  fit.dmin = f32_to_f16(most.minimum / static_cast<float>(largest));
  const float d = f16_to_f32(fit.d);
  const float dmin = f16_to_f32(fit.dmin);
  if (!std::isfinite(d) || !std::isfinite(dmin)) return fit;  // too large for binary16, for the caller to find
  const auto integer = [&](float value, float unit) {
    return static_cast<int>(nearest_integer(clamped(value * inverse_of(unit), 0.0f, static_cast<float>(largest))));
  };
  for (unsigned s = 0; s < kSubs; ++s) {
    const float* part = x + s * kCount;
    const int scale = integer(subs[s].scale, d);
    const int minimum = integer(subs[s].minimum, dmin);
    float least = std::numeric_limits<float>::infinity();
    for (int i = std::max(0, scale - 1); i <= std::min(largest, scale + 1); ++i) {
      for (int j = std::max(0, minimum - 1); j <= std::min(largest, minimum + 1); ++j) {
        const float error = affine_error<kCount>(part, {d * static_cast<float>(i), dmin * static_cast<float>(j)}, top);
        if (error < least || (i == 0 && j == 0)) {
          least = error;
          fit.scale[s] = i;
          fit.minimum[s] = j;
        }
      }
    }
    const float by = d * static_cast<float>(fit.scale[s]);
    const float offset = dmin * static_cast<float>(fit.minimum[s]);
    for (unsigned i = 0; i < kCount; ++i) {
      fit.code[s * kCount + i] = static_cast<std::uint8_t>(affine_code(part[i], inverse_of(by), offset, top));
    }
  }
  return fit;
}

// --- packing (core/blocks.h says where the bits go)
// ----------------------------------------------------------------------------------

/// The reverse of k_scales_minima.
void pack_k_scales(const std::array<int, 8>& scale, const std::array<int, 8>& minimum, std::uint8_t (&packed)[12]) {
  for (unsigned i = 0; i < 4; ++i) {
    packed[i] = static_cast<std::uint8_t>(scale[i] | ((scale[i + 4] >> 4) << 6));
    packed[4 + i] = static_cast<std::uint8_t>(minimum[i] | ((minimum[i + 4] >> 4) << 6));
    packed[8 + i] = static_cast<std::uint8_t>((scale[i + 4] & 15) | ((minimum[i + 4] & 15) << 4));
  }
}

/// Low nibbles of 256 codes, as Q4_K and Q5_K hold them.
void pack_k_nibbles(const std::array<std::uint8_t, kSuperBlock>& code, std::uint8_t (&q)[128]) {
  for (unsigned i = 0; i < 128; ++i) {
    const unsigned e = i / 32 * 64 + i % 32;
    q[i] = static_cast<std::uint8_t>((code[e] & 15) | ((code[e + 32] & 15) << 4));
  }
}

/// Two bits of 256 codes, as Q2_K and Q3_K hold them.
void pack_pairs(const std::array<std::uint8_t, kSuperBlock>& code, std::uint8_t (&q)[64]) {
  for (unsigned i = 0; i < 64; ++i) {
    const unsigned e = i / 32 * 128 + i % 32;
    q[i] = static_cast<std::uint8_t>((code[e] & 3) | ((code[e + 32] & 3) << 2) | ((code[e + 64] & 3) << 4) |
                                     ((code[e + 96] & 3) << 6));
  }
}

/// Bit `bit` of 256 codes in planes of 32 bytes, as Q3_K and Q5_K hold it.
void pack_plane(const std::array<std::uint8_t, kSuperBlock>& code, int bit, std::uint8_t (&high)[32]) {
  for (unsigned i = 0; i < 32; ++i) {
    unsigned byte = 0;
    for (unsigned n = 0; n < 8; ++n) byte |= ((code[32 * n + i] >> bit) & 1u) << n;
    high[i] = static_cast<std::uint8_t>(byte);
  }
}

/// Levels of a super-block under its fitted scales, plus `bias`: codes.
template <int kSubs, class Levels>
std::array<std::uint8_t, kSuperBlock> codes_of(const float* x, const ScaleFit<kSubs>& fit, const Levels& levels, int bias) {
  std::array<std::uint8_t, kSuperBlock> code{};
  for (unsigned e = 0; e < kSuperBlock; ++e) {
    const float scale = f16_to_f32(fit.d) * static_cast<float>(fit.scale[e / (kSuperBlock / kSubs)]);
    code[e] = static_cast<std::uint8_t>(static_cast<int>(levels(x[e] * inverse_of(scale))) + bias);
  }
  return code;
}

unsigned iq4_code(float level) {
  return static_cast<unsigned>(std::find(kIq4Values.begin(), kIq4Values.end(), static_cast<std::int8_t>(level)) -
                               kIq4Values.begin());
}

/// 32 codes of the IQ4 formats under one scale.
void put_iq4(const float* x, float scale, std::uint8_t* q) {
  const Iq4Levels levels;
  const float inverse = inverse_of(scale);
  for (unsigned i = 0; i < 16; ++i) {
    q[i] = static_cast<std::uint8_t>(iq4_code(levels(x[i] * inverse)) | (iq4_code(levels(x[i + 16] * inverse)) << 4));
  }
}

constexpr float kIq4Low = -127.0f, kIq4High = 113.0f, kIq4Step = 2.0f;

}  // namespace

void quantize_block(const float* x, BlockIQ4_NL& block) {
  block.d = f32_to_f16(fit_scale<32>(x, Iq4Levels(), kIq4Low, kIq4High, kIq4Step));
  put_iq4(x, f16_to_f32(block.d), block.q);
}

void quantize_block(const float* x, BlockIQ4_XS& block) {
  const auto fit = fit_scales<8>(x, Iq4Levels(), kIq4Low, kIq4High, kIq4Step, -32);
  block = {};
  block.d = fit.d;
  for (unsigned s = 0; s < 8; ++s) {
    const auto stored = static_cast<unsigned>(fit.scale[s] + 32);
    block.scales_low[s / 2] = static_cast<std::uint8_t>(block.scales_low[s / 2] | ((stored & 15u) << (4 * (s % 2))));
    block.scales_high = static_cast<std::uint16_t>(block.scales_high | ((stored >> 4) << (2 * s)));
    put_iq4(x + 32 * s, f16_to_f32(fit.d) * static_cast<float>(fit.scale[s]), block.q + 16 * s);
  }
}

void quantize_block(const float* x, BlockQ2_K& block) {
  const auto fit = fit_affines<16>(x, 3.0f, 15);
  block.d = fit.d;
  block.dmin = fit.dmin;
  for (unsigned s = 0; s < 16; ++s) block.scales[s] = static_cast<std::uint8_t>(fit.scale[s] | (fit.minimum[s] << 4));
  pack_pairs(fit.code, block.q);
}

void quantize_block(const float* x, BlockQ3_K& block) {
  const EvenLevels levels{-4.0f, 3.0f};
  const auto fit = fit_scales<16>(x, levels, -4.0f, 3.0f, 0.1f, -32);
  block = {};
  block.d = fit.d;
  for (unsigned s = 0; s < 16; ++s) {
    const auto stored = static_cast<unsigned>(fit.scale[s] + 32);
    block.scales[s % 8] = static_cast<std::uint8_t>(block.scales[s % 8] | ((stored & 15u) << (s < 8 ? 0 : 4)));
    block.scales[8 + s % 4] = static_cast<std::uint8_t>(block.scales[8 + s % 4] | ((stored >> 4) << (2 * (s / 4))));
  }
  const auto code = codes_of(x, fit, levels, 4);
  pack_pairs(code, block.q);
  pack_plane(code, 2, block.high);
}

void quantize_block(const float* x, BlockQ4_K& block) {
  const auto fit = fit_affines<8>(x, 15.0f, 63);
  block.d = fit.d;
  block.dmin = fit.dmin;
  pack_k_scales(fit.scale, fit.minimum, block.scales);
  pack_k_nibbles(fit.code, block.q);
}

void quantize_block(const float* x, BlockQ5_K& block) {
  const auto fit = fit_affines<8>(x, 31.0f, 63);
  block.d = fit.d;
  block.dmin = fit.dmin;
  pack_k_scales(fit.scale, fit.minimum, block.scales);
  pack_k_nibbles(fit.code, block.q);
  pack_plane(fit.code, 4, block.high);
}

void quantize_block(const float* x, BlockQ6_K& block) {
  const EvenLevels levels{-32.0f, 31.0f};
  const auto fit = fit_scales<16>(x, levels, -32.0f, 31.0f, 0.1f, -128);
  block.d = fit.d;
  for (unsigned s = 0; s < 16; ++s) block.scales[s] = static_cast<std::int8_t>(fit.scale[s]);
  const auto code = codes_of(x, fit, levels, 32);
  for (unsigned i = 0; i < 128; ++i) {  // low nibbles of places r and r + 64
    const unsigned e = i / 64 * 128 + i % 64;
    block.low[i] = static_cast<std::uint8_t>((code[e] & 15) | ((code[e + 64] & 15) << 4));
  }
  for (unsigned i = 0; i < 64; ++i) {  // high pairs of places r, r + 32, r + 64 and r + 96
    const unsigned e = i / 32 * 128 + i % 32;
    block.high[i] = static_cast<std::uint8_t>((code[e] >> 4) | ((code[e + 32] >> 4) << 2) | ((code[e + 64] >> 4) << 4) |
                                              ((code[e + 96] >> 4) << 6));
  }
}

}  // namespace greta
