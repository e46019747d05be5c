#include "core/nearest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace greta {
namespace {
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}
}  // namespace

std::string_view nearest(std::string_view wanted, std::span<const std::string_view> known) {
  constexpr std::size_t kLongestNameCompared = 128;
  std::string_view best;
  std::size_t best_distance = 0;
  if (wanted.size() > kLongestNameCompared) return best;
  for (const std::string_view candidate : known) {
    const std::size_t d = distance(wanted, candidate);
    if (d * 2 > std::max(wanted.size(), candidate.size())) continue;
    if (best.empty() || d < best_distance) {
      best = candidate;
      best_distance = d;
    }
  }
  return best;
}

std::string suggestion(std::string_view wanted, std::span<const std::string_view> known) {
  const std::string_view near = nearest(wanted, known);
  return fmt::format("{}; known: {}", near.empty() ? std::string() : fmt::format("; did you mean '{}'", near),
                     fmt::join(known, ", "));
}

}  // namespace greta
