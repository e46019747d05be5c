// Attention as three ops, a head of a row at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "audit/arithmetic.h"
#include "audit/estimate.h"

namespace greta::audit {

/// Elements of K or V of key j, [head_dim], as the cache holds them. Valid until the next call.
using KeyRow = std::function<std::span<const double>(std::int64_t j)>;

/// What a head's scores are, besides q and K.
struct Scores {
  double scale = 1;
  double softcap = 0;          // above 0: capped after the scale
  std::int64_t first_key = 0;  // keys before it are -infinity
};

/// Scores of one query head, q: [head_dim], for keys 0..n_keys-1: [n_keys]. A dot product, a rounding of the product with the
/// scale and the scale's own (`common`), and the cap's.
Estimate qk(std::span<const double> q, std::int64_t n_keys, const KeyRow& key, const Scores& scores,
            const Arithmetic& arithmetic);

/// Softmax of one head's scores, [n_keys]: exp(s - max) / sum. The subtraction rounds by u |s - max|, which exp makes relative;
/// to that comes exp's own error. The sum's error, its terms' mean error and exp's are `common`. NaN, an infinite maximum and
/// scores that are all -infinity give NaN.
Estimate softmax(std::span<const double> scores, const Arithmetic& arithmetic);

/// The mixture of values of one head, [head_dim]: sum over keys of probs[j] * V[j], one chain an element over keys in ascending
/// order, whatever arithmetic.lanes. Keys whose probability is 0 add nothing and are not asked for where they lie before
/// `first_key`.
Estimate pv(std::span<const double> probs, std::int64_t head_dim, const KeyRow& value, std::int64_t first_key,
            const Arithmetic& arithmetic);

}  // namespace greta::audit
