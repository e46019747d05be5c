#include "isolate/gain.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "isolate/metrics.h"

namespace greta::isolate {
namespace {

struct Flow {
  Stage stage;
  std::array<Stage, 2> inputs;  // the same twice where there is one
};

/// The forward pass, as far as differences of activations flow along it (docs/architecture.md, "Stages").
constexpr Flow kFlow[]{
    {Stage::attn_norm, {Stage::x_in, Stage::x_in}},
    {Stage::attn_norm_q8, {Stage::attn_norm, Stage::attn_norm}},
    {Stage::q, {Stage::attn_norm, Stage::attn_norm}},
    {Stage::k, {Stage::attn_norm, Stage::attn_norm}},
    {Stage::v, {Stage::attn_norm, Stage::attn_norm}},
    {Stage::q_rope, {Stage::q, Stage::q}},
    {Stage::k_rope, {Stage::k, Stage::k}},
    {Stage::attn_out, {Stage::q_rope, Stage::v}},
    {Stage::wo_out, {Stage::attn_out, Stage::attn_out}},
    {Stage::x_after_attn, {Stage::x_in, Stage::wo_out}},
    {Stage::ffn_norm, {Stage::x_after_attn, Stage::x_after_attn}},
    {Stage::ffn_gate, {Stage::ffn_norm, Stage::ffn_norm}},
    {Stage::ffn_up, {Stage::ffn_norm, Stage::ffn_norm}},
    {Stage::ffn_act, {Stage::ffn_gate, Stage::ffn_up}},
    {Stage::mlp_out, {Stage::ffn_act, Stage::ffn_act}},
    {Stage::x_after_mlp, {Stage::x_after_attn, Stage::mlp_out}},
};

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

using Place = std::pair<std::int32_t, Stage>;  // layer, stage

std::map<Place, const StageRecord*> rows_at(const Capture& capture, int position) {
  std::map<Place, const StageRecord*> rows;
  for (const StageRecord& record : capture.records)
    if (record.position == position && !record.reread && record.exposure == Exposure::exposed)
      rows.emplace(Place{record.layer, record.stage}, &record);
  return rows;
}

}  // namespace

std::vector<StageGain> gains(const Capture& a, const Capture& b, int position) {
  const auto in_a = rows_at(a, position), in_b = rows_at(b, position);
  std::map<Place, double> rel;
  int n_layers = 0;
  for (const auto& [place, record] : in_b) {
    const auto met = in_a.find(place);
    if (met == in_a.end()) continue;
    const Difference d = difference(*met->second, *record);
    if (!d.bit_equal && d.rel && std::isfinite(*d.rel) && *d.rel > 0) rel.emplace(place, *d.rel);
    n_layers = std::max(n_layers, place.first + 1);
  }
  std::vector<StageGain> out;
  for (const Flow& flow : kFlow) {
    std::vector<double> sizes, factors;
    for (int layer = 0; layer < n_layers; ++layer) {
      const auto own = rel.find({layer, flow.stage});
      double input = 0;
      for (const Stage stage : flow.inputs)
        if (const auto found = rel.find({layer, stage}); found != rel.end()) input = std::max(input, found->second);
      if (own == rel.end() || input == 0) continue;
      sizes.push_back(own->second);
      factors.push_back(own->second / input);
    }
    if (!sizes.empty()) out.push_back({flow.stage, median(sizes), median(factors), static_cast<int>(sizes.size())});
  }
  return out;
}

}  // namespace greta::isolate
