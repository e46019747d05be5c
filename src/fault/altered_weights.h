// Copies of weight matrices whose bytes a fault has altered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "core/tensor.h"

namespace greta {

/// Made once a (fault, weight), and forgotten, the oldest first, beyond `kMostBytes`; one that is in use stays until its call
/// ends.
class AlteredWeights {
 public:
  static constexpr std::size_t kMostBytes = std::size_t{512} << 20;
  struct Copy {
    WeightView view;
    std::shared_ptr<const std::vector<std::byte>> bytes;
  };
  /// `alter` gets a copy of the bytes of `weight`, row after row.
  Copy get(std::size_t fault, const WeightView& weight, const std::function<void(std::vector<std::byte>&)>& alter);

 private:
  struct Entry {
    std::size_t fault = 0;
    const std::byte* source = nullptr;
    const char* source_name = nullptr;
    Copy copy;
  };
  std::list<Entry> entries_;
  std::size_t bytes_ = 0;
};

}  // namespace greta
