#include "cli/self_audit.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "cli/aligned_run.h"
#include "cli/arm_ops.h"
#include "cli/defaults.h"
#include "core/error.h"
#include "core/quote.h"
#include "isolate/experiment.h"

namespace greta::cli {
namespace {

/// Prompts of the built-in experiment that stand where the user gives none.
constexpr std::size_t kBuiltIn = 2;

}  // namespace

void SelfAuditFlags::add_to(CLI::App& verb, bool with_prompt) {
  verb.add_option("model,--model", model, "Model (GGUF; default: the demo model)");
  if (with_prompt) {
    verb.add_option("--prompt", prompt, "Prompt text (default: the first two of the built-in experiment)");
    verb.add_option("--prompt-file", prompt_file, "Prompt file, UTF-8");
  }
  bare.add_to(verb);
  verb.add_option("--fault", faults, "Plant a fault in the suspect runs (greta faults lists them; repeatable)");
  verb.add_flag("--json", json, "Print JSON on stdout");
}

SelfAudit::SelfAudit(const SelfAuditFlags& flags)
    : path(flags.model.empty() ? default_model_path() : std::filesystem::path(flags.model)) {
  ArmOptions options = flags.bare.options();
  healthy = options.resolve();
  options.faults = flags.faults;
  suspect = options.resolve();
  model = Model::load(path);
  check_kv_type(healthy.plan.kv, model->config.head_dim);
}

std::vector<AuditPrompt> audit_prompts(const SelfAuditFlags& flags, const Model& model, AuditTable& table, int most) {
  if (flags.prompt && !flags.prompt_file.empty()) fail("both --prompt and --prompt-file are given; give one");
  if (flags.prompt && flags.prompt->empty()) fail("--prompt: the prompt is empty; give it text");
  std::vector<isolate::PromptSpec> texts;
  if (flags.prompt) {
    texts.push_back({"prompt", *flags.prompt, false, false, {}});
  } else if (!flags.prompt_file.empty()) {
    texts.push_back(isolate::prompt_from_file(flags.prompt_file));
  } else {
    const auto& built_in = isolate::builtin_experiment().prompts;
    texts.assign(built_in.begin(), built_in.begin() + static_cast<std::ptrdiff_t>(std::min(kBuiltIn, built_in.size())));
  }
  const int context = model.config.context_length;
  std::vector<AuditPrompt> prompts;
  for (const isolate::PromptSpec& text : texts) {
    std::vector<std::int32_t> tokens = model.tokenizer->encode(text.text, true, true);
    const auto n = static_cast<int>(tokens.size());
    const int room = text.built_in ? std::min(context, most) : context;
    if (n > room && !text.built_in)
      fail("prompt {}: {} tokens are more than the model's context of {}; shorten it", quote(text.id), n, context);
    if (n > room) {
      table.note(fmt::format("prompt {}: cut from {} to {} tokens", text.id, n, room));
      tokens.resize(static_cast<std::size_t>(room));
    }
    if (tokens.size() < 2) fail("prompt {}: {} tokens leave nothing to decode; give 2 or more", quote(text.id), tokens.size());
    prompts.push_back({text.id, std::move(tokens), 0});
  }
  return prompts;
}

RecordedRun recorded_run(const Model& model, const ArmSpec& spec, const AuditPrompt& prompt, std::int32_t decodes,
                         RecorderOptions options, WeightHashes& weights, ArmPath path, std::int32_t logits_from) {
  const auto n = static_cast<std::int32_t>(prompt.tokens.size());
  Arm arm(model, spec, n, prompt.n_prompt > 0 ? prompt.n_prompt : n, weights, path);
  Capture header;
  header.prompt_id = prompt.id;
  header.exp = "E1";
  header.tokens = prompt.tokens;
  const bool journal = options.kv_journal, full = options.full;
  arm.record(std::move(header), std::move(options));
  arm.prefill(std::span(prompt.tokens).first(static_cast<std::size_t>(n - decodes)), 0, logits_from, {});
  for (std::int32_t p = n - decodes; p < n; ++p) arm.decode(prompt.tokens[static_cast<std::size_t>(p)], p);
  RecordedRun run;
  run.effects = arm.fault_effects();
  run.capture = arm.take_capture();
  if (full) run.tensors = arm.full_tensors();
  if (journal) run.journal = arm.kv_journal();
  for (const KvAccess& access : run.journal) run.places.push_back(arm.kv_place(access.slot));
  return run;
}

RecorderOptions hashes_only() {
  RecorderOptions options;
  options.sample = 0;
  options.detail_from = std::numeric_limits<std::int32_t>::max();
  return options;
}

ArmOps::ArmOps(const Model& model, const ArmSpec& spec, std::int32_t n_prompt)
    : plan_(spec.plan),
      pool_(spec.threads),
      route_(make_arm_ops(spec, model, pool_)),
      faulty_(*route_, *route_, fault_target(spec, model, n_prompt), spec.faults) {}

void ArmOps::begin_step(Phase phase, std::span<const RowId> rows) {
  faulty_.begin_step({phase, steps_++, rows}, plan_.routes(static_cast<std::int64_t>(rows.size())));
}

std::uint64_t SeededNumbers::bits() {
  state_ ^= state_ << 13;
  state_ ^= state_ >> 7;
  state_ ^= state_ << 17;
  return state_ * 0x2545f4914f6cdd1du;
}

double SeededNumbers::next() {
  const std::uint64_t random = bits();
  const double size = 0.25 + 0.75 * static_cast<double>(random >> 12) * 0x1p-52;
  return (random & 1) != 0 ? size : -size;
}

std::vector<double> SeededNumbers::next(std::size_t n) {
  std::vector<double> out(n);
  for (double& x : out) x = next();
  return out;
}

std::string RunDifference::finding() const {
  if (!first.empty()) return fmt::format("first at {}, {} of {} rows", first, differing, compared);
  return missing > 0 ? fmt::format("{} rows are in one run only", missing) : std::string();
}

RunDifference run_difference(const Capture& a, const Capture& b) {
  const isolate::RecordIndex in_a(a), in_b(b);
  const auto n = static_cast<std::int32_t>(std::max(a.tokens.size(), b.tokens.size()));
  const isolate::Alignment alignment = isolate::align(a, in_a, b, in_b, {}, n);
  RunDifference out;
  out.missing = alignment.missing_count;
  out.compared = static_cast<std::int64_t>(alignment.pairs.size());
  for (const isolate::RecordPair& pair : alignment.pairs) {
    if (pair.a->print.hash == pair.b->print.hash) continue;
    ++out.differing;
    if (!out.row) {
      out.row = {pair.b->stage, pair.b->layer, pair.b->position};
      out.first = isolate::place(pair.b->stage, pair.b->layer, pair.b->position);
    }
  }
  if (alignment.misaligned && out.first.empty()) {
    ++out.differing;
    out.first = "tokens or positions (the runs are misaligned)";
  }
  return out;
}

}  // namespace greta::cli
