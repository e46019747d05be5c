#include "fault/altered_weights.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <string>

namespace greta {
namespace {

/// The same name at a place that never holds another: bytes of copies come and go at one address, and who keeps what it knows
/// of a weight tells copies apart by it.
std::string_view name_of_its_own(std::string_view name) {
  static std::mutex mutex;
  static std::deque<std::string> names;
  const std::lock_guard lock(mutex);
  return names.emplace_back(name);
}

}  // namespace

AlteredWeights::Copy AlteredWeights::get(std::size_t fault, const WeightView& weight,
                                         const std::function<void(std::vector<std::byte>&)>& alter) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.fault == fault && entry.source == weight.data && entry.source_name == weight.name.data();
  });
  if (found != entries_.end()) return found->copy;
  auto bytes = std::make_shared<std::vector<std::byte>>(weight.data, weight.data + weight.size());
  alter(*bytes);
  Copy copy{weight, bytes};
  copy.view.data = bytes->data();
  copy.view.name = name_of_its_own(weight.name);
  bytes_ += bytes->size();
  while (bytes_ > kMostBytes && !entries_.empty()) {
    bytes_ -= entries_.front().copy.bytes->size();
    entries_.pop_front();
  }
  entries_.push_back({fault, weight.data, weight.name.data(), copy});
  return copy;
}

}  // namespace greta
