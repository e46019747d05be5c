#include "trace/name_map.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/nearest.h"
#include "core/quote.h"

namespace greta {
namespace {

constexpr std::string_view kLayer = "{layer}";

std::optional<std::int32_t> layer_number(std::string_view digits) {
  const bool all_digits = std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  std::int32_t layer = 0;
  if (!all_digits || std::from_chars(digits.data(), digits.data() + digits.size(), layer).ec != std::errc{})
    return std::nullopt;
  return layer;
}

}  // namespace

void NameMap::add(std::string_view point, std::string_view stage) {
  const auto known = stage_from_name(stage);
  if (!known) {
    std::vector<std::string_view> names;
    for (const Stage one : all_stages()) names.push_back(name(one));
    fail("name map: {} stands for {}, which is no stage{}", quote(point), quote(stage), suggestion(stage, names));
  }
  if (point.empty()) fail("name map: an empty name stands for stage {}; give the name that the trace uses", quote(stage));
  for (const Entry& entry : entries_) {
    if (entry.point != point) continue;
    if (entry.stage == *known) return;
    fail("name map: {} stands for both {} and {}; leave one out", quote(point), name(entry.stage), name(*known));
  }
  Entry entry;
  entry.point = point;
  entry.stage = *known;
  if (const std::size_t at = point.find(kLayer); at != std::string_view::npos) {
    entry.pattern = true;
    entry.before = point.substr(0, at);
    entry.after = point.substr(at + kLayer.size());
    if (entry.after.find(kLayer) != std::string::npos)
      fail("name map: {} holds {} twice; one layer is one number", quote(point), kLayer);
  }
  entries_.push_back(std::move(entry));
}

std::optional<NameMap::Match> NameMap::find(std::string_view point) const {
  for (const Entry& entry : entries_)
    if (!entry.pattern && entry.point == point) return Match{entry.stage, std::nullopt};
  for (const Entry& entry : entries_) {
    if (!entry.pattern || point.size() <= entry.before.size() + entry.after.size()) continue;
    if (!point.starts_with(entry.before) || !point.ends_with(entry.after)) continue;
    const auto layer = layer_number(point.substr(entry.before.size(), point.size() - entry.before.size() - entry.after.size()));
    if (layer) return Match{entry.stage, layer};
  }
  if (const auto own = stage_from_name(point)) return Match{*own, std::nullopt};
  return std::nullopt;
}

}  // namespace greta
