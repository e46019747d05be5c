#include "audit/cause_classes.h"

#include <algorithm>
#include <array>

namespace greta::audit {
namespace {

constexpr std::array<std::string_view, 3> kTurns{"rope-missing", "rope-twice", "rope-position"};
constexpr std::array<std::string_view, 2> kOtherRow{"logits-row", "input"};
constexpr std::array<std::string_view, 3> kLastElements{"element", "tail-unwritten", "nan"};
constexpr std::array<std::string_view, 3> kMasks{"window", "attention-length", "mask-stride"};
constexpr std::array<std::string_view, 3> kZeros{"kv-unwritten", "output-unwritten", "kv-wrong-layer"};
constexpr std::array<std::string_view, 3> kEmptySlot{"slot-unwritten", "kv-slot-shift", "kv-wrong-layer"};
constexpr std::array<std::string_view, 3> kOtherContent{"slot-stale", "kv-slot-shift", "kv-wrong-layer"};
constexpr std::array<std::string_view, 2> kNanHeads{"softmax-no-max", "nan-padding"};

constexpr std::array kClasses{
    CauseClass{"rope-turn", kTurns, "all turn by another position than the row's: by 0, by twice its own, by some other"},
    CauseClass{"other-row", kOtherRow, "the head reads the norm of another position, made again or as it was kept"},
    CauseClass{"last-elements", kLastElements, "the wrong element is the row's last: altered alone, or left as a tail of one"},
    CauseClass{"masked-keys", kMasks, "some keys are masked: by another window, a wrong length or part of another row's mask"},
    CauseClass{"zeros", kZeros,
               "slots of zeros, which may be those of a layer not yet computed, give scores and mixtures of zeros, and so does "
               "a row that "
               "nobody wrote"},
    CauseClass{"empty-slot", kEmptySlot, "the slot was never written: its row was left out, or went where no row was kept"},
    CauseClass{"other-content", kOtherContent, "the slot holds a row that belongs elsewhere: left there, or written there"},
    CauseClass{"nan-heads", kNanHeads, "all probabilities of every head are NaN"}};

bool has(const CauseClass& one, std::string_view hypothesis) {
  return std::find(one.members.begin(), one.members.end(), hypothesis) != one.members.end();
}

/// The nearest candidate of a hypothesis that reproduces the row; nullptr: none.
const Explained* reproducing(std::span<const Explained> row, std::string_view hypothesis) {
  const auto found =
      std::find_if(row.begin(), row.end(), [&](const Explained& e) { return e.reproduces && e.hypothesis == hypothesis; });
  return found == row.end() ? nullptr : &*found;
}

}  // namespace

std::span<const CauseClass> cause_classes() { return kClasses; }

bool same_class(std::string_view a, std::string_view b) {
  return a == b || std::any_of(kClasses.begin(), kClasses.end(), [&](const CauseClass& c) { return has(c, a) && has(c, b); });
}

std::optional<NamedCause> named_cause(std::span<const std::vector<Explained>> rows) {
  std::vector<const Explained*> left;  // one a hypothesis
  if (rows.empty()) return std::nullopt;
  for (const Explained& one : rows.front()) {
    const bool in_all = one.reproduces && std::all_of(rows.begin(), rows.end(), [&](const std::vector<Explained>& row) {
                          return reproducing(row, one.hypothesis) != nullptr;
                        });
    const bool known =
        std::any_of(left.begin(), left.end(), [&](const Explained* other) { return other->hypothesis == one.hypothesis; });
    if (in_all && !known) left.push_back(&one);
  }
  if (left.empty()) return std::nullopt;
  if (left.size() == 1) return NamedCause{left[0]->hypothesis, left[0]->params};
  for (const CauseClass& one : kClasses) {
    if (!std::all_of(left.begin(), left.end(), [&](const Explained* e) { return has(one, e->hypothesis); })) continue;
    std::string members;
    for (const Explained* e : left) members += (members.empty() ? "" : " or ") + e->text();
    return NamedCause{std::string(one.name), {{"one_of", std::move(members)}}};
  }
  return std::nullopt;
}

}  // namespace greta::audit
