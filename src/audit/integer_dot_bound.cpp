// Integer matrix products: dots of codes are exact, so only the scales' products and one chain of sums round.
#include <cmath>

#include "audit/dot_bound.h"
#include "audit/wider_vectors.h"
#include "core/blocks.h"
#include "core/half.h"

namespace greta::audit {
namespace {

template <class Block>
const Block& block_at(const std::byte* row, std::size_t i) {
  return reinterpret_cast<const Block*>(row)[i];
}

double half(std::uint16_t bits) { return static_cast<double>(f16_to_f32(bits)); }

template <class Block>
void minima_of_32(const std::byte* row, std::span<double> minima) {
  for (std::size_t s = 0; s < minima.size(); ++s) minima[s] = half(block_at<Block>(row, s).m);
}

template <class Block>
void minima_of_6_bits(const std::byte* row, std::span<double> minima) {
  for (std::size_t s = 0; s < minima.size(); ++s) {
    const Block& block = block_at<Block>(row, s / 8);
    minima[s] = -half(block.dmin) * k_scales_minima(block.scales)[8 + s % 8];
  }
}

/// A row of x, and what a sub-block of it sums to.
struct Input {
  std::span<const double> x;
  std::vector<double> sums;
};

/// Room for the sub-blocks of one output.
struct Dots {
  std::vector<double> dot, squares;  // of the products

  explicit Dots(std::size_t blocks) : dot(blocks), squares(blocks) {}
};

/// Dots of n / width sub-blocks, width a multiple of 8. Their order is free: products of codes and scales are exact in double.
GRETA_WIDER_VECTORS void block_dots(const double* x, const double* w, std::size_t n, std::size_t width, double* dots,
                                    double* dot_squares) {
  constexpr std::size_t kLanes = 8;
  for (std::size_t first = 0; first < n; first += width) {
    double sum[kLanes] = {}, squares[kLanes] = {};
    for (std::size_t i = first; i < first + width; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const double term = x[i + lane] * w[i + lane];
        sum[lane] += term;
        squares[lane] += term * term;
      }
    }
    double dot = 0, square = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      dot += sum[lane];
      square += squares[lane];
    }
    *dots++ = dot;
    *dot_squares++ = square;
  }
}

/// One output: weights, and minima or none.
void chain(const Input& input, std::span<const double> weights, std::span<const double> minima, std::size_t width, double bias,
           bool has_bias, const Arithmetic& arithmetic, Dots& dots, Estimate& out, std::size_t o) {
  const double u = arithmetic.unit();
  double acc = 0, squares = 0, weight_squares = 0;
  std::int64_t roundings = 0, alike = 0;
  double before = 0;
  const auto step = [&](double term) {
    acc += term;
    squares += acc * acc + term * term;  // the sum's rounding and that of the scales' product
    roundings += 2;
    alike += 2 * static_cast<std::int64_t>(rounds_alike(term, before, acc, u));
    before = term;
  };
  block_dots(input.x.data(), weights.data(), input.sums.size() * width, width, dots.dot.data(), dots.squares.data());
  for (std::size_t s = 0; s < input.sums.size(); ++s) {
    const double dot = dots.dot[s];
    weight_squares += dots.squares[s];
    if (minima.empty()) {
      step(dot);
    } else {
      const double minimum = minima[s] * input.sums[s];
      step(dot - minimum);
      step(minimum);
    }
  }
  Errors errors = sum_errors(squares, roundings, alike, arithmetic);
  if (!minima.empty()) {  // the contract's weights are d * code + m rounded to F32, these are not
    const double size = 0x1p-24 * std::sqrt(weight_squares), every = std::sqrt(static_cast<double>(weights.size()));
    errors.bound += std::fmin(6.0, every) * size;
    errors.worst += every * size;
  }
  if (has_bias) {
    acc += bias;
    errors.bound += u * std::fabs(acc);
    errors.worst += u * std::fabs(acc);
  }
  put(out, o, acc, errors, arithmetic);
}

}  // namespace

IntegerBlocks integer_blocks(DType dtype) {
  switch (dtype) {
    case DType::q4_1:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k:
      return {32, true};
    case DType::q2_k:
      return {16, true};
    case DType::q3_k:
    case DType::q6_k:
      return {16, false};
    default:
      return {32, false};
  }
}

void block_minima(DType dtype, const std::byte* row, std::int64_t cols, std::span<double> minima) {
  minima = minima.first(static_cast<std::size_t>(cols / integer_blocks(dtype).sub));
  switch (dtype) {
    case DType::q4_1:
      return minima_of_32<BlockQ4_1>(row, minima);
    case DType::q5_1:
      return minima_of_32<BlockQ5_1>(row, minima);
    case DType::q4_k:
      return minima_of_6_bits<BlockQ4_K>(row, minima);
    case DType::q5_k:
      return minima_of_6_bits<BlockQ5_K>(row, minima);
    case DType::q2_k:
      for (std::size_t s = 0; s < minima.size(); ++s) {
        const auto& block = block_at<BlockQ2_K>(row, s / 16);
        minima[s] = -half(block.dmin) * (block.scales[s % 16] >> 4);
      }
      return;
    default:
      for (double& minimum : minima) minimum = 0;
  }
}

std::vector<Estimate> integer_matmul(std::span<const std::span<const double>> rows, std::int64_t n_out, IntegerBlocks blocks,
                                     const IntegerWeightRow& weight, std::span<const double> bias,
                                     const Arithmetic& arithmetic) {
  std::vector<Estimate> out(rows.size(), Estimate(static_cast<std::size_t>(n_out)));
  if (rows.empty()) return out;
  const auto width = static_cast<std::size_t>(blocks.sub);
  std::vector<Input> inputs;
  for (const auto& row : rows) {
    Input input{row, std::vector<double>(row.size() / width)};
    for (std::size_t i = 0; i < input.sums.size() * width; ++i) input.sums[i / width] += row[i];
    inputs.push_back(std::move(input));
  }
  std::vector<double> weights(rows[0].size()), minima(blocks.minima ? rows[0].size() / width : 0);
  Dots dots(rows[0].size() / width);
  for (std::int64_t o = 0; o < n_out; ++o) {
    const auto at = static_cast<std::size_t>(o);
    weight(o, weights, minima);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      chain(inputs[r], weights, minima, width, bias.empty() ? 0.0 : bias[at], !bias.empty(), arithmetic, dots, out[r], at);
    }
  }
  for (Estimate& estimate : out) estimate.common = estimate.bound;
  return out;
}

}  // namespace greta::audit
