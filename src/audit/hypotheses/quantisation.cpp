// Hypotheses about activations in 8-bit blocks (core/activation_blocks.h): the inverse of their scale in few bits.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "audit/hypothesis.h"
#include "core/activation_blocks.h"

namespace greta::audit {
namespace {

/// 1 / d in `bits` significant bits; infinite beyond binary16's largest number.
double short_inverse(float d, int bits) {
  int exponent = 0;
  const double fraction = std::frexp(1.0 / static_cast<double>(d), &exponent);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(fraction, bits)), exponent - bits);
  constexpr double kLargestHalf = 65504;
  return rounded > kLargestHalf ? std::numeric_limits<double>::infinity() : rounded;
}

/// The row in blocks whose codes are x times such an inverse.
std::vector<double> with_short_inverse(const std::vector<double>& x, int bits) {
  constexpr auto kBlock = static_cast<std::size_t>(kActivationBlock);
  std::vector<double> out(x.size());
  for (std::size_t first = 0; first + kBlock <= x.size(); first += kBlock) {
    double largest = 0;
    for (std::size_t i = first; i < first + kBlock; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float d = static_cast<float>(largest) / 127.0f;
    if (!(d > 0)) continue;
    const double inverse = short_inverse(d, bits);
    for (std::size_t i = first; i < first + kBlock; ++i)
      out[i] = x[i] == 0 ? 0 : std::clamp(std::nearbyint(x[i] * inverse), -127.0, 127.0) * static_cast<double>(d);
  }
  return out;
}

void propose_inverse(const Scene& scene, const Emit& emit) {
  if (scene.right.op.op != OpClass::quantize || scene.right.stored != DType::q8_f32) return;
  const auto with = [&](int bits) {
    emit({"inverse-scale",
          {{"bits", std::to_string(bits)}},
          scene.right,
          [values = with_short_inverse(scene.right.inputs[0], bits)](Estimate& estimate) { estimate.value = values; },
          false});
  };
  with(11);  // binary16
  with(8);   // bfloat16
  for (int bits = 1; bits < 16; ++bits)
    if (bits != 11 && bits != 8) with(bits);
}

constexpr std::array kQuantisation{
    Hypothesis{"inverse-scale", "codes are made with the inverse of their block's scale in few bits", propose_inverse}};

}  // namespace

std::span<const Hypothesis> quantisation_hypotheses() { return kQuantisation; }

}  // namespace greta::audit
