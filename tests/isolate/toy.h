// A toy forward pass for tests: every row is a smooth function of the rows it depends on, along the true data flow of a Llama
// layer, so that an altered row spreads exactly as it would in a model. Two arms of it give captures with known truth.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "isolate/judge.h"
#include "trace/record.h"

namespace greta::test {

struct ToyOptions {
  std::string prompt = "p";
  int n = 5;  // tokens of the prompt
  int span = 1;
  int layers = 3;
  char arm = 'a';
  bool foreign = false;
  bool sketches = true;
  std::vector<std::int32_t> tokens;  // default 10, 11, 12, ...
};

/// Where a row of the toy is altered after it was computed: position, layer, stage -> added to element 0.
using ToyFaults = std::map<std::tuple<int, int, Stage>, double>;

class Toy {
 public:
  static constexpr int kWidth = 8;

  Toy(ToyOptions options, ToyFaults faults) : options_(std::move(options)), faults_(std::move(faults)) {
    if (options_.tokens.empty())
      for (int p = 0; p < options_.n + options_.span - 1; ++p) options_.tokens.push_back(10 + p);
  }

  Capture run() {
    Capture capture;
    capture.prompt_id = options_.prompt;
    capture.exp = "E1";
    capture.arm = options_.arm;
    capture.foreign = options_.foreign;
    capture.tokens = options_.tokens;
    capture.n_prompt = options_.n;
    capture.n_layers = options_.layers;
    if (!options_.foreign) {
      capture.backend = "cpu";
      capture.plan = "reference";
      capture.build = "test";
      capture.host = "here";
      capture.threads = 1;
      capture.routes = {{"matmul", "reference"}};
    }
    const int total = static_cast<int>(options_.tokens.size());
    if (options_.arm == 'a') {
      capture.schedule = {total};
      for (int p = 0; p < total; ++p) position(capture, p, Phase::prefill, 0);
    } else {
      capture.schedule = {options_.n - 1};
      for (int p = 0; p < options_.n - 1; ++p) position(capture, p, Phase::prefill, 0);
      for (int p = options_.n - 1; p < total; ++p) {
        capture.schedule.push_back(1);
        position(capture, p, Phase::decode, p - options_.n + 2);
      }
      capture.kv_slots_read_from_earlier_steps = options_.n - 1;
    }
    return capture;
  }

  static Fingerprint print(const std::vector<double>& row, bool sketch) {
    Fingerprint print;
    print.count = static_cast<std::int64_t>(row.size());
    print.sample = row;
    double squares = 0;
    print.hash = {0x1234, 0x5678};
    print.min = HUGE_VAL;
    print.max = -HUGE_VAL;
    for (std::size_t i = 0; i < row.size(); ++i) {
      print.hash.lo += (std::bit_cast<std::uint64_t>(row[i] + 0.0) ^ (i * 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;
      if (std::isnan(row[i])) {
        ++print.nan;
        continue;
      }
      print.min = std::min(print.min, row[i]);
      print.max = std::max(print.max, row[i]);
      print.mean += row[i] / static_cast<double>(row.size());
      print.abs_sum += std::abs(row[i]);
      squares += row[i] * row[i];
      if (row[i] == 0) ++print.zero;
      if (std::isinf(row[i])) ++print.inf;
    }
    print.rms = std::sqrt(squares / static_cast<double>(row.size()));
    if (sketch) {
      print.sketch.assign(4, 0.0);
      for (std::size_t i = 0; i < row.size(); ++i) print.sketch[i % 4] += (i % 3 == 0 ? -1.0 : 1.0) * row[i];
    }
    return print;
  }

 private:
  using Row = std::vector<double>;

  const Row& row(int p, int layer, Stage stage) const { return rows_.at({p, layer, stage}); }

  std::vector<Row> inputs(int p, int layer, Stage stage) const {
    const auto at = [&](Stage s) { return row(p, layer, s); };
    std::vector<Row> in;
    switch (stage) {
      case Stage::x_in:
        if (layer > 0) return {row(p, layer - 1, Stage::x_out)};
        return {Row(kWidth, 0.37 * options_.tokens[static_cast<std::size_t>(p)])};
      case Stage::attn_norm:
        return {at(Stage::x_in)};
      case Stage::q:
      case Stage::k:
      case Stage::v:
        return {at(Stage::attn_norm)};
      case Stage::q_rope:
        return {at(Stage::q)};
      case Stage::k_rope:
        return {at(Stage::k)};
      case Stage::k_cache:
        return {at(Stage::k_rope)};
      case Stage::v_cache:
        return {at(Stage::v)};
      case Stage::attn_scores:
        in.push_back(at(Stage::q_rope));
        for (int s = 0; s <= p; ++s) in.push_back(row(s, layer, Stage::k_cache));
        return in;
      case Stage::attn_probs:
        return {at(Stage::attn_scores)};
      case Stage::attn_out:
        in.push_back(at(Stage::attn_probs));
        for (int s = 0; s <= p; ++s) in.push_back(row(s, layer, Stage::v_cache));
        return in;
      case Stage::wo_out:
        return {at(Stage::attn_out)};
      case Stage::x_after_attn:
        return {at(Stage::wo_out), at(Stage::x_in)};
      case Stage::ffn_norm:
        return {at(Stage::x_after_attn)};
      case Stage::ffn_gate:
      case Stage::ffn_up:
        return {at(Stage::ffn_norm)};
      case Stage::ffn_act:
        return {at(Stage::ffn_gate), at(Stage::ffn_up)};
      case Stage::mlp_out:
        return {at(Stage::ffn_act)};
      case Stage::x_after_mlp:
        return {at(Stage::mlp_out), at(Stage::x_after_attn)};
      case Stage::x_out:
        return {at(Stage::x_after_mlp)};
      case Stage::final_rms:
        return {row(p, options_.layers - 1, Stage::x_out)};
      case Stage::lm_head_in:
        return {at(Stage::final_rms)};
      case Stage::logits:
        return {at(Stage::lm_head_in)};
      case Stage::q_norm:
      case Stage::k_norm:
      case Stage::attn_norm_q8:
      case Stage::attn_out_q8:
      case Stage::ffn_norm_q8:
      case Stage::ffn_act_q8:
      case Stage::lm_head_in_q8:
      case Stage::attn_post_norm:
      case Stage::ffn_post_norm:
      case Stage::head_out:
        break;  // the toy has none
    }
    return {};
  }

  /// In the order of data, of the stages that a plan without quantised inputs has.
  static int number_of(Stage stage) {
    int number = 0;
    for (const Stage before : all_stages()) number += before < stage && !is_quantised(before) ? 1 : 0;
    return number;
  }

  void position(Capture& capture, int p, Phase phase, int step) {
    for (int layer = 0; layer < options_.layers; ++layer)
      for (const Stage stage : all_stages())
        if (!once_per_token(stage) && stage != Stage::q_norm && stage != Stage::k_norm && stage != Stage::attn_post_norm &&
            stage != Stage::ffn_post_norm && !is_quantised(stage))
          record(capture, p, layer, stage, phase, step);
    for (const Stage stage : {Stage::final_rms, Stage::lm_head_in, Stage::logits})
      record(capture, p, options_.layers, stage, phase, step);
  }

  void record(Capture& capture, int p, int layer, Stage stage, Phase phase, int step) {
    Row out(kWidth);
    const auto in = inputs(p, layer, stage);
    for (int i = 0; i < kWidth; ++i) {
      double sum = 0.1 * number_of(stage) + 0.7 * layer + 0.3 * i;
      for (std::size_t s = 0; s < in.size(); ++s)
        sum += in[s][static_cast<std::size_t>(i)] + 0.5 * in[s][0] * (1.0 + 0.1 * static_cast<double>(s));
      out[static_cast<std::size_t>(i)] = 1.5 + std::sin(sum);
    }
    if (const auto fault = faults_.find({p, layer, stage}); fault != faults_.end()) out[0] += fault->second;
    rows_[{p, layer, stage}] = out;
    StageRecord one;
    one.stage = stage;
    one.layer = layer;
    one.position = p;
    one.token_id = options_.tokens[static_cast<std::size_t>(p)];
    one.phase = phase;
    one.step = step;
    one.dtype = DType::f64;
    one.route = "reference";
    one.operands.emplace_back().argument = "x";
    one.print = print(out, options_.sketches);
    if (stage == Stage::logits) logits(capture, one, out);
    capture.records.push_back(std::move(one));
  }

  static void logits(Capture& capture, const StageRecord& one, const Row& out) {
    LogitsRecord logits;
    logits.position = one.position;
    logits.token_id = one.token_id;
    logits.phase = one.phase;
    logits.step = one.step;
    logits.hash = one.print.hash;
    logits.mean = one.print.mean;
    logits.min = one.print.min;
    logits.max = one.print.max;
    logits.vocab = kWidth;
    for (int i = 0; i < kWidth; ++i) {
      const double x = out[static_cast<std::size_t>(i)];
      if (logits.top1_id < 0 || x > logits.top1_logit) {
        logits.top2_id = logits.top1_id;
        logits.top2_logit = logits.top1_logit;
        logits.top1_id = i;
        logits.top1_logit = x;
      } else if (logits.top2_id < 0 || x > logits.top2_logit) {
        logits.top2_id = i;
        logits.top2_logit = x;
      }
    }
    capture.logits.push_back(logits);
  }

  ToyOptions options_;
  ToyFaults faults_;
  std::map<std::tuple<int, int, Stage>, Row> rows_;
};

/// Arms A and B of one prompt as `isolate` orders them; `faults` in arm B alone.
inline isolate::PromptPair toy_pair(ToyOptions options = {}, const ToyFaults& faults = {}) {
  isolate::PromptPair pair;
  options.arm = 'a';
  pair.a = Toy(options, {}).run();
  options.arm = 'b';
  pair.b = Toy(options, faults).run();
  if (!options.foreign) {
    pair.declared_schedule_a = pair.a.schedule;
    pair.declared_schedule_b = pair.b.schedule;
    pair.n_positions = options.n + options.span - 1;
  }
  return pair;
}

/// Runs arm B of the toy again with the control's perturbation, and gives the records of its step.
inline isolate::ControlRunner toy_controls(const ToyOptions& options, const ToyFaults& faults = {}) {
  return [options, faults](const isolate::ControlSpec& spec) {
    ToyOptions of_b = options;
    of_b.arm = 'b';
    of_b.prompt = spec.prompt_id;
    ToyFaults all = faults;
    all[{spec.position, spec.layer, spec.stage}] += spec.delta.value_or(0) + (spec.ulps ? 1e-15 : 0);
    Capture whole = Toy(of_b, all).run();
    Capture step = whole;
    step.records.clear();
    for (const StageRecord& record : whole.records)
      if (record.position == spec.position) step.records.push_back(record);
    return step;
  };
}

}  // namespace greta::test
