#include "engine/kv_sequence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "core/error.h"
#include "engine/forward.h"

namespace greta {

void KvHeld::set(RowId token, bool held) {
  std::vector<bool>& positions = held_[token.seq];
  const auto at = static_cast<std::size_t>(token.position);
  if (held && at >= positions.size()) positions.resize(at + 1);
  if (at < positions.size()) positions[at] = held;
  while (!positions.empty() && !positions.back()) positions.pop_back();
}

bool KvHeld::holds(RowId token) const {
  const auto found = held_.find(token.seq);
  return found != held_.end() && token.position >= 0 && static_cast<std::size_t>(token.position) < found->second.size() &&
         found->second[static_cast<std::size_t>(token.position)];
}

std::int32_t KvHeld::end(std::int32_t seq) const {
  const auto found = held_.find(seq);
  return found == held_.end() ? 0 : static_cast<std::int32_t>(found->second.size());
}

std::int32_t KvHeld::first_gap(std::int32_t seq) const {
  const auto found = held_.find(seq);
  if (found == held_.end()) return 0;
  return static_cast<std::int32_t>(std::find(found->second.begin(), found->second.end(), false) - found->second.begin());
}

std::vector<std::int32_t> KvHeld::sequences() const {
  std::vector<std::int32_t> known;
  for (const auto& [seq, positions] : held_)
    if (!positions.empty()) known.push_back(seq);
  return known;
}

std::string KvHeld::text(std::int32_t seq) const {
  std::string out;
  const std::int32_t n = end(seq);
  for (std::int32_t p = 0; p < n; ++p) {
    if (!holds({seq, p})) continue;
    std::int32_t last = p;
    while (holds({seq, last + 1})) ++last;
    out += (out.empty() ? "positions " : ", ") + (last > p ? fmt::format("{}..{}", p, last) : fmt::format("{}", p));
    p = last;
  }
  return out.empty() ? "nothing" : out;
}

void KvSequences::check_history(std::span<const RowId> rows) const {
  std::map<std::int32_t, std::int32_t> next;  // sequence -> the highest position that a row may stand at
  for (const RowId& row : rows) {
    const auto [found, is_new] = next.try_emplace(row.seq, 0);
    if (is_new) found->second = held_.first_gap(row.seq);
    if (row.position > found->second)
      fail(
          "KV cache: sequence {} holds {}, so a row at position {} would attend to position {}, which holds nothing; compute "
          "or "
          "shift what is missing first",
          row.seq, held_.text(row.seq), row.position, found->second);
    if (row.position == found->second) do
        ++found->second;
      while (held_.holds({row.seq, found->second}));
  }
}

void KvSequences::wrote(std::span<const RowId> rows) {
  for (const RowId& row : rows) held_.set(row, true);
}

void KvSequences::check_range(std::string_view what, std::int32_t seq, std::int32_t p0, std::int32_t p1) const {
  if (seq < 0) fail("KV {}: sequence {} is not a sequence; use 0 or more", what, seq);
  if (p0 < 0 || p1 <= p0)
    fail("KV {}: [{}, {}) of sequence {} is not a range of positions; use 0 <= first < end", what, p0, p1, seq);
  for (std::int32_t p = p0; p < p1; ++p)
    if (!held_.holds({seq, p}))
      fail("KV {}: [{}, {}) of sequence {}: position {} holds nothing (removed before, or never computed); it holds {}", what,
           p0, p1, seq, p, held_.text(seq));
}

void KvSequences::remove(std::int32_t seq, std::int32_t p0, std::int32_t p1) {
  check_range("remove", seq, p0, p1);
  for (std::int32_t p = p0; p < p1; ++p) held_.set({seq, p}, false);
}

void KvSequences::copy(std::int32_t from, std::int32_t to, std::int32_t p0, std::int32_t p1) {
  check_range("copy", from, p0, p1);
  if (to < 0 || to == from) fail("KV copy: sequence {} cannot be copied to sequence {}; name another", from, to);
  for (std::int32_t p = p0; p < p1; ++p)
    if (held_.holds({to, p}))
      fail("KV copy: [{}, {}) of sequence {} to {}: position {} is taken there; it holds {}, remove that first", p0, p1, from,
           to, p, held_.text(to));
  (void)kv_.write_slot(KvPart::k, 0, {to, p1 - 1});  // throws where the cache does not have it
  const auto bytes = static_cast<std::size_t>(row_bytes(kv_.dtype(), kv_.width()));
  for (int layer = 0; layer < model_.config.n_layers; ++layer)
    for (const KvPart part : {KvPart::k, KvPart::v})
      for (std::int32_t p = p0; p < p1; ++p)
        std::memcpy(kv_.write_slot(part, layer, {to, p}), kv_.read_slot(part, layer, {from, p}), bytes);
  for (std::int32_t p = p0; p < p1; ++p) held_.set({to, p}, true);
}

void KvSequences::check_shift(std::int32_t seq, std::int32_t p0, std::int32_t p1, std::int32_t delta) const {
  check_range("shift", seq, p0, p1);
  const std::int64_t first = std::int64_t{p0} + delta, last = std::int64_t{p1} - 1 + delta;
  if (first < 0)
    fail("KV shift: [{}, {}) of sequence {} by {} goes past the start, to position {}; shift by {} at most", p0, p1, seq, delta,
         first, -p0);
  if (last >= model_.config.context_length)
    fail("KV shift: [{}, {}) of sequence {} by {} ends at position {}, outside the model's context of {} tokens", p0, p1, seq,
         delta, last, model_.config.context_length);
  for (std::int64_t p = first; p <= last; ++p)
    if ((p < p0 || p >= p1) && held_.holds({seq, static_cast<std::int32_t>(p)}))
      fail("KV shift: [{}, {}) of sequence {} by {}: position {} is taken; it holds {}, remove that first", p0, p1, seq, delta,
           p, held_.text(seq));
  (void)kv_.write_slot(KvPart::k, 0, {seq, static_cast<std::int32_t>(last)});  // throws where the cache does not have it
}

void KvSequences::shift(std::int32_t seq, std::int32_t p0, std::int32_t p1, std::int32_t delta, Probe* probe) {
  check_shift(seq, p0, p1, delta);
  if (delta == 0) return;
  std::vector<RowId> moved;
  for (std::int32_t p = p0; p < p1; ++p) moved.push_back({seq, p + delta});
  move_slots(moved, delta, probe);
}

void KvSequences::context_shift(std::int32_t keep, std::int32_t discard, Probe* probe) {
  const std::vector<std::int32_t> sequences = held_.sequences();
  if (sequences.empty()) fail("KV context shift: the cache holds nothing");
  if (keep < 0 || discard < 1)
    fail("KV context shift: cannot keep {} positions and discard {}; use 0 or more, and 1 or more", keep, discard);
  std::vector<RowId> moved;
  for (const std::int32_t seq : sequences) {
    const std::int32_t end = held_.end(seq);
    if (std::int64_t{keep} + discard >= end)
      fail("KV context shift: keeping {} positions and discarding {} leaves none of the {} of sequence {} to shift; use fewer",
           keep, discard, end, seq);
    check_range("context shift", seq, 0, end);
    for (std::int32_t p = keep; p + discard < end; ++p) moved.push_back({seq, p});
  }
  for (const std::int32_t seq : sequences) remove(seq, keep, keep + discard);
  move_slots(moved, -discard, probe);
}

void KvSequences::move_slots(std::span<const RowId> moved, std::int32_t delta, Probe* probe) {
  for (const RowId& row : moved) held_.set({row.seq, row.position - delta}, false);
  wrote(moved);
  std::set<std::int32_t> sequences;
  for (const RowId& row : moved) sequences.insert(row.seq);
  std::vector<RowId> now;  // all that these sequences hold
  for (const std::int32_t seq : sequences)
    for (std::int32_t p = 0; p < held_.end(seq); ++p)
      if (held_.holds({seq, p})) now.push_back({seq, p});
  for (int layer = 0; layer < model_.config.n_layers; ++layer) {
    const RopeParams rope = rope_of(model_, layer);
    ops_.kv_shift({Stage::k_cache, layer, moved}, {KvPart::k, delta, delta, rope}, kv_);
    if (probe != nullptr) tap_slots(*probe, Stage::k_cache, layer, KvPart::k, kv_, now);
    ops_.kv_shift({Stage::v_cache, layer, moved}, {KvPart::v, delta, 0, rope}, kv_);
    if (probe != nullptr) tap_slots(*probe, Stage::v_cache, layer, KvPart::v, kv_, now);
  }
}

}  // namespace greta
