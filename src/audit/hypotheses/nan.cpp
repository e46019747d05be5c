// Hypotheses about NaN that first stands here: what the op read are numbers, what it should have written too.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "audit/hypothesis.h"

namespace greta::audit {
namespace {

/// Elements that are NaN where a number is due.
std::vector<std::size_t> new_nans(const Scene& scene) {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < scene.actual.size(); ++i)
    if (std::isnan(scene.actual[i]) && !std::isnan(scene.due.value[i])) out.push_back(i);
  return out;
}

/// The only head, of a row that consists of them, in which all elements are NaN.
std::optional<std::size_t> whole_head(const Scene& scene, const std::vector<std::size_t>& where) {
  const auto heads = static_cast<std::size_t>(scene.right.attention.n_heads);
  if (heads == 0 || scene.actual.size() % heads != 0) return std::nullopt;
  const std::size_t size = scene.actual.size() / heads;
  if (where.size() != size || where.front() % size != 0 || where.back() - where.front() + 1 != size) return std::nullopt;
  return where.front() / size;
}

/// Everything else is right. Uninitialised memory does that, and so does much else: it says where, not why.
void propose_nan(const Scene& scene, const Emit& emit) {
  const std::vector<std::size_t> where = new_nans(scene);
  if (where.empty()) return;
  std::vector<std::pair<std::string, std::string>> params;
  if (where.size() == scene.actual.size()) {
    params.emplace_back("elements", "all");
  } else if (const auto head = whole_head(scene, where)) {
    params.emplace_back("head", std::to_string(*head));
  } else {
    params.emplace_back("first", std::to_string(where.front()));
    params.emplace_back("count", std::to_string(where.size()));
  }
  emit({"nan", std::move(params), scene.right,
        [where](Estimate& estimate) {
          for (const std::size_t i : where) estimate.value[i] = std::numeric_limits<double>::quiet_NaN();
        },
        true});
}

constexpr std::array kNans{
    Hypothesis{"nan", "NaN that no input explains: memory that was never written, or an invalid operation", propose_nan}};

}  // namespace

std::span<const Hypothesis> nan_hypotheses() { return kNans; }

}  // namespace greta::audit
