#include "isolate/experiment.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/nearest.h"
#include "core/quote.h"

namespace greta::isolate {
namespace {

int parse_layer(std::string_view text) {
  int layer = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  if (error != std::errc{} || end != text.data() + text.size())
    fail("layer {} is no number; give 'all' or numbers such as 0,3,-1", quote(text));
  return layer;
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto comma = text.find(',');
    parts.push_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

std::optional<int> parse_count(std::string_view text) {
  int count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return count;
}

}  // namespace

ContextShift ContextShift::parse(std::string_view text) {
  const auto colon = text.find(':');
  const auto keep = parse_count(text.substr(0, colon));
  const auto discard = colon == std::string_view::npos ? std::nullopt : parse_count(text.substr(colon + 1));
  if (!keep || !discard || *keep < 0 || *discard < 1)
    fail("context shift {} is not KEEP:DISCARD; give positions to keep (0 or more) and to discard (1 or more), as 4:8",
         quote(text));
  return {*keep, *discard};
}

std::string ContextShift::text() const { return fmt::format("{}:{}", keep, discard); }

std::string_view name(ExpMode mode) { return mode == ExpMode::aligned ? "E1" : "E0"; }

std::optional<ExpMode> exp_mode_from_name(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (lower == "e1" || lower == "aligned") return ExpMode::aligned;
  if (lower == "e0" || lower == "as_designed") return ExpMode::as_designed;
  return std::nullopt;
}

std::vector<std::string> alignment_flags(ExpMode mode) {
  if (mode == ExpMode::as_designed) return {};
  return {"token", "position", "history", "routes"};
}

LayerSelection LayerSelection::parse(std::string_view text) {
  LayerSelection selection;
  if (text == "all") return selection;
  selection.all = false;
  for (const std::string_view part : split(text)) selection.layers.push_back(parse_layer(part));
  return selection;
}

std::string LayerSelection::text() const { return all ? "all" : fmt::format("{}", fmt::join(layers, ",")); }

std::vector<int> LayerSelection::resolve(int n_layers) const {
  std::set<int> resolved;
  for (int layer = 0; all && layer < n_layers; ++layer) resolved.insert(layer);
  for (const int layer : layers) {
    if (layer < -n_layers || layer >= n_layers)
      fail("layer {} does not exist: the model has layers 0..{} (or -1..-{} from the end)", layer, n_layers - 1, n_layers);
    resolved.insert(layer < 0 ? n_layers + layer : layer);
  }
  return {resolved.begin(), resolved.end()};
}

bool LayerSelection::holds(int layer, int n_layers) const {
  return all || std::any_of(layers.begin(), layers.end(),
                            [&](int wanted) { return layer == (wanted < 0 ? n_layers + wanted : wanted); });
}

bool ExperimentSpec::wants(Stage stage) const {
  return stages.empty() || std::find(stages.begin(), stages.end(), stage) != stages.end();
}

std::vector<Stage> parse_stages(std::string_view text) {
  std::set<Stage> chosen;
  for (const std::string_view part : split(text)) {
    if (part == "all") return {};
    if (part == "post_wo") {
      chosen.insert(post_wo_stages().begin(), post_wo_stages().end());
    } else if (part == "witnesses") {
      chosen.insert(witness_stages().begin(), witness_stages().end());
    } else if (const auto stage = stage_from_name(part)) {
      chosen.insert(*stage);
    } else {
      std::vector<std::string_view> known = {"all", "post_wo", "witnesses"};
      for (const Stage one : all_stages()) known.push_back(name(one));
      fail("unknown stage {}{}", quote(part), suggestion(part, known));
    }
  }
  return {chosen.begin(), chosen.end()};
}

}  // namespace greta::isolate
