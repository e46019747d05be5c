// Attention's keys and values, fetched once a call: a KvView is not thread-safe, and decorators count its reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "core/site.h"
#include "ops/kv_view.h"

namespace greta {

/// The slots that the rows of one call read: for every sequence among them, positions 0 up to the largest of its rows.
class KvSlots {
 public:
  KvSlots(KvView& kv, KvPart part, int layer, std::span<const RowId> rows);
  /// Slot of position p of row r's sequence is slots(r)[p], p = 0..position of the row.
  const std::byte* const* slots(std::int64_t r) const { return of_row_[static_cast<std::size_t>(r)]; }

 private:
  std::map<std::int32_t, std::vector<const std::byte*>> of_sequence_;
  std::vector<const std::byte* const*> of_row_;
};

}  // namespace greta
