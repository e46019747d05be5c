#include "isolate/align.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>
#include <utility>

#include "isolate/metrics.h"

namespace greta::isolate {
namespace {

constexpr std::size_t kMissingListed = 8;

bool before_in_index(const StageRecord* left, const StageRecord* right) {
  return std::tuple(key_of(*left), left->reread, left->step) < std::tuple(key_of(*right), right->reread, right->step);
}

bool before_in_run(const RecordPair& left, const RecordPair& right) {
  const auto order = [](const RecordPair& pair) {
    const Key key = key_of(*pair.b);
    return std::tuple(pair.b->step, key.layer, key.stage, key.position, pair.a->step);
  };
  return order(left) < order(right);
}

bool selected(const StageRecord& record, const ExperimentSpec& spec, int n_layers) {
  if (!spec.wants(record.stage)) return false;
  return once_per_token(record.stage) || spec.layers.holds(record.layer, n_layers);
}

std::set<std::int32_t> positions_of(const Capture& capture) {
  std::set<std::int32_t> positions;
  for (const StageRecord& record : capture.records)
    if (!record.reread) positions.insert(record.position);
  return positions;
}

/// Walks the keys of both indices in order: `visit(key, record of a or nullptr, record of b or nullptr)`.
template <class Visit>
void walk_keys(const RecordIndex& in_a, const RecordIndex& in_b, Visit&& visit) {
  auto a = in_a.records().begin();
  auto b = in_b.records().begin();
  const auto end_a = in_a.records().end();
  const auto end_b = in_b.records().end();
  while (a != end_a || b != end_b) {
    Key key;
    if (a == end_a) {
      key = key_of(**b);
    } else if (b == end_b) {
      key = key_of(**a);
    } else {
      key = std::min(key_of(**a), key_of(**b));
    }
    const StageRecord* of_a = a != end_a && key_of(**a) == key ? *a : nullptr;
    const StageRecord* of_b = b != end_b && key_of(**b) == key ? *b : nullptr;
    visit(key, of_a, of_b);
    while (a != end_a && key_of(**a) == key) ++a;
    while (b != end_b && key_of(**b) == key) ++b;
  }
}

void note_missing(Alignment& alignment, std::string what) {
  ++alignment.missing_count;
  if (alignment.missing.size() < kMissingListed) alignment.missing.push_back(std::move(what));
}

void note_not_exposed(Alignment& alignment, const StageRecord& record, char arm) {
  std::string text = record.route.empty() ? fmt::format("{} in {}", name(record.stage), arm)
                                          : fmt::format("{} in {} (route {})", name(record.stage), arm, record.route);
  if (std::find(alignment.not_exposed.begin(), alignment.not_exposed.end(), text) == alignment.not_exposed.end())
    alignment.not_exposed.push_back(std::move(text));
}

void note_absent(Alignment& alignment, const StageRecord& record, char arm) {
  std::string text = fmt::format("{} in {} (not quantised)", name(record.stage), arm);
  if (std::find(alignment.not_exposed.begin(), alignment.not_exposed.end(), text) == alignment.not_exposed.end())
    alignment.not_exposed.push_back(std::move(text));
}

/// Layers of whose activations the arm has codes.
std::set<std::pair<Stage, std::int32_t>> quantised_stages(const RecordIndex& index) {
  std::set<std::pair<Stage, std::int32_t>> stages;
  for (const StageRecord* record : index.records())
    if (is_quantised(record->stage)) stages.emplace(record->stage, record->layer);
  return stages;
}

bool hidden(const StageRecord* record) { return record != nullptr && record->exposure == Exposure::not_exposed; }

/// Every record of B meets A's of the key; a slot that a later step of A found changed meets B's.
void add_pairs(Alignment& alignment, const RecordIndex& in_a, const RecordIndex& in_b, const Key& key) {
  const auto of_a = in_a.all(key);
  const auto of_b = in_b.all(key);
  for (const StageRecord* b : of_b) alignment.pairs.push_back({of_a.front(), b, b->reread && !of_a.front()->reread});
  for (const StageRecord* a : of_a.subspan(1))
    if (a->reread) alignment.pairs.push_back({a, of_b.front(), true});
}

std::optional<std::string> token_conflict(const Capture& a, const Capture& b) {
  if (a.n_prompt > 0 && b.n_prompt > 0 && a.n_prompt != b.n_prompt)
    return fmt::format("the prompt has {} tokens in A, {} in B", a.n_prompt, b.n_prompt);
  const std::size_t n = std::min(a.tokens.size(), b.tokens.size());
  for (std::size_t p = 0; p < n; ++p)
    if (a.tokens[p] != b.tokens[p]) return fmt::format("position {}: token {} in A, {} in B", p, a.tokens[p], b.tokens[p]);
  return std::nullopt;
}

std::optional<std::string> token_conflict(const Alignment& alignment) {
  for (const auto& [a, b, reread] : alignment.pairs)
    if (a->token_id >= 0 && b->token_id >= 0 && a->token_id != b->token_id)
      return fmt::format("position {}: token {} in A, {} in B (at {})", a->position, a->token_id, b->token_id,
                         place(a->stage, a->layer, a->position));
  return std::nullopt;
}

/// Two engines may round an embedding row differently in its last bit, so equal means to 1e-6 of its RMS where slices tell.
bool same_input(const Thresholds& thresholds, const StageRecord& a, const StageRecord& b) {
  const Difference d = difference(a, b);
  if (d.bit_equal) return true;
  if (d.nan_a > 0 || d.counts_differ || !d.max_abs || *d.max_abs == 0) return false;
  return *d.max_abs <= 1e-6 * a.print.rms && !above(thresholds, Stage::x_in, d);
}

/// Captures that are not ours: token ids are what their writer says, so equal inputs must show it.
std::optional<std::string> input_conflict(const Alignment& alignment, const RecordIndex& in_a, const RecordIndex& in_b,
                                          const Thresholds& thresholds) {
  std::set<std::int32_t> positions;
  for (const auto& pair : alignment.pairs)
    if (!pair.reread) positions.insert(pair.a->position);
  for (const std::int32_t position : positions) {
    const Key key{position, 0, Stage::x_in};
    const StageRecord* a = in_a.find(key);
    const StageRecord* b = in_b.find(key);
    if (a == nullptr || b == nullptr)
      return fmt::format(
          "position {}: layer-0 x_in was not recorded in {}, so nothing shows that both arms read the same token", position,
          a == nullptr ? (b == nullptr ? "A and B" : "A") : "B");
    if (!same_input(thresholds, *a, *b)) {
      const Difference d = difference(*a, *b);
      const std::string types =
          dtypes_differ(*a, *b) ? fmt::format(", {} in A, {} in B", name(*a->dtype), name(*b->dtype)) : std::string();
      return fmt::format("position {}: layer-0 x_in differs (MAE {:.3e}{}), so the arms did not read the same token", position,
                         d.mae.value_or(0), types);
    }
  }
  return std::nullopt;
}

StageRecord row_of(const LogitsRecord& logits, std::int32_t n_layers) {
  StageRecord record;
  record.stage = Stage::logits;
  record.layer = n_layers;
  record.position = logits.position;
  record.token_id = logits.token_id;
  record.phase = logits.phase;
  record.step = logits.step;
  record.print.hash = logits.hash;
  record.print.whole_row = logits.has_hash;
  record.print.count = logits.vocab;
  record.print.mean = logits.mean;
  record.print.min = logits.min;
  record.print.max = logits.max;
  return record;
}

}  // namespace

Key key_of(const StageRecord& record) {
  return {record.position, once_per_token(record.stage) ? kAfterLayers : record.layer, record.stage};
}

std::string place(Stage stage, int layer, int position) {
  if (once_per_token(stage)) return fmt::format("{} position {}", name(stage), position);
  return fmt::format("{} layer {} position {}", name(stage), layer, position);
}

RecordIndex::RecordIndex(const Capture& capture) {
  std::set<std::int32_t> has_row;
  records_.reserve(capture.records.size() + capture.logits.size());
  for (const StageRecord& record : capture.records) {
    records_.push_back(&record);
    if (record.stage == Stage::logits) has_row.insert(record.position);
  }
  from_logits_.reserve(capture.logits.size());
  for (const LogitsRecord& logits : capture.logits)
    if (!has_row.contains(logits.position) && (logits.has_hash || !std::isnan(logits.mean)))
      from_logits_.push_back(row_of(logits, capture.n_layers));
  for (const StageRecord& record : from_logits_) records_.push_back(&record);
  std::stable_sort(records_.begin(), records_.end(), before_in_index);
}

std::span<const StageRecord* const> RecordIndex::all(const Key& key) const {
  const auto first = std::lower_bound(records_.begin(), records_.end(), key,
                                      [](const StageRecord* record, const Key& wanted) { return key_of(*record) < wanted; });
  auto last = first;
  while (last != records_.end() && key_of(**last) == key) ++last;
  return {first, last};
}

const StageRecord* RecordIndex::find(const Key& key) const {
  const auto found = all(key);
  return found.empty() ? nullptr : found.front();
}

std::int32_t last_prompt_position(const Capture& a, const Capture& b) {
  if (a.n_prompt > 0) return a.n_prompt - 1;
  if (b.n_prompt > 0) return b.n_prompt - 1;
  std::set<std::int32_t> positions;
  for (const StageRecord& record : a.records) positions.insert(record.position);
  for (const LogitsRecord& logits : a.logits) positions.insert(logits.position);
  std::int32_t last = -1;
  for (const StageRecord& record : b.records)
    if (positions.contains(record.position)) last = std::max(last, record.position);
  for (const LogitsRecord& logits : b.logits)
    if (positions.contains(logits.position)) last = std::max(last, logits.position);
  return last;
}

Alignment align(const Capture& a, const RecordIndex& in_a, const Capture& b, const RecordIndex& in_b,
                const ExperimentSpec& spec, std::int32_t n_positions) {
  Alignment alignment;
  const int n_layers = std::max(a.n_layers, b.n_layers);
  const std::set<std::int32_t> at_a = positions_of(a);
  const std::set<std::int32_t> at_b = positions_of(b);
  const auto quantised_a = quantised_stages(in_a), quantised_b = quantised_stages(in_b);
  const auto wanted = [&](std::int32_t position) {
    return n_positions > 0 ? position < n_positions : at_a.contains(position) && at_b.contains(position);
  };
  for (std::int32_t position = 0; position < n_positions; ++position) {
    if (at_a.contains(position) || at_b.contains(position)) continue;
    ++alignment.expected;
    note_missing(alignment, fmt::format("position {} in A and B", position));
  }
  walk_keys(in_a, in_b, [&](const Key& key, const StageRecord* of_a, const StageRecord* of_b) {
    const StageRecord& some = of_a != nullptr ? *of_a : *of_b;
    if (!selected(some, spec, n_layers)) return;
    if (hidden(of_a) || hidden(of_b)) {
      if (hidden(of_a)) note_not_exposed(alignment, *of_a, 'A');
      if (hidden(of_b)) note_not_exposed(alignment, *of_b, 'B');
      return;
    }
    const bool both = of_a != nullptr && of_b != nullptr;
    if (!both && is_quantised(some.stage) &&
        !(of_a == nullptr ? quantised_a : quantised_b).contains({some.stage, some.layer})) {
      note_absent(alignment, some, of_a == nullptr ? 'A' : 'B');  // its plan computes without it
      return;
    }
    if (!both && (!wanted(key.position) || some.reread)) return;
    ++alignment.expected;
    if (both) {
      ++alignment.compared;
      add_pairs(alignment, in_a, in_b, key);
    } else {
      note_missing(alignment, fmt::format("{} in {}", place(key.stage, key.layer, key.position), of_a == nullptr ? 'A' : 'B'));
    }
  });
  std::sort(alignment.pairs.begin(), alignment.pairs.end(), before_in_run);
  std::optional<std::string> conflict = token_conflict(a, b);
  if (!conflict) conflict = token_conflict(alignment);
  if (!conflict && (a.foreign || b.foreign)) conflict = input_conflict(alignment, in_a, in_b, spec.thresholds);
  if (conflict) alignment.misaligned = Judgement{Reason::misaligned, *conflict};
  return alignment;
}

Alignment align_as_designed(const Capture& a, const RecordIndex& in_a, const Capture& b, const RecordIndex& in_b,
                            const ExperimentSpec& spec) {
  Alignment alignment;
  const int n_layers = std::max(a.n_layers, b.n_layers);
  const std::int32_t last = a.n_prompt > 0 ? a.n_prompt - 1 : last_prompt_position(a, b);
  const StageRecord* first_decoded = nullptr;
  for (const StageRecord* record : in_b.records())
    if (record->phase == Phase::decode && !record->reread && (first_decoded == nullptr || record->step < first_decoded->step))
      first_decoded = record;
  if (first_decoded == nullptr) return alignment;
  for (const StageRecord* of_b : in_b.records()) {
    if (of_b->position != first_decoded->position || of_b->reread || !selected(*of_b, spec, n_layers)) continue;
    const Key key = key_of(*of_b);
    const StageRecord* of_a = in_a.find({last, key.layer, key.stage});
    if (hidden(of_b)) {
      note_not_exposed(alignment, *of_b, 'B');
      continue;
    }
    if (hidden(of_a)) {
      note_not_exposed(alignment, *of_a, 'A');
      continue;
    }
    ++alignment.expected;
    if (of_a == nullptr) {
      note_missing(alignment, fmt::format("{} in A", place(of_b->stage, of_b->layer, last)));
      continue;
    }
    ++alignment.compared;
    alignment.pairs.push_back({of_a, of_b, false});
  }
  std::sort(alignment.pairs.begin(), alignment.pairs.end(), before_in_run);
  return alignment;
}

}  // namespace greta::isolate
