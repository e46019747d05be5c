// Rotary position embedding.
#pragma once

#include <cstdint>
#include <span>

#include "audit/arithmetic.h"
#include "audit/estimate.h"

namespace greta::audit {

/// Pair i of a head turns by position / linear_scale * theta^(-2i/n_rot) / freq_factors[i] (Su et al. 2021, RoFormer, eq. 15).
struct Rotation {
  double theta = 10000;
  int head_dim = 0;
  int n_rot = 0;            // elements of a head that turn, from its start
  bool interleaved = true;  // pairs (2i, 2i+1); else (i, i + n_rot/2)
  double linear_scale = 1;
  std::span<const float> freq_factors;  // [n_rot/2], or empty
};

/// Heads of a row x, [n_heads * head_dim], turned by `position`. Each of a cos - b sin: sine and cosine off by their declared
/// error and the angle's, a rounding for each product and one for the sum. The angle's error is shared by the heads, and
/// neighbouring pairs may have the like: it is `common`. Elements that do not turn have to be equal.
Estimate rope(std::span<const double> x, const Rotation& rotation, std::int64_t position, const Arithmetic& arithmetic);

}  // namespace greta::audit
