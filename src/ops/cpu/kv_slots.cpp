#include "ops/cpu/kv_slots.h"

#include <algorithm>

namespace greta {

KvSlots::KvSlots(KvView& kv, KvPart part, int layer, std::span<const RowId> rows) {
  std::map<std::int32_t, std::int32_t> last;
  for (const RowId& row : rows) {
    const auto [entry, added] = last.try_emplace(row.seq, row.position);
    if (!added) entry->second = std::max(entry->second, row.position);
  }
  for (const auto& [seq, position] : last) {
    std::vector<const std::byte*>& slots = of_sequence_[seq];
    slots.reserve(static_cast<std::size_t>(position) + 1);
    for (std::int32_t p = 0; p <= position; ++p) slots.push_back(kv.read_slot(part, layer, {seq, p}));
  }
  of_row_.reserve(rows.size());
  for (const RowId& row : rows) of_row_.push_back(of_sequence_.at(row.seq).data());
}

}  // namespace greta
