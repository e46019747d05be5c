// Whether a run of an arm is the recorded one again, row by row.
#pragma once

#include <cstdint>
#include <optional>

#include "isolate/outcome.h"
#include "trace/record.h"

namespace greta::isolate {

/// The first row, in the order in which `recorded` was made, of positions below `n_positions` that `again` lacks or has with
/// another hash; nullopt: there is none. Rows that a stage does not expose, and KV slots that a later step read again, are
/// passed over. `how` ends the detail: "7 of 90 rows have other bits <how>". Rows that are missing count as other; where
/// nothing was compared, the first row of `recorded` is one.
std::optional<Unstable> first_other_row(const Capture& recorded, const Capture& again, std::int32_t n_positions, char arm,
                                        std::string_view how);

}  // namespace greta::isolate
