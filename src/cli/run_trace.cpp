#include "cli/run_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/error.h"
#include "core/quote.h"
#include "trace/jsonl.h"

namespace greta::cli {
namespace {

std::int64_t sample_from(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1 || value > (1 << 20))
    fail("GRETA_TRACE_POST_WO_SAMPLE={}: not a number of elements from 1 to {}", quote(text), 1 << 20);
  return value;
}

}  // namespace

void TraceFlags::add_to(CLI::App& verb) {
  verb.add_option("--trace-stages", stages, "Trace these stages: all, post_wo, witnesses, or names: ffn_norm,mlp_out");
  verb.add_option("--trace-layers", layers, "Layers of the trace: all (default), or 0,3,-1");
  verb.add_option("--trace-phases", phases,
                  "prefill, prefill_last, decode, decode0, decode1, ... (default prefill_last,decode)");
  verb.add_option("--trace-sample", sample, "Elements of a row's slice (default 1024)")->check(CLI::Range(1, 1 << 20));
  verb.add_option("--trace-out", out, "JSONL file (default b3_41_post_wo_<prompt>_<exp>.jsonl)");
  verb.add_flag("--trace-full", full, "Also write every traced row whole, as safetensors beside the JSONL");
}

std::optional<TracePlan> TracePlan::from(const TraceFlags& flags, const Environment& env, const std::string& prompt_id,
                                         isolate::ExpMode exp, int n_layers) {
  const bool by_flag = !flags.stages.empty() || !flags.layers.empty() || !flags.phases.empty() || !flags.out.empty() ||
                       flags.sample >= 0 || flags.full;
  if (!by_flag && !env.trace_post_wo) return std::nullopt;
  TracePlan plan;
  if (!flags.stages.empty()) {
    plan.stages_ = isolate::parse_stages(flags.stages);
  } else if (env.trace_post_wo) {
    plan.stages_.assign(witness_stages().begin(), witness_stages().end());
    plan.stages_.insert(plan.stages_.end(), post_wo_stages().begin(), post_wo_stages().end());
    plan.stages_.push_back(Stage::logits);
  }
  const std::string layers = !flags.layers.empty() ? flags.layers : env.layers.value_or("all");
  plan.layers_ = isolate::LayerSelection::parse(layers);
  if (!plan.layers_.all)
    for (const int layer : plan.layers_.resolve(n_layers)) plan.layer_numbers_.push_back(layer);
  if (flags.sample >= 0) {
    plan.sample_ = flags.sample;
  } else if (env.sample) {
    plan.sample_ = sample_from(*env.sample);
  }
  if (const std::string phases = !flags.phases.empty() ? flags.phases : env.phases.value_or(""); !phases.empty()) {
    plan.prefill_last_ = plan.all_decode_ = false;
    for (std::size_t begin = 0; begin <= phases.size();) {
      const std::size_t comma = std::min(phases.find(',', begin), phases.size());
      const std::string_view phase = std::string_view(phases).substr(begin, comma - begin);
      begin = comma + 1;
      std::int32_t step = 0;
      if (phase == "prefill") {
        plan.all_prefill_ = true;
      } else if (phase == "prefill_last") {
        plan.prefill_last_ = true;
      } else if (phase == "decode") {
        plan.all_decode_ = true;
      } else if (const char* end = phase.data() + phase.size();
                 phase.starts_with("decode") && std::from_chars(phase.data() + 6, end, step).ptr == end && step >= 0) {
        plan.decode_steps_.insert(step);
      } else {
        fail("phase {} is not known; use prefill, prefill_last, decode, decode0, decode1, ...", quote(phase));
      }
    }
  }
  plan.full_ = flags.full;
  plan.out_ = !flags.out.empty() ? flags.out
              : env.out          ? *env.out
                                 : fmt::format("b3_41_post_wo_{}_{}.jsonl", prompt_id, isolate::name(exp));
  return plan;
}

RecorderOptions TracePlan::options(std::int32_t n_prompt) const {
  RecorderOptions options;
  options.stages = stages_;
  options.layers = layer_numbers_;
  options.sample = sample_;
  options.detail_from = all_prefill_ ? 0 : n_prompt - 1;
  options.prefill = all_prefill_ || prefill_last_;
  options.decode = all_decode_ || !decode_steps_.empty();
  options.full = full_;
  return options;
}

void TracePlan::keep_wanted(Capture& capture, std::int32_t first_decode) const {
  const auto unwanted = [&](Phase phase, std::int32_t position) {
    if (phase == Phase::decode) return !all_decode_ && !decode_steps_.contains(position - first_decode);
    return !all_prefill_ && !(prefill_last_ && position == capture.n_prompt - 1);
  };
  std::erase_if(capture.records, [&](const StageRecord& record) { return unwanted(record.phase, record.position); });
  std::erase_if(capture.logits, [&](const LogitsRecord& logits) { return unwanted(logits.phase, logits.position); });
}

std::pair<Capture, Capture> TracePlan::split(Capture capture) {
  Capture decode = capture;
  capture.arm = 'a';
  decode.arm = 'b';
  const auto of = [](Phase phase) { return [phase](const auto& record) { return record.phase == phase; }; };
  std::erase_if(capture.records, of(Phase::decode));
  std::erase_if(capture.logits, of(Phase::decode));
  std::erase_if(decode.records, of(Phase::prefill));
  std::erase_if(decode.logits, of(Phase::prefill));
  return {std::move(capture), std::move(decode)};
}

void TracePlan::write(const Capture& a, const Capture& b, isolate::ExpMode exp) const {
  write_jsonl(out_, a, b, {}, isolate::alignment_flags(exp));
}

}  // namespace greta::cli
