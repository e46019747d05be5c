// Looks for NaN and infinity in weights: they would be found much later, as NaN everywhere.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "model/gguf.h"

namespace greta {

/// Where the first non-finite value lies. Of block formats a scale or minimum is what can be
/// non-finite: `element` is the block's first.
struct NonFinite {
  const GgufTensor* tensor = nullptr;
  std::int64_t element = 0;  // flat, in the order of the file
  float value = 0;
  bool block_scale = false;
};

/// The first (by order of `tensors`, then element) NaN or infinity; nullopt where all are finite. Every tensor has a dtype.
/// Reads every byte once, on `threads` threads (0: one a processor); the answer does not depend on them.
std::optional<NonFinite> find_non_finite(std::span<const GgufTensor* const> tensors, int threads = 0);

/// Throws Error, one line with file, tensor, element and value, where find_non_finite finds something.
void refuse_non_finite(const Gguf& file, std::span<const GgufTensor* const> tensors, int threads = 0);

}  // namespace greta
