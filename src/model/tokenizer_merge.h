// The merge loop of byte-pair encoding: the best pair of neighbours becomes one symbol until no pair is known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <queue>
#include <vector>

namespace greta {

/// A run of bytes of the text, in a doubly linked list.
struct MergeSymbol {
  std::size_t begin = 0;
  std::size_t bytes = 0;  // 0: merged into the one before
  std::int32_t id = -1;   // the caller's
  std::int32_t previous = -1, next = -1;
};

/// A pair that may merge: the higher priority first, of equal ones the one further left.
struct MergePair {
  double priority = 0;
  std::int32_t id = -1;  // of the merged symbol
};

/// Links `symbols` in order and merges them. `find(left, right)` gives std::optional<MergePair>. What is left is reached from
/// symbols[0] by `next`. A queue of pairs, those overtaken by other merges dropped when they come up: O(n log n) finds.
template <class Find>
void merge_symbols(std::vector<MergeSymbol>& symbols, Find find) {
  struct Pending {
    MergePair pair;
    std::int32_t left, right;
    std::size_t left_bytes, right_bytes;
    bool operator<(const Pending& other) const {
      return pair.priority != other.pair.priority ? pair.priority < other.pair.priority : left > other.left;
    }
  };
  std::priority_queue<Pending> queue;
  const auto at = [&](std::int32_t i) -> MergeSymbol& { return symbols[static_cast<std::size_t>(i)]; };
  const auto propose = [&](std::int32_t left, std::int32_t right) {
    if (left < 0 || right < 0) return;
    if (const std::optional<MergePair> pair = find(at(left), at(right))) {
      queue.push({*pair, left, right, at(left).bytes, at(right).bytes});
    }
  };

  const auto count = static_cast<std::int32_t>(symbols.size());
  for (std::int32_t i = 0; i < count; ++i) {
    at(i).previous = i - 1;
    at(i).next = i + 1 < count ? i + 1 : -1;
  }
  for (std::int32_t i = 0; i + 1 < count; ++i) propose(i, i + 1);
  while (!queue.empty()) {
    const Pending best = queue.top();
    queue.pop();
    MergeSymbol& left = at(best.left);
    MergeSymbol& right = at(best.right);
    // A symbol only grows, or goes: equal sizes mean the same symbols as when the pair was proposed.
    if (left.bytes != best.left_bytes || right.bytes != best.right_bytes) continue;
    left.bytes += right.bytes;
    left.id = best.pair.id;
    left.next = right.next;
    if (right.next >= 0) at(right.next).previous = best.left;
    right.bytes = 0;
    propose(left.previous, best.left);
    propose(best.left, left.next);
  }
}

}  // namespace greta
