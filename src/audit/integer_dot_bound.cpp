// Integer matrix products: dots of codes are exact, so only the scales' products and one chain of sums round.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

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

constexpr std::size_t kLanes = 8;    // rows of x that are computed together
constexpr std::size_t kOutputs = 4;  // outputs that share the loads of x
typedef double Eight __attribute__((vector_size(64)));
typedef long long EightInts __attribute__((vector_size(64)));

/// Up to 8 rows of x, their elements i side by side, and what their sub-blocks sum to. Rows that are not there are zeros.
struct Inputs {
  std::vector<double> x, sums;  // [n][kLanes], [n / width][kLanes]

  Inputs(std::span<const std::span<const double>> rows, std::size_t width)
      : x(rows[0].size() * kLanes), sums(rows[0].size() / width * kLanes) {
    for (std::size_t r = 0; r < rows.size(); ++r) {
      for (std::size_t i = 0; i < rows[r].size(); ++i) x[i * kLanes + r] = rows[r][i];
      for (std::size_t i = 0; i < rows[r].size() / width * width; ++i) sums[i / width * kLanes + r] += rows[r][i];
    }
  }
};

/// The chain of sums of one output, for 8 rows.
struct Chain {
  Eight acc = {}, squares = {}, before = {}, weight_squares = {};
  EightInts alike = {};
};

/// Weights [kOutputs][n], minima [kOutputs][n / width] (or none) of some outputs, and their chains.
struct Tile {
  std::vector<double> weights, minima;
  std::array<Chain, kOutputs> chains;
  std::size_t n, width;
  double unit;
};

[[gnu::always_inline]] inline void absolute(const Eight& x, Eight& out) {
  out = reinterpret_cast<Eight>(reinterpret_cast<EightInts>(x) & 0x7fffffffffffffffLL);
}

[[gnu::always_inline]] inline void step(Chain& chain, const Eight& term, double unit) {
  Eight size, distance, height;
  chain.acc += term;
  chain.squares += chain.acc * chain.acc + term * term;  // the sum's rounding and that of the scales' product
  absolute(chain.acc, size);
  absolute(term - chain.before, distance);
  absolute(term, height);
  const Eight digit = unit * size;                                          // as rounds_alike() has it
  chain.alike -= 2 * ((distance < 4 * digit) & (height > 0x1p-9 * digit));  // true is -1
  chain.before = term;
}

/// All sub-blocks of a tile's outputs, in order. Within a sub-block the order of products is free: those of codes and scales
/// are exact in double.
template <bool kMinima>
[[gnu::always_inline]] inline void chain_blocks(const Inputs& inputs, Tile& tile) {
  const std::size_t blocks = tile.n / tile.width;
  for (std::size_t s = 0; s < blocks; ++s) {
    Eight dot[kOutputs] = {}, squares[kOutputs] = {};
    for (std::size_t i = s * tile.width; i < (s + 1) * tile.width; ++i) {
      Eight x;
      std::memcpy(&x, &inputs.x[i * kLanes], sizeof x);
#pragma GCC unroll 4
      for (std::size_t o = 0; o < kOutputs; ++o) {
        const Eight term = x * tile.weights[o * tile.n + i];
        dot[o] += term;
        if constexpr (kMinima) squares[o] += term * term;
      }
    }
    for (std::size_t o = 0; o < kOutputs; ++o) {
      Chain& chain = tile.chains[o];
      if constexpr (kMinima) {
        Eight sums;
        std::memcpy(&sums, &inputs.sums[s * kLanes], sizeof sums);
        const Eight minimum = sums * tile.minima[o * blocks + s];
        chain.weight_squares += squares[o];
        step(chain, dot[o] - minimum, tile.unit);
        step(chain, minimum, tile.unit);
      } else {
        step(chain, dot[o], tile.unit);
      }
    }
  }
}
GRETA_WIDER_VECTORS void chains_without_minima(const Inputs& inputs, Tile& tile) { chain_blocks<false>(inputs, tile); }
GRETA_WIDER_VECTORS void chains_with_minima(const Inputs& inputs, Tile& tile) { chain_blocks<true>(inputs, tile); }

/// Output o of the row in a lane of the chain.
void put_lane(const Chain& chain, std::size_t lane, const Tile& tile, std::span<const double> bias,
              const Arithmetic& arithmetic, Estimate& out, std::size_t o) {
  const double u = arithmetic.unit();
  const auto roundings = static_cast<std::int64_t>((tile.minima.empty() ? 2 : 4) * (tile.n / tile.width));
  double acc = chain.acc[lane];
  Errors errors = sum_errors(chain.squares[lane], roundings, chain.alike[lane], arithmetic);
  if (!tile.minima.empty()) {  // the contract's weights are d * code + m rounded to F32, these are not
    const double size = 0x1p-24 * std::sqrt(chain.weight_squares[lane]), every = std::sqrt(static_cast<double>(tile.n));
    errors.bound += std::fmin(6.0, every) * size;
    errors.worst += every * size;
  }
  if (!bias.empty()) {
    acc += bias[o];
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
  std::vector<Inputs> inputs;
  for (std::size_t first = 0; first < rows.size(); first += kLanes)
    inputs.emplace_back(rows.subspan(first, std::min(kLanes, rows.size() - first)), width);
  const std::size_t n = rows[0].size(), n_minima = blocks.minima ? n / width : 0;
  Tile tile{std::vector<double>(kOutputs * n), std::vector<double>(kOutputs * n_minima), {}, n, width, arithmetic.unit()};
  const auto outputs = static_cast<std::size_t>(n_out);
  for (std::size_t first = 0; first < outputs; first += kOutputs) {
    const std::size_t count = std::min(kOutputs, outputs - first);
    for (std::size_t o = 0; o < count; ++o)
      weight(static_cast<std::int64_t>(first + o), std::span(tile.weights).subspan(o * n, n),
             std::span(tile.minima).subspan(o * n_minima, n_minima));
    for (std::size_t g = 0; g < inputs.size(); ++g) {
      tile.chains = {};
      blocks.minima ? chains_with_minima(inputs[g], tile) : chains_without_minima(inputs[g], tile);
      for (std::size_t o = 0; o < count; ++o)
        for (std::size_t r = g * kLanes; r < std::min(rows.size(), (g + 1) * kLanes); ++r)
          put_lane(tile.chains[o], r - g * kLanes, tile, bias, arithmetic, out[r], first + o);
    }
  }
  for (Estimate& estimate : out) estimate.common = estimate.bound;
  return out;
}

}  // namespace greta::audit
