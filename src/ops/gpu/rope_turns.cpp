#include "ops/gpu/rope_turns.h"

#include "ops/cpu/math64.h"

namespace greta::gpu {

std::vector<float> rope_turns(const RopeParams& params, std::span<const std::int32_t> positions) {
  const std::vector<double> frequency = rope_frequencies(params);
  std::vector<float> turns;
  turns.reserve(positions.size() * frequency.size() * 2);
  for (const std::int32_t position : positions) {
    for (const double per_position : frequency) {
      const SinCos turn = sincos64(static_cast<double>(position) * per_position);
      turns.push_back(static_cast<float>(turn.cos));
      turns.push_back(static_cast<float>(turn.sin));
    }
  }
  return turns;
}

}  // namespace greta::gpu
