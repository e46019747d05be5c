// Content hashes of weight tensors, computed once a tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <tuple>

#include "core/tensor.h"
#include "trace/record.h"

namespace greta {

/// Keyed by the places of the tensor's bytes and of its name (an altered copy has a name of its own, so that a later one at the
/// same address is not taken for it); shared by all arms of a run. Thread-safe.
class WeightHashes {
 public:
  /// XXH3-128 of the tensor's bytes as they lie in memory.
  Hash128 of(const WeightView& weight);

 private:
  std::mutex mutex_;
  std::map<std::tuple<const std::byte*, std::int64_t, const char*>, Hash128> known_;  // place, size, place of the name
};

}  // namespace greta
