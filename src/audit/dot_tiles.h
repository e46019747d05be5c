// Sums of products of many rows with a few rows of weights, in 16 chains: what a whole model's matrices are judged by.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "audit/dot_bound.h"

namespace greta::audit {

/// Value and squares as dot<double>() gives them, bit for bit, in 16 fused lanes with operands that are not rounded; roundings
/// that are alike are not counted (0), which costs more than all the rest.
class DotTiles {
 public:
  static constexpr std::size_t kOutputs = 4;  // that share the loads of a row of x

  /// `rows`: of x, [n] each; they outlive this.
  explicit DotTiles(std::span<const std::span<const double>> rows);
  /// `weights`: [kOutputs][n].
  void add(std::span<const double> weights);
  /// Of row r and output o of the last add().
  DotSum<double> sum(std::size_t r, std::size_t o) const;

 private:
  static constexpr std::size_t kLanes = 16;
  struct Chains {
    double sum[kLanes];
    double squares[kLanes];
  };
  static void run(const double* x, const double* weights, std::size_t stride, std::size_t n, Chains* chains);

  std::span<const std::span<const double>> rows_;
  std::vector<Chains> chains_;  // [rows][kOutputs]
};

}  // namespace greta::audit
