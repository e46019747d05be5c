// The judge of one arm: every op of a region computed again in float64 from what it read, and held to its bound. What is in
// bounds everywhere has only inherited its difference from another arm.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "audit/contract.h"
#include "audit/local_error.h"
#include "audit/op_graph.h"
#include "audit/row_case.h"
#include "audit/rows.h"

namespace greta::audit {

/// What one arm computed for one prompt, as far as it is examined.
struct ArmRows {
  const Rows& rows;
  std::span<const std::int32_t> tokens;  // by position
};

/// One row that no rounding explains.
struct GuiltyRow {
  Place place;
  int position = 0;
  LocalError error;
};

struct Examination {
  std::int64_t rows = 0;       // judged
  std::int64_t unjudged = 0;   // of which an input was not kept, or of whose elements none could be judged
  std::string first_unjudged;  // why
  double worst_ratio = 0;      // largest |error| / bound of the rows within their bounds
  Place worst;                 // where
  int worst_position = 0;
  std::vector<GuiltyRow> guilty;  // in the order of places, then positions
  Examination& operator+=(Examination&& other);
};

/// The verdict on a row of a matrix product. `due` is its estimate with or without the roundings that are alike: they are
/// counted where they may matter, so that the largest ratio, and everything of a guilty row, is as if they had been.
LocalError judge_product(const RowCase& row, Estimate due, std::span<const double> actual, const Arithmetic& arithmetic);

/// What was found of one row: its operands, what it should be, what it is.
using OnRow =
    std::function<void(const RowCase& row, const Estimate& due, std::span<const double> actual, const LocalError& error)>;

/// Judges the rows at `positions` (ascending) of each place, as far as they were kept. Matrix rows are read once a place.
/// `on_row` is told of every row that has operands.
Examination examine(const Contract& contract, const ArmRows& arm, std::span<const Place> places, std::span<const int> positions,
                    const OnRow& on_row = {});

}  // namespace greta::audit
