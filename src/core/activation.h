// The activation functions of gated feed-forward halves.
#pragma once

#include <cstdint>
#include <string_view>

namespace greta {

/// silu(x) = x / (1 + exp(-x)) (Elfwing et al. 2017, arXiv:1702.03118). gelu_tanh: GELU's tanh form (Hendrycks & Gimpel 2016,
/// arXiv:1606.08415, section 2), x/2 * (1 + tanh(u)) = x / (1 + exp(-2u)) with u = sqrt(2/pi) * (x + 0.044715 x^3).
enum class Activation : std::uint8_t { silu, gelu_tanh };
inline std::string_view name(Activation activation) { return activation == Activation::silu ? "silu" : "gelu_tanh"; }

}  // namespace greta
