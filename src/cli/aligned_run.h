// Runs the two arms of an experiment over one prompt, and arm B's decode steps again for controls.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "cli/arm.h"
#include "isolate/controls.h"
#include "isolate/experiment.h"
#include "isolate/figures.h"
#include "isolate/outcome.h"

namespace greta::cli {

/// Rows of the prefix that keep slice and sketch where they differ: the earliest in the order of data.
inline constexpr std::size_t kDetailedRows = 512;

/// What all prompts of a run share.
struct RunContext {
  const Model& model_a;
  const Model& model_b;
  const ArmSpec& arm_a;
  const ArmSpec& arm_b;
  const isolate::ExperimentSpec& experiment;
  WeightHashes& weights;
  bool full = false;          // keep whole tensors of both arms
  bool whole_logits = false;  // keep every row of logits of both arms
  std::size_t detailed_rows = kDetailedRows;
};

/// The perturbation of a control, as a fault.
FaultSpec control_fault(const isolate::ControlSpec& spec);

/// Adds one count a fault.
void add_counts(std::vector<std::int64_t>& sums, const std::vector<std::int64_t>& counts);

/// One arm's run with rows kept whole.
struct WholeRun {
  Capture capture;
  FullTensors tensors;
  std::int64_t not_substituted = 0;  // rows that were to get their right values and lacked an input
};

/// One prompt through both arms (docs/architecture.md, "Aligned mode"). E1: arm A prefills all n tokens; arm B prefills n-1 and
/// decodes the last. With a span S > 1 arm A's greedy continuation is forced on both: arm A also prefills n+S-1 at once, and
/// its rows from n on come from there. With a context shift both arms first prefill a prefix and shift it; from there on arm A
/// prefills what arm B decodes. E0: arm B prefills all n and decodes what it generates.
class AlignedRun {
 public:
  /// Throws Error where the prompt is too short for the experiment's context shift.
  AlignedRun(const RunContext& context, std::string prompt_id, std::vector<std::int32_t> tokens);

  /// Runs both arms. Rows of the prefix that differ are run a second time to keep their slices.
  isolate::PromptPair run();
  /// Arm B's decode step at spec.position again, perturbed.
  Capture control(const isolate::ControlSpec& spec);
  /// The same step with these faults beside the arm's own, or none; rows of all stages of `layers` are kept whole, and the
  /// slots of earlier positions as they are after the step.
  WholeRun step_whole(std::int32_t position, const std::vector<std::int32_t>& layers, const std::vector<FaultSpec>& faults);
  /// Arm 'a' or 'b' once more, after run(): every row of every stage of `layers` and of the layer before them is kept whole,
  /// and what a row's op read is recorded. The rows `right` get their right values (cli/substitution.h).
  WholeRun run_whole(char arm, const std::vector<std::int32_t>& layers, const RightRows& right = {});

  /// Elements that each fault changed: of arm A, of arm B.
  const std::vector<std::int64_t>& effects_a() const { return effects_a_; }
  const std::vector<std::int64_t>& effects_b() const { return effects_b_; }
  const FullTensors& full_a() const { return full_a_; }
  const FullTensors& full_b() const { return full_b_; }
  const isolate::LogitsRows& logits_a() const { return logits_a_; }
  const isolate::LogitsRows& logits_b() const { return logits_b_; }
  /// Rows of positions 0..n-1 that arm A computed otherwise in the prefill of n+S-1 rows than in that of n.
  std::int64_t span_differs() const { return span_differs_; }
  /// Tokens that are prefilled before the context shift (0: there is none), and the position of the first row after it.
  std::int32_t shifted_after() const { return static_cast<std::int32_t>(prefix_.size()); }
  std::int32_t first_row() const { return first_; }
  std::int32_t n_prompt() const { return n_prompt_; }
  /// Positions that the arms compute, forced tokens included.
  std::int32_t n_positions() const { return static_cast<std::int32_t>(tokens_.size()); }

 private:
  Capture header(char arm) const;
  Capture step_again(std::int32_t position, RecorderOptions recorded, const std::vector<FaultSpec>& faults);
  RecorderOptions options(const std::set<RecordKey>& also) const;
  Capture run_a(const std::set<RecordKey>& also);
  Capture run_b(const std::set<RecordKey>& also);
  void continue_greedily();
  /// An arm that has done all that comes before the rows that are compared, recording or not.
  std::unique_ptr<Arm> start(const Model& model, const ArmSpec& spec, std::int32_t capacity, std::optional<Capture> header,
                             const std::set<RecordKey>& also, ArmPath path = ArmPath::observed) const;
  std::span<const std::int32_t> rows_until(std::int32_t end) const;
  std::vector<std::int32_t> declared_schedule(const ArmSpec& spec, std::int32_t prefill_end, std::int32_t decodes) const;
  std::int32_t decode_start() const;
  std::int32_t first_logits() const;
  /// Keeps the rows of logits of positions from `begin` on in `rows`; does nothing where they are not wanted and in
  /// run_whole().
  Arm::OnLogits keep_logits(isolate::LogitsRows& rows, std::int32_t begin) const;

  const RunContext& context_;
  std::string prompt_id_;
  std::vector<std::int32_t> tokens_;  // by position (after the shift): prompt, then forced or generated ones
  std::int32_t n_prompt_;
  isolate::LogitsRows logits_a_, logits_b_;  // of RunContext::whole_logits
  std::vector<std::int32_t> prefix_;         // prefilled before the context shift; empty: there is none
  std::int32_t first_ = 0;                   // position of the first row that is compared
  std::unique_ptr<Arm> arm_b_;
  std::map<std::int32_t, Arm::Snapshot> snapshots_;  // of arm B, before the decode step of a position
  FullTensors full_a_, full_b_;
  std::optional<std::vector<std::int32_t>> whole_layers_;  // while run_whole() runs
  RightRows right_;                                        // the same
  std::int64_t not_substituted_ = 0;                       // the same
  std::vector<std::int64_t> effects_a_, effects_b_;
  std::int64_t span_differs_ = 0;
};

}  // namespace greta::cli
