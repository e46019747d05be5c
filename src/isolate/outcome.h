// What a judgement found: filled by judge() from measured values, read by report, which computes nothing anew.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "isolate/controls.h"
#include "isolate/experiment.h"
#include "isolate/gain.h"
#include "isolate/local.h"
#include "isolate/metrics.h"
#include "isolate/severity.h"
#include "isolate/verdict.h"

namespace greta::isolate {

/// Collapse column of a table where neither --collapse-token nor an attractor names one: the original report's token.
inline constexpr std::int64_t kDefaultCollapseToken = 96965;

enum class Source : std::uint8_t { isolate, analyze, compare };
std::string_view name(Source source);

/// One arm as it was asked for; empty or zero members were left to the defaults and are not checked.
struct DeclaredArm {
  std::string backend, plan, kv, build;
  int threads = 0;
  std::vector<std::pair<std::string, std::string>> routes;
};

/// What the caller knows and captures do not: for the checks "as declared", and for the report.
struct RunInfo {
  Source source = Source::isolate;
  DeclaredArm a, b;
  std::string model_path, model_hash;  // as it was given; XXH3-128 in hex; may be empty
  std::string inspect_command;         // looks into that model; empty without one
  std::string build;                   // version and commit of the judging binary
  std::string date;                    // YYYY-MM-DD
  /// Command lines, arguments quoted, that reproduce this run and that rebuild its table from the JSONL: without --out where
  /// that names the run's own directory, which would be refused as in use.
  std::string command, analyze_command;
  /// `command` without --layers --stages --out --json: verdicts append to it what to run next. And without --plan, for those
  /// that ask for another one; empty: as next_base.
  std::string next_base, next_other_plan;
  bool plan_fixed = false;            // arm B's own options name its plan: --plan would not change it
  std::string next_builtin;           // the same with the built-in prompts, where the ones given are too short
  std::string run_dir;                // where artefacts lie, for "Source:" lines; empty: none
  std::vector<std::string> notes;     // printed as they are: a cut prompt, defaults chosen
  bool weights_differ = false;        // the arms computed with other model files
  std::int64_t unreadable_lines = 0;  // of JSONL: more than 0 makes an agreement INCONCLUSIVE
};

/// A row of a stage, as an operand's origin names it.
struct StageRow {
  Stage stage = Stage::x_in;
  int layer = 0;
  int position = 0;
  bool operator==(const StageRow&) const = default;
};

/// An arm that gave other bits when it computed the same again.
struct Unstable {
  char arm = 'b';
  StageRow row;        // the first, in the order of data
  std::string detail;  // one line: which run, how many rows
};

/// Mode: `compare` meets captures by key, so E1; else what the captures say (`exp`), else the experiment's.
struct PromptPair {
  Capture a, b;
  /// Rows of every forward call as they were ordered; empty: not checked (analyze, compare).
  std::vector<std::int32_t> declared_schedule_a, declared_schedule_b;
  /// Positions that both arms must have recorded, 0..n_positions-1; 0: those that both have (analyze, compare).
  std::int32_t n_positions = 0;
  std::int32_t cut_from = 0;              // tokens before a built-in prompt was cut to the context; 0: not cut
  std::optional<Unstable> unstable = {};  // found by runs beside these
};

/// One operand of the op that wrote a mismatching row, as both arms' kernels were given it.
struct OperandEvidence {
  std::string name;                   // "x", "weight", "eps"
  bool equal = false;                 // same bytes (or the same scalar) in both arms
  bool same_origin = true;            // same producer stage, layer and position
  bool b_is_what_was_written = true;  // false: arm B's kernel read other bytes than the producer wrote in that row
  std::string a, b;                   // "x_after_attn layer 0 position 4", "blk.0.ffn_norm.weight f32", "1e-05"
  /// Of an activation with a recorded origin: the row that each arm's kernel read, and the row that was due. Every op but
  /// attention works row by row, and attention's query is its own row, so the row due is the mismatch's own position of the
  /// stage and layer that the reference, arm A, read.
  std::optional<StageRow> read_a, read_b, due;
};

struct Mismatch {
  Stage stage = Stage::x_in;
  int layer = 0;
  int position = 0;
  int step = 0;         // forward call of arm B
  bool reread = false;  // a KV slot as a later step found it
  bool above_threshold = false;
  Difference difference;
  std::string route_a, route_b;
  std::vector<OperandEvidence> operands;  // of headline and minimal mismatches only
};

/// The table's columns; nullopt prints None.
struct TableRow {
  std::string first_mismatch_stage;  // a stage, "NONE" (compared, no mismatch) or the verdict's name (not judged)
  std::optional<int> first_mismatch_layer, first_mismatch_pos;
  int layer = -1;  // at which the MAEs of layer stages were taken; -1: none was recorded
  /// prefill_last against decode0, over the slice: the post-WO set and the witnesses, in the order of data.
  std::vector<std::pair<Stage, std::optional<double>>> mae;
  std::optional<double> logits_mean_delta;  // mean of decode0's logits minus mean of prefill_last's
  std::optional<int> prefill_last_top1, decode0_top1;
  std::optional<bool> collapse;  // decode0_top1 == Outcome::collapse.id; nullopt without logits

  std::optional<double> mae_of(Stage stage) const;
};

struct TopTokens {
  int top1 = -1, top2 = -1;
  double top1_logit = 0, top2_logit = 0;
  bool tie = false;  // top1 went to the lowest id
  double gap() const { return top1_logit - top2_logit; }
};

struct KeyCounts {
  std::int64_t expected = 0;  // that a whole comparison would meet
  std::int64_t compared = 0;  // that met
  std::int64_t bit_equal = 0;
  std::int64_t unhashed = 0;  // of them: equal by slice and statistics, as a side has no hash
  std::int64_t drifted = 0;   // not bit-equal, at or below the thresholds
  std::int64_t above = 0;     // above the thresholds
  KeyCounts& operator+=(const KeyCounts& other);
};

struct PromptOutcome {
  std::string id;
  ExpMode exp = ExpMode::aligned;  // as its captures say, else the experiment's
  std::int32_t n_tokens = 0;       // of the prompt; 0: unknown
  std::int32_t cut_from = 0;
  Judgement judgement;
  KeyCounts keys;
  bool bit_equality_claimed = false;     // first mismatch = first row that is not bit-equal; else first above the thresholds
  std::vector<Stage> compared_stages;    // in the order of data
  std::vector<std::string> missing;      // "ffn_norm layer 3 position 4 in B", at most 8 and a count
  std::vector<std::string> not_exposed;  // "attn_scores (route flash)", a stage once
  std::optional<Mismatch> first;         // the headline
  std::vector<Mismatch> minimal;         // causally minimal, in the order of `first`; holds it
  std::int64_t inherited = 0;            // mismatches that follow from a minimal one
  std::vector<Stage> inherited_stages;
  std::optional<Mismatch> drift;  // the first row not bit-equal, where it comes before `first` or there is none
  TableRow table;
  std::optional<TopTokens> top_a, top_b;             // of prefill_last and decode0
  std::vector<std::int32_t> schedule_a, schedule_b;  // as recorded
  std::int64_t kv_slots_read = 0;                    // by decode0, written in earlier steps
  std::optional<Severity> severity;                  // of the difference, for the tokens sampled
  std::vector<StageGain> gains;                      // of inherited error, at decode0; where `local` is
  std::optional<LocalPair> local;                    // where the arms are not bit-equal and could be judged op by op
};

/// An arm as its captures describe it.
struct ArmOutcome {
  std::string backend, plan, build, host;
  int threads = 0;
  std::vector<std::pair<std::string, std::string>> routes;
  std::vector<std::pair<std::string, std::vector<std::int32_t>>> schedules;  // prompt id -> rows of every call
  bool foreign = false;
  bool fault_planted = false;
};

enum class CollapseRule : std::uint8_t { given, attractor, fallback };

struct Collapse {
  std::int64_t id = kDefaultCollapseToken;  // names the column collapse_<id>
  CollapseRule rule = CollapseRule::fallback;
  /// At least 2 prompts (of one alone: that one) have decode0_top1 == id, at least one of them another prefill_last_top1.
  bool value = false;
  int rows = 0;  // whose decode0_top1 is `id`
};

enum class CauseState : std::uint8_t { none, unexplained, ranked, named, withdrawn };
std::string_view name(CauseState state);
/// A guilty row.
struct CausePlace {
  std::string prompt;
  char arm = 'b';
  StageRow row;
};
/// What became of an arm that was run again with right values in its guilty rows.
struct Substitution {
  std::int64_t rows = 0;    // that got right values
  std::int64_t guilty = 0;  // rows that are still guilty
  std::int64_t left = 0;    // rows that could not be computed or judged
  bool agrees() const { return rows > 0 && guilty == 0 && left == 0; }
};
/// Filled by the audit; without one a divergence is `unexplained`.
struct Cause {
  CauseState state = CauseState::none;
  std::string name;
  std::vector<std::pair<std::string, std::string>> params;
  bool confirmed = false;  // named, and with the right values the arm agrees
  std::vector<std::string> candidates;
  std::optional<CausePlace> at;
  std::optional<Substitution> substitution;
  std::vector<Cause> others;  // of mismatches that the headline does not explain

  /// "epsilon eps=1e-06".
  std::string text() const;
};

struct Outcome {
  Judgement judgement;
  ExperimentSpec experiment;
  RunInfo run;
  ArmOutcome a, b;
  KeyCounts keys;
  std::vector<ControlResult> controls;
  std::vector<PromptOutcome> prompts;
  Collapse collapse;
  Cause cause;
  std::string next_command;

  Verdict verdict() const { return judgement.verdict(); }
  int exit_code() const { return isolate::exit_code(verdict()); }
  int controls_found() const;
};

}  // namespace greta::isolate
