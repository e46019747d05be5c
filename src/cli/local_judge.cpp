#include "cli/local_judge.h"

#include <fmt/format.h>

#include <atomic>
#include <limits>
#include <map>
#include <thread>
#include <tuple>
#include <utility>

#include "audit/examine.h"
#include "cli/file_contract.h"
#include "cli/kept_rows.h"
#include "isolate/align.h"

namespace greta::cli {
namespace {

class ArmJudge {
 public:
  ArmJudge(const Model& model, const ArmSpec& spec)
      : spec_(spec), contract_(contract_of(model)), tensors_(*model.file), n_layers_(model.config.n_layers) {}

  /// Judges the layers of `group`, and with the last layer the head.
  void judge(const WholeRun& run, const std::vector<std::int32_t>& group, const std::vector<int>& positions) {
    const KeptRows rows(run.capture, run.tensors);
    const audit::ArmRows arm{rows, run.capture.tokens};
    std::vector<int> layers(group.begin(), group.end());
    if (layers.back() == n_layers_ - 1) layers.push_back(n_layers_);
    std::vector<audit::Examination> found(layers.size());
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
      for (std::size_t i = next++; i < layers.size(); i = next++)
        found[i] = audit::examine({contract_, tensors_}, arm, places_of(layers[i], n_layers_), positions);
    };
    std::vector<std::jthread> helpers;
    for (int t = 1; t < spec_.threads; ++t) helpers.emplace_back(work);
    work();
    helpers.clear();
    for (std::size_t i = 0; i < layers.size(); ++i) {
      sum_ += std::move(found[i]);
      add_reads(run.capture, layers[i]);
    }
    for (const StageRecord& record : run.capture.records)
      if (!record.reread) steps_.try_emplace({record.position, record.layer, record.stage}, record.step);
  }

  /// Positions that are compared and whose rows are not judged.
  void leave_out(int positions, std::string why) {
    sum_.unjudged += positions;
    if (positions > 0 && sum_.first_unjudged.empty()) sum_.first_unjudged = std::move(why);
  }

  isolate::LocalJudgement result() {
    isolate::LocalJudgement out;
    out.rows = sum_.rows;
    out.unjudged = sum_.unjudged;
    out.first_unjudged = sum_.first_unjudged;
    out.worst_ratio = sum_.worst_ratio;
    if (sum_.worst_ratio > 0) out.worst = isolate::place(sum_.worst.stage, sum_.worst.layer, sum_.worst_position);
    for (const audit::GuiltyRow& row : sum_.guilty)
      add(row.place, row.position, audit::largest_ratio(row.error), audit::described(row.error), std::nullopt);
    for (auto& [key, finding] : findings_) {
      if (out.guilty.size() < isolate::kMostFindings) out.guilty.push_back(std::move(finding));
      ++out.guilty_rows;
    }
    return out;
  }

 private:
  using Order = std::tuple<int, int, Stage, int>;  // step, layer, stage, position

  void add(audit::Place place, int position, double ratio, std::string what, std::optional<int> at_step) {
    const auto known = steps_.find({position, place.layer, place.stage});
    const int step = at_step.value_or(known == steps_.end() ? 0 : known->second);
    findings_.try_emplace(Order{step, place.layer, place.stage, position},
                          isolate::LocalFinding{place.stage, place.layer, position, step, ratio, std::move(what)});
  }

  /// What a kernel read and what its producer had written, byte for byte.
  void add_reads(const Capture& capture, int layer) {
    const double beyond = std::numeric_limits<double>::infinity();
    for (const StageRecord& record : capture.records) {
      if (record.layer != layer) continue;
      if (record.reread)
        add({record.stage, layer}, record.position, beyond, "the slot changed after it was written", record.step);
      for (const OperandRecord& operand : record.operands)
        if (operand.hash && operand.producer_hash && *operand.hash != *operand.producer_hash && operand.producer_stage)
          add({record.stage, layer}, record.position, beyond,
              fmt::format("operand {} is not what {} wrote at that position", operand.argument, name(*operand.producer_stage)),
              record.step);
    }
  }

  const ArmSpec& spec_;
  audit::ModelContract contract_;
  FileTensors tensors_;
  int n_layers_;
  audit::Examination sum_;
  std::map<RecordKey, int> steps_;
  std::map<Order, isolate::LocalFinding> findings_;
};

}  // namespace

isolate::LocalPair judge_locally(AlignedRun& run, const RunContext& context,
                                 const std::function<void(int done, int all)>& on_layers) {
  const int n_layers = context.model_a.config.n_layers;
  const auto groups = layer_groups(context.model_a.config, run.n_positions());
  ArmJudge a(context.model_a, context.arm_a), b(context.model_b, context.arm_b);
  std::vector<int> positions;
  for (int p = run.first_row(); p < run.n_positions(); ++p)
    if (run.span_differs() == 0 || p < run.n_prompt()) positions.push_back(p);
  for (const auto& group : groups) {
    if (on_layers) on_layers(group.front(), n_layers);
    a.judge(run.run_whole('a', group), group, positions);
    b.judge(run.run_whole('b', group), group, positions);
  }
  for (ArmJudge* arm : {&a, &b}) {
    arm->leave_out(run.first_row(), "slots of positions before the context shift");
    if (run.span_differs() > 0)
      arm->leave_out(run.n_positions() - run.n_prompt(), "rows of the span, which arm A computed in a prefill of other bits");
  }
  return {a.result(), b.result()};
}

}  // namespace greta::cli
