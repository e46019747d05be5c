#include "cli/arm_judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <numeric>
#include <thread>
#include <utility>

#include "cli/kept_rows.h"
#include "isolate/align.h"

namespace greta::cli {
void ArmJudge::judge(const WholeRun& run, const std::vector<std::int32_t>& group, const std::vector<int>& positions) {
  std::vector<std::int32_t> layers = group;
  if (layers.back() == n_layers_ - 1) layers.push_back(n_layers_);
  std::vector<audit::Place> places;
  for (const std::int32_t layer : layers) {
    const auto more = places_of(layer, n_layers_);
    places.insert(places.end(), more.begin(), more.end());
  }
  judge_places(run, places, positions);
}

void ArmJudge::judge_places(const WholeRun& run, const std::vector<audit::Place>& places, const std::vector<int>& positions) {
  const KeptRows rows(run.capture, run.tensors);
  const audit::ArmRows arm{rows, run.capture.tokens};
  std::vector<audit::Examination> found(places.size());
  std::vector<std::size_t> order(places.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<std::int64_t> sizes;
  for (const audit::Place& place : places) sizes.push_back(weights_of(rows, place));
  // The largest first, so that no thread has one left when the others are done.
  std::stable_sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return sizes[i] > sizes[j]; });
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < order.size(); i = next++)
      found[order[i]] = audit::examine({contract_, tensors_}, arm, {&places[order[i]], 1}, positions);
  };
  std::vector<std::jthread> helpers;
  for (int t = 1; t < spec_.threads; ++t) helpers.emplace_back(work);
  work();
  helpers.clear();
  for (const StageRecord& record : run.capture.records)
    if (!record.reread) steps_.try_emplace({record.position, record.layer, record.stage}, record.step);
  for (std::size_t i = 0; i < places.size(); ++i) {
    for (const audit::GuiltyRow& row : found[i].guilty)
      add(row.place, row.position, audit::largest_ratio(row.error), audit::described(row.error), std::nullopt);
    sum_ += std::move(found[i]);
    const bool last_of_layer = i + 1 == places.size() || places[i + 1].layer != places[i].layer;
    if (last_of_layer) add_reads(run.capture, places[i].layer);
  }
}

/// Weights that judging a place takes; 0: none.
std::int64_t ArmJudge::weights_of(const audit::Rows& rows, audit::Place place) const {
  const auto op = audit::op_of({contract_, tensors_}, rows, place);
  if (!op || op->op != audit::OpClass::matmul) return 0;
  const auto shape = tensors_.find(op->weight);
  return shape ? shape->rows * shape->cols : 0;
}

void ArmJudge::leave_out(int positions, std::string why) {
  sum_.unjudged += positions;
  if (positions > 0 && sum_.first_unjudged.empty()) sum_.first_unjudged = std::move(why);
}

isolate::LocalJudgement ArmJudge::result() const {
  isolate::LocalJudgement out;
  out.rows = sum_.rows;
  out.unjudged = sum_.unjudged;
  out.first_unjudged = sum_.first_unjudged;
  out.worst_ratio = sum_.worst_ratio;
  if (sum_.worst_ratio > 0) out.worst = isolate::place(sum_.worst.stage, sum_.worst.layer, sum_.worst_position);
  for (const auto& [key, finding] : findings_) {
    if (out.guilty.size() < isolate::kMostFindings) out.guilty.push_back(finding);
    ++out.guilty_rows;
  }
  return out;
}

RightRows ArmJudge::guilty() const {
  RightRows rows;
  for (const auto& [order, finding] : findings_) rows.insert({finding.position, finding.layer, finding.stage});
  return rows;
}

void ArmJudge::add(audit::Place place, int position, double ratio, std::string what, std::optional<int> at_step) {
  const auto known = steps_.find({position, place.layer, place.stage});
  const int step = at_step.value_or(known == steps_.end() ? 0 : known->second);
  findings_.try_emplace(Order{step, place.layer, place.stage, position},
                        isolate::LocalFinding{place.stage, place.layer, position, step, ratio, std::move(what)});
}

/// What a kernel read and what its producer had written, byte for byte.
void ArmJudge::add_reads(const Capture& capture, int layer) {
  const double beyond = std::numeric_limits<double>::infinity();
  for (const StageRecord& record : capture.records) {
    if (record.layer != layer) continue;
    if (record.reread)
      add({record.stage, layer}, record.position, beyond, "the slot changed after it was written", record.step);
    if (right_.contains({record.position, record.layer, record.stage})) continue;
    for (const OperandRecord& operand : record.operands)
      if (operand.hash && operand.producer_hash && *operand.hash != *operand.producer_hash && operand.producer_stage)
        add({record.stage, layer}, record.position, beyond,
            fmt::format("operand {} is not what {} wrote at that position", operand.argument, name(*operand.producer_stage)),
            record.step);
  }
}

}  // namespace greta::cli
