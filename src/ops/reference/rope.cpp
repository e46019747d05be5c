// RoPE: angles, sine and cosine in double (ours), rounded to F32; then (a cos - b sin, b cos + a sin), each product and sum
// rounded. No order to fix and nothing to fuse, so this is plain C++ on every instruction set.
#include <vector>

#include "ops/cpu/math64.h"
#include "ops/reference/reference.h"

namespace greta::reference {
namespace {

/// Turns one head of n_rot elements; elements after them are copied. cosine, sine: [n_rot/2].
void rotate_head(const float* x, const RopeParams& params, const float* cosine, const float* sine, float* out) {
  const int pairs = params.n_rot / 2;
  const int step = params.interleaved ? 2 : 1;
  const int other = params.interleaved ? 1 : pairs;
  for (int i = 0; i < pairs; ++i) {
    const float a = x[i * step];
    const float b = x[i * step + other];
    out[i * step] = a * cosine[i] - b * sine[i];
    out[i * step + other] = b * cosine[i] + a * sine[i];
  }
  for (int i = 2 * pairs; i < params.head_dim; ++i) out[i] = x[i];
}

}  // namespace

void rope(const CpuContext& context, const TensorView& x, const RopeParams& params, std::span<const std::int32_t> positions,
          const TensorView& out) {
  const std::vector<double> frequency = rope_frequencies(params);
  constexpr std::int64_t kGrain = 1 << 12;  // elements
  context.pool.for_ranges(x.n_rows, kGrain / x.n_cols, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> cosine(frequency.size());
    std::vector<float> sine(frequency.size());
    for (std::int64_t r = begin; r < end; ++r) {
      const auto position = static_cast<double>(positions[static_cast<std::size_t>(r)]);
      for (std::size_t i = 0; i < frequency.size(); ++i) {
        const SinCos turn = sincos64(position * frequency[i]);
        cosine[i] = static_cast<float>(turn.cos);
        sine[i] = static_cast<float>(turn.sin);
      }
      for (std::int64_t h = 0; h < x.n_cols; h += params.head_dim) {
        rotate_head(x.row_as<const float>(r) + h, params, cosine.data(), sine.data(), out.row_as<float>(r) + h);
      }
    }
  });
}

}  // namespace greta::reference
