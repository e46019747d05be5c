#include "audit/examine.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "audit/dot_bound.h"
#include "audit/row_case.h"
#include "isolate/align.h"

namespace greta::audit {
namespace {

void add_unjudged(Examination& out, std::string why) {
  ++out.unjudged;
  if (out.first_unjudged.empty()) out.first_unjudged = std::move(why);
}

/// Adds one judged row to the sum. One with elements that could not be judged, and none that is guilty, is not within its
/// bound.
void add(Examination& out, Place place, int position, const LocalError& error) {
  if (!error.guilty() && (error.judged == 0 || error.both_nan > 0 || error.unbounded > 0))
    return add_unjudged(
        out, fmt::format("{} is NaN where NaN is due, or may overflow", isolate::place(place.stage, place.layer, position)));
  ++out.rows;
  if (error.guilty()) {
    out.guilty.push_back({place, position, error});
  } else if (error.ratio > out.worst_ratio) {
    out.worst_ratio = error.ratio;
    out.worst = place;
    out.worst_position = position;
  }
}

void judge_row(const RowCase& row, const Estimate& due, const ArmRows& arm, const OnRow& on_row, Examination& out) {
  const auto actual = arm.rows.row(row.place.stage, row.place.layer, row.position);
  const LocalError error = judge(due, actual);
  add(out, row.place, row.position, error);
  if (on_row) on_row(row, due, actual, error);
}

/// Rows of a product whose estimates and inputs are held at once: those of a head are wide.
std::size_t rows_at_once(const RowCase& row) {
  constexpr std::size_t kMostRows = 64, kMostBytes = std::size_t{96} << 20;
  const std::size_t row_bytes = 4 * sizeof(double) * static_cast<std::size_t>(std::max<std::int64_t>(row.matrix.n_out, 1));
  return std::clamp(kMostBytes / row_bytes, std::size_t{8}, kMostRows);
}

/// All rows of a matrix product at once: its weights are by far the largest operand.
void examine_products(const std::vector<std::unique_ptr<RowCase>>& cases, const ArmRows& arm, Place place, const OnRow& on_row,
                      Examination& out) {
  if (cases.empty()) return;
  const RowCase& first = *cases.front();
  std::vector<std::span<const double>> inputs;
  for (const auto& one : cases) inputs.emplace_back(one->inputs[0]);
  const Arithmetic arithmetic = arithmetic_of(arm.rows.route(place.stage, place.layer), first);
  if (on_row) {
    const std::vector<Estimate> due = products(first, inputs, arithmetic);
    for (std::size_t i = 0; i < cases.size(); ++i) judge_row(*cases[i], due[i], arm, on_row, out);
    return;
  }
  std::vector<Estimate> due = products(first, inputs, arithmetic, AlikeRoundings::may_be_left_out);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto actual = arm.rows.row(place.stage, place.layer, cases[i]->position);
    add(out, place, cases[i]->position, judge_product(*cases[i], std::move(due[i]), actual, arithmetic));
  }
}

}  // namespace

LocalError judge_product(const RowCase& row, Estimate due, std::span<const double> actual, const Arithmetic& arithmetic) {
  constexpr int kMostElements = 8;  // worked out one by one: more are done sooner together
  const std::span<const double> x = row.inputs[0];
  LocalError error = judge(due, actual);
  if (row.quantised || !leaves_alike_out(arithmetic)) return error;
  for (int n = 0; n < kMostElements && error.ratio > 0 && error.element < due.value.size(); ++n) {
    const double before = due.bound[error.element];
    set_element(row, static_cast<std::int64_t>(error.element), arithmetic, due);
    if (due.bound[error.element] == before && !error.guilty()) return error;
    if (due.bound[error.element] == before) break;
    error = judge(due, actual);
  }
  if (error.ratio == 0 && !error.guilty()) return error;
  return judge(products(row, {&x, 1}, arithmetic).front(), actual);
}

Examination& Examination::operator+=(Examination&& other) {
  rows += other.rows;
  unjudged += other.unjudged;
  if (first_unjudged.empty()) first_unjudged = std::move(other.first_unjudged);
  if (other.worst_ratio > worst_ratio) {
    worst_ratio = other.worst_ratio;
    worst = other.worst;
    worst_position = other.worst_position;
  }
  guilty.insert(guilty.end(), other.guilty.begin(), other.guilty.end());
  return *this;
}

Examination examine(const Contract& contract, const ArmRows& arm, std::span<const Place> places, std::span<const int> positions,
                    const OnRow& on_row) {
  Examination out;
  for (const Place& place : places) {
    if (!arm.rows.has(place.stage, place.layer)) continue;
    const std::optional<Op> op = op_of(contract, arm.rows, place);
    const std::string_view route = arm.rows.route(place.stage, place.layer);
    std::vector<std::unique_ptr<RowCase>> waiting;
    for (const int position : positions) {
      const auto actual = arm.rows.row(place.stage, place.layer, position);
      if (actual.empty()) continue;
      if (!op) {
        add_unjudged(out,
                     fmt::format("{}: the model file has no such stage", isolate::place(place.stage, place.layer, position)));
        continue;
      }
      RightCase right = right_case(contract, arm.rows, *op, place, position, arm.tokens[static_cast<std::size_t>(position)]);
      if (!right.row) {
        add_unjudged(out, std::move(right.missing));
        continue;
      }
      if (op->op != OpClass::matmul) {
        judge_row(*right.row, estimate(*right.row, arithmetic_of(route, *right.row)), arm, on_row, out);
        continue;
      }
      waiting.push_back(std::move(right.row));
      if (waiting.size() < rows_at_once(*waiting.front())) continue;
      examine_products(waiting, arm, place, on_row, out);
      waiting.clear();
    }
    examine_products(waiting, arm, place, on_row, out);
  }
  return out;
}

}  // namespace greta::audit
