#include "fault/altered_weights.h"

#include <algorithm>
#include <atomic>

namespace greta {
namespace {
std::atomic<std::uint64_t> copies{0};  // numbers copies, so that none is taken for another at the same address
}

AlteredWeights::Copy AlteredWeights::get(std::size_t fault, const WeightView& weight,
                                         const std::function<void(std::vector<std::byte>&)>& alter) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.fault == fault && entry.source == weight.data && entry.source_copy == weight.copy;
  });
  if (found != entries_.end()) return found->copy;
  auto bytes = std::make_shared<std::vector<std::byte>>(weight.data, weight.data + weight.size());
  alter(*bytes);
  Copy copy{weight, bytes};
  copy.view.data = bytes->data();
  copy.view.copy = ++copies;
  bytes_ += bytes->size();
  while (bytes_ > kMostBytes && !entries_.empty()) {
    bytes_ -= entries_.front().copy.bytes->size();
    entries_.pop_front();
  }
  entries_.push_back({fault, weight.data, weight.copy, copy});
  return copy;
}

}  // namespace greta
