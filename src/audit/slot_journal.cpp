#include "audit/slot_journal.h"

#include <fmt/format.h>

namespace greta::audit {

void SlotJournal::add(const SlotAccess& access) {
  if (call_ != access.call) end_call();
  call_ = access.call;
  const bool own = access.reached == std::optional(SlotPlace{value_, layer_, 0, access.position});
  access.write ? write(access, own) : read(access, own);
}

void SlotJournal::find(int& count, std::string what) {
  ++count;
  if (found_.first.empty()) found_.first = std::move(what);
}

void SlotJournal::write(const SlotAccess& access, bool own) {
  ++found_.writes;
  steps_written_.insert(access.step);
  if (!own) {
    find(found_.misplaced, fmt::format("step {} wrote position {} to {}", access.step, access.position, text(access.reached)));
    if (!access.reached || *access.reached != SlotPlace{value_, layer_, 0, access.reached->position}) return;
  }
  const std::int32_t slot = access.reached->position;
  const auto [entry, is_new] = written_.try_emplace(slot);
  entry->second = {access.hash, access.position};
  if (!is_new) find(found_.rewritten, fmt::format("step {} wrote the slot of position {} again", access.step, slot));
}

void SlotJournal::read(const SlotAccess& access, bool own) {
  ++found_.reads;
  read_.insert(access.reached ? std::pair(access.reached->layer, access.reached->position) : std::pair(-1, access.position));
  steps_read_.insert(access.step);
  a_read_ = access;
  const std::string read = fmt::format("step {} read position {}", access.step, access.position);
  if (!own) return find(found_.misplaced, fmt::format("{} from {}", read, text(access.reached)));
  const auto slot = written_.find(access.position);
  if (slot == written_.end()) return find(found_.unwritten, read + ", which nobody wrote");
  if (slot->second.position != access.position)
    return find(found_.changed, fmt::format("{}, where position {} was written", read, slot->second.position));
  if (slot->second.hash != access.hash) find(found_.changed, read + ", which changed after it was written");
}

/// A decode step reads positions 0 to its own, a prefill call 0 to its last row's.
void SlotJournal::end_call() {
  if (a_read_ && static_cast<std::int32_t>(read_.size()) != a_read_->last + 1)
    find(found_.miscounted, fmt::format("{} step {} read {} slots, not those of positions 0..{}",
                                        a_read_->decode ? "decode" : "prefill", a_read_->step, read_.size(), a_read_->last));
  read_.clear();
  a_read_.reset();
}

SlotFindings SlotJournal::finish(std::int32_t positions) {
  end_call();
  for (std::int32_t p = 0; p < positions; ++p)
    if (!written_.contains(p)) find(found_.unwritten, fmt::format("the slot of position {} was never written", p));
  for (const int step : steps_written_)
    if (!steps_read_.contains(step)) find(found_.miscounted, fmt::format("step {} wrote slots and read none", step));
  found_.slots = static_cast<int>(written_.size());
  return found_;
}

std::string SlotJournal::text(const std::optional<SlotPlace>& place) const {
  if (!place) return "no slot of the cache";
  return fmt::format("the {} slot of layer {} position {}{}", place->value ? "v" : "k", place->layer, place->position,
                     place->sequence == 0 ? "" : fmt::format(" sequence {}", place->sequence));
}

}  // namespace greta::audit
