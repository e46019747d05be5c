#include "isolate/repeated.h"

#include <fmt/format.h>

#include "isolate/align.h"

namespace greta::isolate {

std::optional<Unstable> first_other_row(const Capture& recorded, const Capture& again, std::int32_t n_positions, char arm,
                                        std::string_view how) {
  const RecordIndex index(again);
  std::int64_t compared = 0, other = 0, missing = 0;
  std::optional<StageRow> first;
  for (const StageRecord& record : recorded.records) {
    if (record.reread || record.exposure != Exposure::exposed || record.position >= n_positions) continue;
    const StageRecord* met = index.find(key_of(record));
    ++compared;
    if (met != nullptr && met->print.hash == record.print.hash && met->dtype == record.dtype) continue;
    met == nullptr ? ++missing : ++other;
    if (!first) first = StageRow{record.stage, record.layer, record.position};
  }
  if (compared == 0)
    return Unstable{arm,
                    recorded.records.empty()
                        ? StageRow{}
                        : StageRow{recorded.records[0].stage, recorded.records[0].layer, recorded.records[0].position},
                    fmt::format("no row could be compared {}", how)};
  if (!first) return std::nullopt;
  std::string detail = fmt::format("{} of {} rows have other bits {}", other, compared, how);
  if (missing > 0) detail += fmt::format("; {} rows were not recorded again", missing);
  return Unstable{arm, *first, detail};
}

}  // namespace greta::isolate
