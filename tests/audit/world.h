// A small model and the rows of an arm, both made up, for hypotheses to be tried on.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "audit/cause_classes.h"
#include "audit/hypothesis.h"
#include "audit/local_error.h"

namespace greta::test {

inline std::vector<double> as_single(std::vector<double> values) {
  for (double& value : values) value = static_cast<double>(static_cast<float>(value));
  return values;
}

inline std::vector<double> random_row(std::size_t n, std::mt19937_64& random, double size = 1) {
  std::normal_distribution<double> normal(0, size);
  std::vector<double> out(n);
  for (double& value : out) value = normal(random);
  return as_single(out);
}

class MadeRows final : public audit::Rows {
 public:
  void put(Stage stage, int layer, int position, std::vector<double> row) {
    rows_[{stage, layer}][position] = as_single(std::move(row));
  }
  std::span<const double> row(Stage stage, int layer, int position) const override {
    const auto found = rows_.find({stage, layer});
    if (found == rows_.end()) return {};
    const auto at = found->second.find(position);
    return at == found->second.end() ? std::span<const double>() : at->second;
  }
  std::optional<DType> dtype(Stage stage, int layer) const override {
    if (!rows_.contains({stage, layer})) return std::nullopt;
    return is_quantised(stage) ? DType::q8_f32 : DType::f32;
  }
  std::string_view route(Stage, int) const override { return "reference"; }
  std::vector<int> positions(Stage stage, int layer) const override {
    std::vector<int> out;
    if (const auto found = rows_.find({stage, layer}); found != rows_.end())
      for (const auto& [position, row] : found->second) out.push_back(position);
    return out;
  }

 private:
  std::map<std::pair<Stage, int>, std::map<int, std::vector<double>>> rows_;
};

/// A matrix of codes in blocks of 32: weight = scale * code + minimum, each a number of a block.
struct MadeMatrix {
  audit::TensorShape shape;
  std::vector<double> codes, scales, minima;  // [rows * cols], [rows * cols / 32] twice; no scales: codes are the weights
};

class MadeTensors final : public audit::Tensors {
 public:
  static constexpr std::int64_t kBlock = 32;
  std::map<std::string, MadeMatrix, std::less<>> all;

  std::optional<audit::TensorShape> find(std::string_view name) const override {
    const auto found = all.find(name);
    return found == all.end() ? std::nullopt : std::optional(found->second.shape);
  }
  void row(std::string_view name, std::int64_t row, std::span<double> out) const override {
    const MadeMatrix& matrix = all.find(name)->second;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::size_t at = static_cast<std::size_t>(row * matrix.shape.cols) + i;
      out[i] = matrix.codes[at];
      if (matrix.scales.empty()) continue;
      out[i] = matrix.scales[at / kBlock] * out[i] + (matrix.minima.empty() ? 0 : matrix.minima[at / kBlock]);
    }
  }
  void minima(std::string_view name, std::int64_t row, std::span<double> out) const override {
    const MadeMatrix& matrix = all.find(name)->second;
    for (std::size_t b = 0; b < out.size(); ++b)
      out[b] = matrix.minima.empty() ? 0 : matrix.minima[static_cast<std::size_t>(row * matrix.shape.cols / kBlock) + b];
  }
  std::int64_t block_elements(std::string_view name) const override {
    return all.find(name)->second.scales.empty() ? 0 : kBlock;
  }
  audit::BlockScale block_scale(std::string_view name, std::int64_t row, std::int64_t block) const override {
    const MadeMatrix& matrix = all.find(name)->second;
    const auto at = static_cast<std::size_t>(row * matrix.shape.cols / kBlock + block);
    audit::BlockScale out{matrix.scales[at], {}};
    if (!matrix.minima.empty()) out.minimum = matrix.minima[at];
    return out;
  }
  void scaled_block(std::string_view name, std::int64_t row, std::int64_t block, const audit::BlockScale& scale,
                    std::span<double> out) const override {
    const MadeMatrix& matrix = all.find(name)->second;
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = scale.scale * matrix.codes[static_cast<std::size_t>(row * matrix.shape.cols + block * kBlock) + i] +
               scale.minimum.value_or(0);
  }
};

/// Two layers of two heads of 8 elements, with one KV head each.
class World {
 public:
  audit::ModelContract model;
  MadeTensors tensors;
  MadeRows rows;
  std::mt19937_64 random{20};

  World() {
    model.n_layers = 2;
    model.n_heads = model.n_kv_heads = 2;
    model.head_dim = model.rope_dim = 8;
    model.d_model = 64;
    model.rms_eps = 1e-5;
    model.attention_scale = 0.5;
    model.layers.resize(2);
  }

  /// `found`: what stands in the row now, where that is not what was recorded when it was written.
  std::vector<audit::Explained> explain(Stage stage, int position, int layer = 0, std::span<const double> found = {}) const {
    const audit::Contract contract{model, tensors};
    const auto op = audit::op_of(contract, rows, {stage, layer});
    if (!op) return {};
    const audit::RightCase right = audit::right_case(contract, rows, *op, {stage, layer}, position, 0);
    EXPECT_TRUE(right.row) << right.missing;
    if (!right.row) return {};
    const auto actual = found.empty() ? rows.row(stage, layer, position) : found;
    const audit::Arithmetic arithmetic = audit::arithmetic_of("reference", *right.row);
    const audit::Estimate due = audit::estimate(*right.row, arithmetic);
    EXPECT_TRUE(audit::judge(due, actual).guilty());
    const std::vector<std::int32_t> tokens(64);
    return audit::explain({contract, rows, tokens, *right.row, actual, due}, arithmetic);
  }

  /// "block-scale block=1 as=next"; empty: none is named.
  std::string named(Stage stage, int position, int layer = 0, std::span<const double> found = {}) const {
    const std::vector<std::vector<audit::Explained>> rows_found{explain(stage, position, layer, found)};
    const auto cause = audit::named_cause(rows_found);
    return cause ? audit::Explained{cause->name, cause->params}.text() : "";
  }
};

}  // namespace greta::test
