// RoPE in double.
#include "ops/cpu/math64.h"
#include "ops/float64/float64.h"
#include "ops/float64/rows.h"

namespace greta::float64 {

void rope(const CpuContext& context, const TensorView& x, const RopeParams& params, std::span<const std::int32_t> positions,
          const TensorView& out) {
  const std::vector<double> frequency = rope_frequencies(params);
  const std::size_t pairs = frequency.size();
  const std::size_t step = params.interleaved ? 2 : 1;
  const std::size_t other = params.interleaved ? 1 : pairs;
  context.pool.for_ranges(x.n_rows, (1 << 12) / x.n_cols, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      std::vector<double> row = load_row(x, r);
      const auto position = static_cast<double>(positions[static_cast<std::size_t>(r)]);
      for (std::size_t i = 0; i < pairs; ++i) {
        const SinCos turn = sincos64(position * frequency[i]);
        for (std::size_t h = 0; h < row.size(); h += static_cast<std::size_t>(params.head_dim)) {
          double& a = row[h + i * step];
          double& b = row[h + i * step + other];
          const double turned = a * turn.cos - b * turn.sin;
          b = b * turn.cos + a * turn.sin;
          a = turned;
        }
      }
      store_row(row, out, r);
    }
  });
}

}  // namespace greta::float64
