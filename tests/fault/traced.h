// A synthetic model run in process with faults and a recorder: a prefill in chunks, then decode steps.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "fault/faulty_ops.h"
#include "recording/recorder.h"
#include "recording/recording_ops.h"
#include "tests/engine/synthetic.h"

namespace greta::test {

inline const std::vector<std::int32_t> kSweepTokens{7, 300, 12, 55, 201, 9, 411, 33, 120, 77, 5, 260, 18};
inline constexpr std::int32_t kSweepPrompt = 11;  // then two more decode steps

/// What was recorded of one run, and how many elements its faults changed.
struct TracedRun {
  Capture capture;
  std::int64_t effects = 0;
};

/// Arm B of an aligned comparison: all tokens of the prompt but the last are prefilled, the rest decoded.
inline TracedRun traced_run(const Model& model, const std::vector<std::string>& faults, int chunk = 0,
                            const std::string& plan_name = "reference") {
  const Plan plan = make_plan(plan_name, std::nullopt, {});
  const auto n = static_cast<std::int32_t>(kSweepTokens.size());
  ThreadPool pool(1);
  KvCache kv(plan.kv, model.config.n_layers, 1, n + 64, std::int64_t{model.config.n_kv_heads} * model.config.head_dim);
  const std::unique_ptr<Ops> route = make_cpu_ops({.routes = plan.routes(1), .isa = supported_isas().back(), .pool = pool});
  WeightHashes weights;
  Capture header;
  header.tokens = kSweepTokens;
  header.n_prompt = kSweepPrompt;
  header.n_layers = model.config.n_layers;
  Recorder recorder(header, {}, weights);
  RecordingOps recording(*route, &recorder);
  std::vector<FaultSpec> specs;
  for (const std::string& fault : faults) specs.push_back(parse_fault(fault));
  FaultyOps faulty(recording, *route, {model, kSweepPrompt, chunk}, specs);
  Session session(model, plan, faulty, kv);
  session.prefill(std::span(kSweepTokens).first(kSweepPrompt - 1), 0, chunk, n, &recorder, [](const TensorView&) {});
  for (std::int32_t p = kSweepPrompt - 1; p < n; ++p) session.decode(kSweepTokens[static_cast<std::size_t>(p)], p, &recorder);
  return {std::move(recorder.capture()), faulty.effects()};
}

struct FirstDifference {
  int step = 0, layer = 0;
  Stage stage = Stage::x_in;
  int position = 0;
  auto tied() const { return std::tie(step, layer, stage, position); }
  friend bool operator<(const FirstDifference& a, const FirstDifference& b) { return a.tied() < b.tied(); }
};

/// The first record (step, layer, stage, position) that is in one run and not, with the same hash, in the other.
inline std::optional<FirstDifference> first_difference(const Capture& healthy, const Capture& wrong) {
  using Key = std::tuple<int, int, Stage, int>;
  std::map<Key, Hash128> expected, got;
  for (const StageRecord& r : healthy.records) expected[{r.step, r.layer, r.stage, r.position}] = r.print.hash;
  for (const StageRecord& r : wrong.records) got[{r.step, r.layer, r.stage, r.position}] = r.print.hash;
  std::optional<FirstDifference> first;
  const auto meet = [&](const auto& some, const auto& others) {
    for (const auto& [key, hash] : some) {
      const auto other = others.find(key);
      if (other != others.end() && other->second == hash) continue;
      const auto& [step, layer, stage, position] = key;
      const FirstDifference here{step, layer, stage, position};
      if (!first || here < *first) first = here;
    }
  };
  meet(got, expected);
  meet(expected, got);
  return first;
}

}  // namespace greta::test
