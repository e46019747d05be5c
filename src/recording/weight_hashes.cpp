#include "recording/weight_hashes.h"

#include <xxhash.h>

namespace greta {

Hash128 WeightHashes::of(const WeightView& weight) {
  const std::lock_guard lock(mutex_);
  const auto [entry, is_new] = known_.try_emplace({weight.data, weight.size(), weight.name.data()});
  if (is_new) {
    const XXH128_hash_t hash = XXH3_128bits(weight.data, static_cast<std::size_t>(weight.size()));
    entry->second = {hash.low64, hash.high64};
  }
  return entry->second;
}

}  // namespace greta
