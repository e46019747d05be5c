#include "isolate/table.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace greta::isolate {
namespace {

const LogitsRecord* logits_at(const Capture& capture, std::int32_t position) {
  const LogitsRecord* found = nullptr;
  for (const LogitsRecord& logits : capture.logits)
    if (logits.position == position && (found == nullptr || logits.step < found->step)) found = &logits;
  return found;
}

std::int32_t decode0_position(const Capture& b, std::int32_t last, ExpMode exp) {
  if (exp == ExpMode::aligned) return last;
  const StageRecord* first = nullptr;
  for (const StageRecord& record : b.records)
    if (record.phase == Phase::decode && !record.reread && (first == nullptr || record.step < first->step)) first = &record;
  return first == nullptr ? last : first->position;
}

int first_common_layer(const RecordIndex& in_a, std::int32_t at_a, const RecordIndex& in_b, std::int32_t at_b) {
  for (const StageRecord* record : in_a.records())
    if (record->position == at_a && !once_per_token(record->stage) &&
        in_b.find({at_b, record->layer, record->stage}) != nullptr)
      return record->layer;
  return -1;
}

TopTokens top_of(const LogitsRecord& logits) {
  return {logits.top1_id, logits.top2_id, logits.top1_logit, logits.top2_logit, logits.tie};
}

bool has_attractor(const std::vector<PromptOutcome>& prompts, std::int64_t id) {
  int rows = 0, others = 0, measured = 0;
  for (const PromptOutcome& prompt : prompts) {
    if (!prompt.table.decode0_top1) continue;
    ++measured;
    if (*prompt.table.decode0_top1 != id) continue;
    ++rows;
    if (prompt.table.prefill_last_top1 && *prompt.table.prefill_last_top1 != id) ++others;
  }
  return others > 0 && (rows >= 2 || measured == 1);
}

}  // namespace

void measure_table(const PromptPair& pair, const RecordIndex& in_a, const RecordIndex& in_b, ExpMode exp,
                   std::optional<int> layer, PromptOutcome& prompt) {
  TableRow& row = prompt.table;
  const std::int32_t at_a = last_prompt_position(pair.a, pair.b);
  const std::int32_t at_b = decode0_position(pair.b, at_a, exp);
  row.layer = layer ? *layer : first_common_layer(in_a, at_a, in_b, at_b);
  for (const Stage stage : all_stages()) {
    const auto in = [stage](std::span<const Stage> set) { return std::find(set.begin(), set.end(), stage) != set.end(); };
    if (!in(post_wo_stages()) && !in(witness_stages())) continue;
    const std::int32_t at_layer = once_per_token(stage) ? kAfterLayers : row.layer;
    const StageRecord* a = in_a.find({at_a, at_layer, stage});
    const StageRecord* b = in_b.find({at_b, at_layer, stage});
    const bool both = a != nullptr && b != nullptr;
    row.mae.emplace_back(stage, both ? slice_mae(a->print.sample, b->print.sample) : std::nullopt);
  }
  const LogitsRecord* a = logits_at(pair.a, at_a);
  const LogitsRecord* b = logits_at(pair.b, at_b);
  if (a != nullptr) {
    prompt.top_a = top_of(*a);
    row.prefill_last_top1 = a->top1_id;
  }
  if (b != nullptr) {
    prompt.top_b = top_of(*b);
    row.decode0_top1 = b->top1_id;
  }
  if (a != nullptr && b != nullptr && !std::isnan(a->mean) && !std::isnan(b->mean)) row.logits_mean_delta = b->mean - a->mean;
}

Collapse judge_collapse(std::vector<PromptOutcome>& prompts, std::optional<std::int64_t> given) {
  Collapse collapse;
  std::map<std::int64_t, int> rows;
  for (const PromptOutcome& prompt : prompts)
    if (prompt.table.decode0_top1) ++rows[*prompt.table.decode0_top1];
  if (given) {
    collapse.id = *given;
    collapse.rule = CollapseRule::given;
  } else {
    int most = 1;
    for (const auto& [id, count] : rows) {
      if (count <= most || !has_attractor(prompts, id)) continue;
      most = count;
      collapse.id = id;
      collapse.rule = CollapseRule::attractor;
    }
  }
  collapse.value = has_attractor(prompts, collapse.id);
  if (const auto found = rows.find(collapse.id); found != rows.end()) collapse.rows = found->second;
  for (PromptOutcome& prompt : prompts)
    if (prompt.table.decode0_top1) prompt.table.collapse = *prompt.table.decode0_top1 == collapse.id;
  return collapse;
}

}  // namespace greta::isolate
