// What the audits of one engine against itself share: flags, model and arms, prompts, recorded runs and their comparison.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/arm.h"
#include "cli/arm_flags.h"
#include "cli/audit_table.h"
#include "isolate/align.h"
#include "ops/cpu/thread_pool.h"

namespace greta::cli {

struct SelfAuditFlags {
  std::string model, prompt_file;
  std::optional<std::string> prompt;
  BareFlags bare;
  std::vector<std::string> faults;
  bool json = false;

  void add_to(CLI::App& verb, bool with_prompt);
};

/// One model and two arms that differ in the planted faults alone.
struct SelfAudit {
  std::filesystem::path path;
  std::shared_ptr<const Model> model;
  ArmSpec healthy, suspect;

  /// Loads the model and checks the faults. Throws Error.
  explicit SelfAudit(const SelfAuditFlags& flags);
  const ModelConfig& config() const { return model->config; }
};

struct AuditPrompt {
  std::string id;
  std::vector<std::int32_t> tokens;
  std::int32_t n_prompt = 0;  // tokens that count as the prompt, whose last a fault's position -1 is; 0: all
};

/// The user's prompt, else the first two of the built-in experiment, cut where they are longer than the context or `most`
/// tokens (which is noted in the table). Throws Error for a user's prompt that is longer than the context or shorter than 2
/// tokens.
std::vector<AuditPrompt> audit_prompts(const SelfAuditFlags& flags, const Model& model, AuditTable& table, int most = 256);

struct RecordedRun {
  Capture capture;
  FullTensors tensors;                         // where options.full
  KvJournal journal;                           // where options.kv_journal
  std::vector<std::optional<KvPlace>> places;  // one an access: the slot that it really reached
  std::vector<std::int64_t> effects;           // one a fault
};

/// Prefills all but the last `decodes` tokens and decodes these; rows of the prefill from `logits_from` on get logits.
RecordedRun recorded_run(const Model& model, const ArmSpec& spec, const AuditPrompt& prompt, std::int32_t decodes,
                         RecorderOptions options, WeightHashes& weights, ArmPath path = ArmPath::observed,
                         std::int32_t logits_from = 0);

/// Hashes and statistics of every row, without slices and operands.
RecorderOptions hashes_only();

/// An arm's ops without a session: FaultyOps(route), for calls of an audit's own.
class ArmOps {
 public:
  /// `n_prompt` resolves a fault's position -1.
  ArmOps(const Model& model, const ArmSpec& spec, std::int32_t n_prompt);
  Ops& ops() { return faulty_; }
  /// Tells the routes and faults what is computed next.
  void begin_step(Phase phase, std::span<const RowId> rows);
  std::vector<std::int64_t> fault_effects() const { return faulty_.effects_by_fault(); }

 private:
  Plan plan_;
  ThreadPool pool_;
  std::unique_ptr<Ops> route_;
  FaultyOps faulty_;
  int steps_ = 0;
};

/// Numbers of both signs and magnitude 0.25 to 1, never zero, by a seeded xorshift of its own: the same on every machine.
class SeededNumbers {
 public:
  explicit SeededNumbers(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  std::uint64_t bits();
  double next();
  std::vector<double> next(std::size_t n);

 private:
  std::uint64_t state_;
};

/// Two recorded runs of one prompt, key by key.
struct RunDifference {
  std::int64_t compared = 0, differing = 0, missing = 0;
  std::optional<isolate::StageRow> row;  // the first that differs
  std::string first;  // "ffn_norm layer 3 position 4": the first by b's step, layer, stage, position; empty: bit-equal

  std::string finding() const;
};
RunDifference run_difference(const Capture& a, const Capture& b);

}  // namespace greta::cli
