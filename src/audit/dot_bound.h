// Dot products and matrix products.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "audit/arithmetic.h"
#include "audit/estimate.h"

namespace greta::audit {

/// A sum of products in the declared order, with what its rounding error depends on.
template <class Real>
struct DotSum {
  Real value = 0;
  double squares = 0;          // of all partial sums, and of the products where they round on their own
  double term_squares = 0;     // of the products; only where operands are rounded
  std::int64_t roundings = 0;  // that `squares` counts
  std::int64_t alike = 0;      // of them, those that probably rounded as the one before them did: rounds_alike()
};

/// Whether adding `term`, which made the sum `partial`, rounded as adding `before` did. What is rounded away depends on the
/// term modulo the sum's last digit: terms that differ by less than a few of these err alike (a prompt of one word repeated),
/// and so do small terms beside a large sum, which are lost one after the other (a massive activation, an attention sink).
/// Terms too small for all of them to matter are left out.
inline bool rounds_alike(double term, double before, double partial, double unit) {
  const double digit = unit * std::fabs(partial);
  return std::fabs(term - before) < 4 * digit && std::fabs(term) > 0x1p-9 * digit;
}

/// Adds the lanes of `sum` into sum[0]: lane i and lane i + lanes/2, then i + lanes/4, and so on. Returns the squares of the
/// new partial sums.
template <class Real>
double add_by_tree(Real* sum, std::size_t lanes) {
  double squares = 0;
  for (std::size_t width = lanes / 2; width > 0; width /= 2) {
    for (std::size_t i = 0; i < width; ++i) {
      sum[i] += sum[i + width];
      const auto partial = static_cast<double>(sum[i]);
      squares += partial * partial;
    }
  }
  return squares;
}

/// sum_i x[i] * w[i]. Real is double, or long double where the route itself computes in double.
template <class Real>
DotSum<Real> dot(std::span<const double> x, std::span<const double> w, const Arithmetic& arithmetic);

/// How far such a sum is off. Every partial sum s_k rounds by up to u |s_k|, independently: 6 u sqrt(sum s_k^2). By Cauchy and
/// Schwarz the worst case u sum |s_k| is at most u sqrt(N sum s_k^2), N roundings, which is the smaller one up to 36.
///
/// Roundings that are alike add as in the worst case: R of them by u sqrt(R sum s_k^2).
template <class Real>
Errors dot_errors(const DotSum<Real>& sum, const Arithmetic& arithmetic);
/// The same of its parts.
Errors sum_errors(double squares, std::int64_t roundings, std::int64_t alike, const Arithmetic& arithmetic);

/// Fills the n_in weights of output o, exactly as they dequantise.
using WeightRow = std::function<void(std::int64_t o, std::span<double> weights)>;

/// Counting the roundings that are alike costs more than all the rest of an estimate, is hardly ever needed and only ever
/// widens bounds: who first judges without them judges again where that finds something (judge_product).
enum class AlikeRoundings : std::uint8_t { counted, may_be_left_out };
/// Whether the second leaves anything out.
bool leaves_alike_out(const Arithmetic& arithmetic);

/// out[r][o] = sum_i x[r][i] * weight[o][i] (+ bias[o]), as `rows.size()` estimates of [n_out]. Rows of x: [n_in]; bias:
/// [n_out] or empty. Every weight row is asked for once; nothing is allocated for an output. All outputs read the same x, and
/// weights of few digits give them like partial sums (rows of an F16 head were seen to be off by a common 1e-15 in double), so
/// that their roundings may be alike: all of `bound` is `common`.
std::vector<Estimate> matmul(std::span<const std::span<const double>> rows, std::int64_t n_out, const WeightRow& weight,
                             std::span<const double> bias, const Arithmetic& arithmetic,
                             AlikeRoundings alike = AlikeRoundings::counted);

/// Fills the n_in weights of output o and, for weight types that have them, the minimum of each sub-block, [n_in / sub].
using IntegerWeightRow = std::function<void(std::int64_t o, std::span<double> weights, std::span<double> minima)>;

/// The blocks of a weight type as integer products see them.
struct IntegerBlocks {
  int sub = 32;  // elements of a weight's sub-block: 32 or 16
  bool minima = false;
};
IntegerBlocks integer_blocks(DType dtype);
/// The minima of a row's sub-blocks, [cols / sub], as numbers that are added: weight = d * code + minimum. Zeros for types
/// without.
void block_minima(DType dtype, const std::byte* row, std::int64_t cols, std::span<double> minima);

/// The same product by integers (src/ops/q8/q8.h): one chain of sub-blocks, acc = fma(F32(d_w d_x), integer, acc) and, with
/// minima, acc = fma(m, F32(d_x X), acc). Rows of x are dequantised 8-bit blocks.
std::vector<Estimate> integer_matmul(std::span<const std::span<const double>> rows, std::int64_t n_out, IntegerBlocks blocks,
                                     const IntegerWeightRow& weight, std::span<const double> bias,
                                     const Arithmetic& arithmetic);

}  // namespace greta::audit
