#include "audit/dot_tiles.h"

#include <algorithm>
#include <cstring>

#include "audit/wider_vectors.h"

namespace greta::audit {
namespace {

constexpr std::size_t kChunk = 512;  // elements: those of four rows of weights stay in the nearest cache while rows of x pass
typedef double Eight __attribute__((vector_size(64)));

}  // namespace

DotTiles::DotTiles(std::span<const std::span<const double>> rows) : rows_(rows), chains_(rows.size() * kOutputs) {}

/// n is a multiple of 16.
GRETA_WIDER_VECTORS void DotTiles::run(const double* x, const double* weights, std::size_t stride, std::size_t n,
                                       Chains* chains) {
  Eight sum[kOutputs][2], squares[kOutputs][2];
  for (std::size_t o = 0; o < kOutputs; ++o) {
    std::memcpy(&sum[o], chains[o].sum, sizeof sum[o]);
    std::memcpy(&squares[o], chains[o].squares, sizeof squares[o]);
  }
  for (std::size_t i = 0; i < n; i += kLanes) {
    Eight left, right;
    std::memcpy(&left, x + i, sizeof left);
    std::memcpy(&right, x + i + kLanes / 2, sizeof right);
#pragma GCC unroll 4
    for (std::size_t o = 0; o < kOutputs; ++o) {
      Eight low, high;
      std::memcpy(&low, weights + o * stride + i, sizeof low);
      std::memcpy(&high, weights + o * stride + i + kLanes / 2, sizeof high);
      sum[o][0] += left * low;
      sum[o][1] += right * high;
      squares[o][0] += sum[o][0] * sum[o][0];
      squares[o][1] += sum[o][1] * sum[o][1];
    }
  }
  for (std::size_t o = 0; o < kOutputs; ++o) {
    std::memcpy(chains[o].sum, &sum[o], sizeof sum[o]);
    std::memcpy(chains[o].squares, &squares[o], sizeof squares[o]);
  }
}

void DotTiles::add(std::span<const double> weights) {
  std::fill(chains_.begin(), chains_.end(), Chains{});
  const std::size_t n = weights.size() / kOutputs, whole = n / kLanes * kLanes;
  for (std::size_t first = 0; first < whole; first += kChunk)
    for (std::size_t r = 0; r < rows_.size(); ++r)
      run(rows_[r].data() + first, weights.data() + first, n, std::min(kChunk, whole - first), &chains_[r * kOutputs]);
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    for (std::size_t o = 0; o < kOutputs; ++o) {
      Chains& chains = chains_[r * kOutputs + o];
      for (std::size_t i = whole; i < n; ++i) {
        double& sum = chains.sum[i - whole];
        sum += rows_[r][i] * weights[o * n + i];
        chains.squares[i - whole] += sum * sum;
      }
    }
  }
}

DotSum<double> DotTiles::sum(std::size_t r, std::size_t o) const {
  Chains chains = chains_[r * kOutputs + o];
  DotSum<double> out;
  for (const double squares : chains.squares) out.squares += squares;
  out.squares += add_by_tree(chains.sum, kLanes);
  out.value = chains.sum[0];
  out.roundings = static_cast<std::int64_t>(rows_[r].size() + kLanes - 1);
  return out;
}

}  // namespace greta::audit
