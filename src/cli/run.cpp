// `greta run`: generates text from a prompt; traces it on request.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/aligned_run.h"
#include "cli/arm_flags.h"
#include "cli/artifacts.h"
#include "cli/chat_flags.h"
#include "cli/checks.h"
#include "cli/environment.h"
#include "cli/paths.h"
#include "cli/run_trace.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "core/quote.h"
#include "engine/sampler.h"
#include "isolate/experiment.h"
#include "trace/safetensors.h"

namespace greta::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// Prefill rows of one call unless --chunk says otherwise: bounds the memory of attention scores.
constexpr int kDefaultChunk = 512;

struct Options {
  std::string model, prompt, prompt_file, logits_out, exp = "E0";
  int max_tokens = 64;
  int keep = 0, context = 0;
  bool greedy = false, logits_all = false, ignore_eos = false, json = false, context_shift = false;
  double temperature = -1;
  SamplerOptions sampler;
  std::vector<std::string> faults;
  TraceFlags trace;
  BareFlags bare;
  ChatFlags chat;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }
double per_second(std::size_t n, double s) { return s > 0 ? static_cast<double>(n) / s : 0; }

isolate::PromptSpec read_prompt(const Options& o, const Environment& env) {
  if (!o.prompt.empty() && !o.prompt_file.empty()) fail("both --prompt and --prompt-file are given; give one");
  isolate::PromptSpec prompt;
  if (!o.prompt_file.empty()) {
    prompt = isolate::prompt_from_file(o.prompt_file);
  } else {
    if (o.prompt.empty()) fail("no prompt: give --prompt TEXT or --prompt-file FILE, not empty");
    prompt.id = "prompt";
    prompt.text = o.prompt;
  }
  if (env.prompt_id) prompt.id = *env.prompt_id;
  if (prompt.id.empty() || prompt.id.find('/') != std::string::npos)
    fail("GRETA_TRACE_PROMPT_ID={}: not a prompt id; use letters, digits, '.', '_' and '-'", quote(prompt.id));
  return prompt;
}

/// Positions that the run may use: the model's context, or less where --context or else GRETA_MAX_SEQ_LEN says so.
int context_limit(int wanted, const Environment& env, const ModelConfig& config) {
  if (wanted > config.context_length)
    fail("--context {} is more than the model's context of {} tokens; use that at most", wanted, config.context_length);
  if (wanted > 0) return wanted;
  if (!env.max_seq_len) return config.context_length;
  int limit = 0;
  const std::string& text = *env.max_seq_len;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (error != std::errc{} || end != text.data() + text.size() || limit < 1)
    fail("GRETA_MAX_SEQ_LEN={}: not a number of tokens; use 1 or more", quote(text));
  return std::min(limit, config.context_length);
}

/// Logits [positions, vocab] in the plan's own type, with the prompt's tokens.
class LogitsFile {
 public:
  void add(const TensorView& logits, std::int64_t row) {
    dtype_ = logits.dtype;
    vocab_ = logits.cols(row);
    bytes_.insert(bytes_.end(), logits.row(row), logits.row(row) + row_bytes(logits.dtype, vocab_));
    ++rows_;
  }
  void write(const fs::path& path, const std::vector<std::int32_t>& tokens) const {
    const std::vector<std::int64_t> ids(tokens.begin(), tokens.end());
    SafetensorsWriter writer(path, {{"logits", tensor_type(dtype_), {rows_, vocab_}},
                                    {"tokens", TensorType::i64, {static_cast<std::int64_t>(ids.size())}}});
    writer.append(bytes_);
    writer.append(std::as_bytes(std::span(ids)));
    writer.finish();
  }

 private:
  DType dtype_ = DType::f32;
  std::int64_t rows_ = 0, vocab_ = 0;
  std::vector<std::byte> bytes_;
};

/// One generation, streamed to stdout.
class Generation {
 public:
  Generation(const Options& options, const Model& model, const ArmSpec& arm, std::vector<std::int32_t> tokens, int limit)
      : options_(options),
        model_(model),
        spec_(arm),
        tokens_(std::move(tokens)),
        n_prompt_(static_cast<std::int32_t>(tokens_.size())),
        limit_(static_cast<std::int32_t>(std::min<std::int64_t>(limit, std::int64_t{n_prompt_} + options.max_tokens))) {
    if (!options.context_shift) return;
    const bool bos = !tokens_.empty() && tokens_.front() == model.tokenizer->bos();
    keep_ = options.keep < 0 ? n_prompt_ : std::max(std::min<std::int32_t>(options.keep, n_prompt_), bos ? 1 : 0);
    if (limit - keep_ < 2)
      fail("--keep {}: {} kept positions of a context of {} leave none to discard and shift; keep {} at most", options.keep,
           keep_, limit, limit - 2);
  }

  void run(const TracePlan* trace, const std::string& prompt_id) {
    WeightHashes weights;
    const bool observed = options_.context_shift || (trace != nullptr && trace->full());
    Arm arm(model_, spec_, limit_, n_prompt_, weights, observed ? ArmPath::observed : fastest_path(spec_));
    if (trace != nullptr) {
      Capture header;
      header.prompt_id = prompt_id;
      header.exp = "E0";
      header.tokens = tokens_;
      arm.record(std::move(header), trace->options(n_prompt_));
    }
    const std::vector<double> logits = prefill(arm);
    generate(arm, logits);
    refuse_idle_faults(spec_, arm.fault_effects(), "");
    if (trace == nullptr) return;
    Capture capture = arm.take_capture();
    capture.tokens = tokens_;
    for (StageRecord& record : capture.records) record.token_id = tokens_[static_cast<std::size_t>(record.position)];
    for (LogitsRecord& record : capture.logits) record.token_id = tokens_[static_cast<std::size_t>(record.position)];
    trace->keep_wanted(capture, n_prompt_);
    const auto [a, b] = TracePlan::split(std::move(capture));
    trace->write(a, b, isolate::ExpMode::as_designed);
    if (trace->full())
      write_full_tensors(fs::path(trace->out()).replace_extension(".safetensors"), arm.full_tensors(), model_.config.n_heads,
                         tokens_);
  }

  void report(const std::string& prompt_id) const {
    const auto n = static_cast<std::size_t>(n_prompt_);
    const std::size_t steps = generated_.empty() ? 0 : generated_.size() - 1;  // the first comes with the prefill
    if (options_.json) {
      nlohmann::ordered_json out{{"prompt_id", prompt_id},
                                 {"prompt_tokens", n},
                                 {"tokens", generated_},
                                 {"text", text_},
                                 {"stopped", stopped_},
                                 {"prefill_seconds", prefill_s_},
                                 {"decode_seconds", decode_s_},
                                 {"prefill_tokens_per_s", per_second(n, prefill_s_)},
                                 {"decode_tokens_per_s", per_second(steps, decode_s_)}};
      if (options_.context_shift) out["context_shifts"] = shifts_;
      fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    }
    fmt::print(stderr, "prefill: {} tokens, {:.1f} tokens/s; decode: {} tokens, {:.1f} tokens/s; stopped: {}{}\n", n,
               per_second(n, prefill_s_), steps, per_second(steps, decode_s_), stopped_,
               options_.context_shift ? fmt::format("; context shifts: {}", shifts_) : "");
  }

 private:
  std::vector<double> prefill(Arm& arm) {
    std::vector<double> last;
    LogitsFile file;
    const auto start = Clock::now();
    arm.prefill(tokens_, 0, options_.logits_all ? 0 : n_prompt_ - 1,
                [&](std::int32_t position, const TensorView& view, std::int64_t row) {
                  if (!options_.logits_out.empty()) file.add(view, row);
                  if (position == n_prompt_ - 1) last = row_values(view, row);
                });
    prefill_s_ = seconds_since(start);
    if (!options_.logits_out.empty()) file.write(options_.logits_out, tokens_);
    return last;
  }

  void generate(Arm& arm, const std::vector<double>& logits) {
    Sampler sampler(options_.sampler);
    StreamDecoder stream(*model_.tokenizer);
    stopped_ = "max-tokens";
    std::int32_t position = n_prompt_;  // of the next row
    const auto start = Clock::now();
    std::int32_t next = sampler.sample(logits);
    while (static_cast<int>(generated_.size()) < options_.max_tokens) {
      if (model_.tokenizer->ends_generation(next) && !options_.ignore_eos) {
        stopped_ = "end of text";
        break;
      }
      generated_.push_back(next);
      emit(stream.push(next));
      tokens_.push_back(next);
      if (static_cast<int>(generated_.size()) == options_.max_tokens) break;
      if (position >= limit_ && options_.context_shift) position -= make_room(arm);
      if (position >= limit_) {
        stopped_ = "context full";
        break;
      }
      next = arm.decode(next, position, sampler);
      ++position;
    }
    decode_s_ = seconds_since(start);
    emit(stream.finish());
    if (!options_.json) fmt::print("\n");
  }

  /// The context is full: keeps the first positions, discards half of the others, and shifts what is left. Returns how many
  /// positions are free now.
  std::int32_t make_room(Arm& arm) {
    const std::int32_t discard = (limit_ - keep_) / 2;
    arm.context_shift(keep_, discard);
    ++shifts_;
    return discard;
  }

  void emit(const std::string& text) {
    text_ += text;
    if (options_.json) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    if (std::fflush(stdout) != 0) fail("stdout: cannot write the text; is the reader gone or the disk full?");
  }

  const Options& options_;
  const Model& model_;
  const ArmSpec& spec_;
  std::vector<std::int32_t> tokens_;
  std::int32_t n_prompt_;
  std::int32_t limit_;     // positions that may be computed
  std::int32_t keep_ = 0;  // positions that a context shift keeps
  int shifts_ = 0;
  std::vector<std::int32_t> generated_;
  std::string text_;
  std::string stopped_;
  double prefill_s_ = 0, decode_s_ = 0;
};

/// --exp E1: prefill_last and the forced decode0 of the same token, both in one JSONL.
void trace_aligned(const TracePlan& trace, const Model& model, const ArmSpec& arm, const isolate::PromptSpec& prompt,
                   const std::vector<std::int32_t>& tokens) {
  if (tokens.size() < 2) fail("--exp E1 needs a prompt of at least 2 tokens, this one has {}", tokens.size());
  isolate::ExperimentSpec experiment;
  experiment.exp = isolate::ExpMode::aligned;
  experiment.layers = trace.layers();
  experiment.stages = trace.stages();
  experiment.sample = trace.sample();
  WeightHashes weights;
  ArmSpec healthy = arm;  // a planted fault is arm B's, as in isolate
  healthy.faults.clear();
  const RunContext context{model, model, healthy, arm, experiment, weights, trace.full()};
  AlignedRun run(context, prompt.id, tokens);
  isolate::PromptPair pair = run.run();
  const auto n = static_cast<std::int32_t>(tokens.size());
  trace.keep_wanted(pair.a, n - 1);
  trace.keep_wanted(pair.b, n - 1);
  trace.write(pair.a, pair.b, isolate::ExpMode::aligned);
  if (!trace.full()) return;
  write_full_tensors(fs::path(trace.out()).replace_extension(".a.safetensors"), run.full_a(), model.config.n_heads, tokens);
  write_full_tensors(fs::path(trace.out()).replace_extension(".b.safetensors"), run.full_b(), model.config.n_heads, tokens);
}

int run(Options& options) {
  const Environment env = read_environment(environ);
  const auto mode = isolate::exp_mode_from_name(options.exp);
  if (!mode) fail("--exp {} is not known; use E0 (as_designed) or E1 (aligned)", quote(options.exp));
  options.chat.check();
  if (options.greedy && options.temperature > 0) fail("--greedy and --temp {} exclude each other", options.temperature);
  options.sampler.temperature = options.temperature < 0 ? 0 : options.temperature;
  (void)Sampler(options.sampler);  // checks the numbers before anything is loaded

  ArmOptions arm_options = options.bare.options();
  arm_options.faults = options.faults;
  if (!arm_options.chunk) arm_options.chunk = kDefaultChunk;
  const ArmSpec arm = arm_options.resolve();
  const isolate::PromptSpec prompt = read_prompt(options, env);
  const auto model = Model::load(options.model.empty() ? demo_model() : fs::path(options.model));
  check_kv_type(arm.plan.kv, model->config.head_dim);
  const int limit = context_limit(options.context, env, model->config);
  const std::vector<std::int32_t> tokens =
      options.chat.chat ? ChatEncoder(*model->file, *model->tokenizer, options.chat).encode(prompt.text, options.chat.system)
                        : model->tokenizer->encode(prompt.text, true, true);
  if (tokens.empty()) fail("prompt {}: gives no tokens; write a text", quote(prompt.id));
  if (static_cast<int>(tokens.size()) > limit)
    fail("prompt {}: {} tokens are more than the context of {}; shorten it", quote(prompt.id), tokens.size(), limit);

  const auto trace = TracePlan::from(options.trace, env, prompt.id, *mode, model->config.n_layers);
  if (trace && options.context_shift)
    fail(
        "--context-shift cannot be traced: a position would have several rows; `greta isolate --shift KEEP:DISCARD` records "
        "one shift");
  const bool aligned = trace && *mode == isolate::ExpMode::aligned;
  if (aligned) trace_aligned(*trace, *model, arm, prompt, tokens);
  Generation generation(options, *model, arm, tokens, limit);
  generation.run(trace && !aligned ? &*trace : nullptr, prompt.id);
  generation.report(prompt.id);
  if (trace) fmt::print(stderr, "trace: {}\n", trace->out().string());
  return 0;
}

}  // namespace

void add_run(CLI::App& app, Program& program) {
  auto o = std::make_shared<Options>();
  auto* verb = app.add_subcommand("run", "Generate text from a prompt");
  verb->add_option("--model", o->model, "Model (GGUF; default: the demo model)");
  verb->add_option("--prompt", o->prompt, "Prompt text");
  verb->add_option("--prompt-file", o->prompt_file, "Prompt file, UTF-8");
  o->chat.add_to(*verb);
  verb->add_option("--max-tokens", o->max_tokens, "Tokens to generate (default 64)")->check(at_least(0));
  verb->add_flag("--greedy", o->greedy, "Always the most likely token (default without --temp)");
  verb->add_option("--temp", o->temperature, "Temperature")->check(number_at_least_zero());
  verb->add_option("--top-k", o->sampler.top_k, "Sample from the K most likely tokens");
  verb->add_option("--top-p", o->sampler.top_p, "Sample from the smallest set of this probability");
  verb->add_option("--seed", o->sampler.seed, "Seed of sampling");
  verb->add_option("--context", o->context, "Positions of the context at most (default: the model's, or GRETA_MAX_SEQ_LEN)")
      ->check(CLI::PositiveNumber);
  verb->add_flag("--context-shift", o->context_shift,
                 "When the context is full, discard half of it, shift the rest, and go on");
  verb->add_option("--keep", o->keep,
                   "Positions that a context shift keeps, from the start (default 0, BOS always; -1: the prompt)")
      ->check(CLI::Range(-1, 1 << 30));
  verb->add_flag("--ignore-eos", o->ignore_eos, "Do not stop at the end of text");
  o->bare.add_to(*verb);
  verb->add_option("--fault", o->faults, "Plant a fault (greta faults lists them; repeatable)");
  verb->add_option("--exp", o->exp, "With a trace: E0 (default: as generated) or E1 (aligned step forced)");
  o->trace.add_to(*verb);
  verb->add_option("--logits-out", o->logits_out, "Write logits [positions, vocab] and tokens as safetensors");
  verb->add_flag("--logits-all", o->logits_all, "Logits of every prompt position, not only the last");
  verb->add_flag("--json", o->json, "Print one JSON object instead of streaming text");
  verb->callback([o, &program] { program.action = [o] { return run(*o); }; });
}

}  // namespace greta::cli
