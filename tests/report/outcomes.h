// Outcomes with the numbers of the original report, and of runs that end otherwise, for the tests of what is written of them.
#pragma once

#include <string>

#include "isolate/align.h"
#include "isolate/outcome.h"

namespace greta::test {

inline isolate::Outcome frame() {
  isolate::Outcome outcome;
  outcome.experiment.title = "B3.41 Post-WO Collapse Isolation (prefill_last vs decode0)";
  outcome.run.source = isolate::Source::isolate;
  outcome.run.model_path = "models/greta-demo.gguf";
  outcome.run.model_hash = "0123456789abcdef0123456789abcdef";
  outcome.run.build = "0.1.0";
  outcome.run.date = "2026-02-07";
  outcome.run.command = "greta isolate --fault b3_41";
  outcome.run.next_base = "greta isolate --fault b3_41";
  outcome.run.run_dir = "artifacts/alignment/2026-02-07/b3_41";
  outcome.run.analyze_command = "greta analyze --dir artifacts/alignment/2026-02-07/b3_41 --out b3_41_analysis.txt";
  for (isolate::ArmOutcome* arm : {&outcome.a, &outcome.b}) {
    arm->backend = "cpu";
    arm->plan = "reference";
    arm->build = "0.1.0";
    arm->host = "node7";
    arm->threads = 2;
    arm->routes = {{"matmul", "reference"}, {"rmsnorm", "reference"}};
  }
  outcome.a.schedules = {{"p0_short", {3}}};
  outcome.b.schedules = {{"p0_short", {2, 1}}};
  return outcome;
}

inline isolate::PromptOutcome healthy_prompt(const std::string& id, int tokens, int top1) {
  isolate::PromptOutcome prompt;
  prompt.id = id;
  prompt.n_tokens = tokens;
  prompt.bit_equality_claimed = true;
  prompt.judgement = {isolate::Reason::bit_equal, "483 of 483 keys are bit-equal"};
  prompt.keys = {483, 483, 483, 0, 0, 0};
  prompt.compared_stages = {Stage::x_in, Stage::x_after_attn, Stage::ffn_norm, Stage::logits};
  prompt.schedule_a = {tokens};
  prompt.schedule_b = {tokens - 1, 1};
  prompt.kv_slots_read = tokens - 1;
  prompt.table.first_mismatch_stage = "NONE";
  prompt.table.layer = 0;
  for (const Stage stage : all_stages())
    for (const auto set : {post_wo_stages(), witness_stages()})
      for (const Stage one : set)
        if (one == stage) prompt.table.mae.emplace_back(stage, 0.0);
  prompt.table.logits_mean_delta = 0.0;
  prompt.table.prefill_last_top1 = prompt.table.decode0_top1 = top1;
  prompt.table.collapse = false;
  prompt.top_a = prompt.top_b = isolate::TopTokens{top1, 5, 12.5, 10.25, false};
  return prompt;
}

inline isolate::ControlResult control(Stage stage, bool found, bool in_memory = false) {
  isolate::ControlResult result;
  result.spec.prompt_id = "p0_short";
  result.spec.stage = stage;
  result.spec.layer = 1;
  result.spec.position = 2;
  result.spec.index = 7;
  result.spec.ulps = 1;
  result.found = found;
  result.in_memory = in_memory;
  result.met = "a";
  result.where = found ? isolate::place(stage, 1, 2) : "nothing";
  return result;
}

inline isolate::Outcome healthy() {
  isolate::Outcome outcome = frame();
  outcome.run.command = outcome.run.next_base = "greta isolate";
  outcome.prompts = {healthy_prompt("p0_short", 3, 11), healthy_prompt("p4_sys", 41, 42)};
  outcome.keys = {966, 966, 966, 0, 0, 0};
  outcome.controls = {control(Stage::ffn_norm, true), control(Stage::logits, true)};
  outcome.judgement = {isolate::Reason::bit_equal, "966 of 966 keys of 2 prompts are bit-equal"};
  outcome.next_command = "greta isolate --fault b3_41";
  return outcome;
}

inline isolate::PromptOutcome diverged_prompt(const std::string& id, int tokens, double ffn, double mlp, double after,
                                              double out, int top_a, int top_b) {
  isolate::PromptOutcome prompt = healthy_prompt(id, tokens, top_b);
  prompt.judgement = {isolate::Reason::above_threshold, "ffn_norm layer 0: MAE"};
  isolate::Mismatch first;
  first.stage = Stage::ffn_norm;
  first.layer = 0;
  first.position = tokens - 1;
  first.step = 1;
  first.above_threshold = true;
  first.difference.mae = ffn;
  first.difference.max_abs = 4 * ffn;
  first.difference.max_index = 17;
  first.difference.rms = ffn;
  first.difference.rel = 0.25;
  first.difference.cosine = 0.5;
  first.difference.slice_n = 1024;
  first.route_a = first.route_b = "reference";
  isolate::OperandEvidence x;
  x.name = "x";
  x.same_origin = false;
  x.b_is_what_was_written = false;
  x.a = isolate::place(Stage::x_after_attn, 0, tokens - 1);
  x.b = isolate::place(Stage::x_after_attn, 0, 0);
  x.read_a = x.due = isolate::StageRow{Stage::x_after_attn, 0, tokens - 1};
  x.read_b = isolate::StageRow{Stage::x_after_attn, 0, 0};
  isolate::OperandEvidence weight;
  weight.name = "weight";
  weight.equal = true;
  weight.a = weight.b = "blk.0.ffn_norm.weight f32 row_major";
  first.operands = {x, weight};
  prompt.first = first;
  prompt.minimal = {first};
  prompt.inherited = 26;
  prompt.inherited_stages = {Stage::mlp_out, Stage::x_out, Stage::logits};
  prompt.keys = {483, 483, 456, 0, 0, 27};
  auto& row = prompt.table;
  row.first_mismatch_stage = "ffn_norm";
  row.first_mismatch_layer = 0;
  row.first_mismatch_pos = tokens - 1;
  for (auto& [stage, mae] : row.mae) {
    if (stage == Stage::ffn_norm) mae = ffn;
    if (stage == Stage::mlp_out) mae = mlp;
    if (stage == Stage::x_after_mlp) mae = after;
    if (stage == Stage::x_out) mae = out;
    if (stage == Stage::final_rms || stage == Stage::lm_head_in) mae = 1e-05;
  }
  row.logits_mean_delta = -0.125;
  row.prefill_last_top1 = top_a;
  row.decode0_top1 = top_b;
  row.collapse = true;
  prompt.top_a = isolate::TopTokens{top_a, 5, 12.5, 10.25, false};
  prompt.top_b = isolate::TopTokens{top_b, 9, 8.5, 8.25, false};
  return prompt;
}

/// The table of the original report, row by row.
inline isolate::Outcome diverged() {
  isolate::Outcome outcome = frame();
  outcome.b.fault_planted = true;
  outcome.prompts = {diverged_prompt("p0_short", 3, 0.1533, 0.3590, 0.3593, 0.3593, 96965, 96965),
                     diverged_prompt("p4_sys", 41, 0.1675, 0.3159, 0.3173, 0.3173, 93590, 96965),
                     diverged_prompt("p6_long", 385, 0.1539, 0.6088, 0.6086, 0.6086, 99668, 96965)};
  outcome.prompts[2].cut_from = 600;
  outcome.keys = {1449, 1449, 1368, 0, 0, 81};
  outcome.controls = {control(Stage::ffn_norm, true), control(Stage::logits, true)};
  outcome.collapse = {96965, isolate::CollapseRule::attractor, true, 3};
  outcome.judgement = {isolate::Reason::above_threshold, "p0_short: ffn_norm layer 0 position 2: MAE 1.533e-01"};
  outcome.cause.state = isolate::CauseState::unexplained;
  outcome.next_command = "greta isolate --fault b3_41 --layers 0 --plan float64";
  return outcome;
}

/// A healthy pair of arms whose control was missed.
inline isolate::Outcome vacuous() {
  isolate::Outcome outcome = healthy();
  outcome.controls[1] = control(Stage::logits, false);
  outcome.judgement = {isolate::Reason::control_not_found, "p0_short: 1 ulp planted at logits position 2, found at nothing"};
  outcome.next_command = "greta doctor";
  return outcome;
}

/// A capture of another engine: misaligned, and without a description of its arms.
inline isolate::Outcome misaligned() {
  isolate::Outcome outcome = frame();
  outcome.run.source = isolate::Source::compare;
  outcome.run.command = outcome.run.next_base = "greta compare a.jsonl b.jsonl";
  outcome.run.run_dir.clear();
  outcome.run.analyze_command.clear();
  outcome.run.model_path.clear();
  outcome.a = outcome.b = {};
  outcome.a.foreign = outcome.b.foreign = true;
  isolate::PromptOutcome prompt;
  prompt.id = "theirs";
  prompt.judgement = {isolate::Reason::misaligned, "position 4: token 17 in A, 18 in B"};
  prompt.table.first_mismatch_stage = "INCONCLUSIVE";
  prompt.keys.expected = 12;
  for (const Stage stage : all_stages())
    for (const auto set : {post_wo_stages(), witness_stages()})
      for (const Stage one : set)
        if (one == stage) prompt.table.mae.emplace_back(stage, std::nullopt);
  outcome.prompts = {prompt};
  outcome.keys = prompt.keys;
  outcome.judgement = {isolate::Reason::misaligned, "theirs: position 4: token 17 in A, 18 in B"};
  outcome.next_command = "greta compare a.jsonl b.jsonl";
  return outcome;
}

}  // namespace greta::test
