// A Llama forward pass in float64, written from the papers alone and as plainly as possible: the tests' independent judge.
// No cache, no batches, no views: every position is computed from scratch over whole sequences.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/blocks.h"
#include "model/model.h"

namespace greta::test {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

class NaiveLlama {
 public:
  explicit NaiveLlama(const Model& model) : m_(model), c_(model.config) {}

  /// Stages by "<layer>.<name>" and "logits": [positions][dim].
  std::map<std::string, Rows> run(const std::vector<std::int32_t>& tokens) const {
    std::map<std::string, Rows> stages;
    Rows x;
    for (const std::int32_t token : tokens) x.push_back(weight_row(m_.weights.embedding, token));
    for (int l = 0; l < c_.n_layers; ++l) {
      const LayerWeights& w = m_.weights.layers[static_cast<std::size_t>(l)];
      const std::string at = std::to_string(l) + ".";
      const Rows h = norm(x, w.attn_norm);
      Rows q = multiply(h, w.wq, w.bq), k = multiply(h, w.wk, w.bk);
      const Rows v = multiply(h, w.wv, w.bv);
      rotate(q, c_.n_heads);
      rotate(k, c_.n_kv_heads);
      const Rows attended = attend(q, k, v);
      stages[at + "q_rope"] = q;
      stages[at + "attn_out"] = attended;
      x = sum(x, multiply(attended, w.wo, w.bo));
      stages[at + "x_after_attn"] = x;
      const Rows g = norm(x, w.ffn_norm);
      stages[at + "ffn_norm"] = g;
      Rows act = multiply(g, w.gate, w.bgate);
      const Rows up = multiply(g, w.up, w.bup);
      for (std::size_t r = 0; r < act.size(); ++r)
        for (std::size_t i = 0; i < act[r].size(); ++i) act[r][i] = act[r][i] / (1 + std::exp(-act[r][i])) * up[r][i];
      x = sum(x, multiply(act, w.down, w.bdown));
      stages[at + "x_after_mlp"] = x;
    }
    stages["logits"] = multiply(norm(x, m_.weights.final_norm), m_.weights.lm_head, {});
    return stages;
  }

 private:
  static Row weight_row(const WeightView& w, std::int64_t r) {
    std::vector<float> values(static_cast<std::size_t>(w.n_cols));
    dequantize_row(w.dtype, w.row(r), w.n_cols, values.data());
    return {values.begin(), values.end()};
  }
  static Rows multiply(const Rows& x, const WeightView& w, const WeightView& bias) {
    Rows out(x.size(), Row(static_cast<std::size_t>(w.n_rows)));
    for (std::int64_t o = 0; o < w.n_rows; ++o) {
      const Row weights = weight_row(w, o);
      for (std::size_t r = 0; r < x.size(); ++r) {
        double total = bias ? weight_row(bias, 0)[static_cast<std::size_t>(o)] : 0;
        for (std::size_t i = 0; i < weights.size(); ++i) total += x[r][i] * weights[i];
        out[r][static_cast<std::size_t>(o)] = total;
      }
    }
    return out;
  }
  Rows norm(const Rows& x, const WeightView& weight) const {
    const Row w = weight_row(weight, 0);
    Rows out = x;
    for (Row& row : out) {
      double squares = 0;
      for (const double value : row) squares += value * value;
      const double scale = 1 / std::sqrt(squares / static_cast<double>(row.size()) + c_.rms_eps);
      for (std::size_t i = 0; i < row.size(); ++i) row[i] *= scale * w[i];
    }
    return out;
  }
  /// GGUF `llama`: pairs (2i, 2i+1).
  void rotate(Rows& x, int heads) const {
    for (std::size_t position = 0; position < x.size(); ++position)
      for (int head = 0; head < heads; ++head)
        for (int i = 0; i < c_.rope_dim / 2; ++i) {
          double angle = static_cast<double>(position) / c_.rope_linear_scale *
                         std::pow(c_.rope_theta, -2.0 * i / c_.rope_dim);
          if (!m_.weights.rope_freq_factors.empty())
            angle /= static_cast<double>(m_.weights.rope_freq_factors[static_cast<std::size_t>(i)]);
          double& a = x[position][static_cast<std::size_t>(head * c_.head_dim + 2 * i)];
          double& b = x[position][static_cast<std::size_t>(head * c_.head_dim + 2 * i + 1)];
          const double rotated = a * std::cos(angle) - b * std::sin(angle);
          b = a * std::sin(angle) + b * std::cos(angle);
          a = rotated;
        }
  }
  Rows attend(const Rows& q, const Rows& k, const Rows& v) const {
    const auto dim = static_cast<std::size_t>(c_.head_dim);
    Rows out(q.size(), Row(static_cast<std::size_t>(c_.n_heads) * dim));
    for (std::size_t position = 0; position < q.size(); ++position)
      for (std::size_t head = 0; head < static_cast<std::size_t>(c_.n_heads); ++head) {
        const std::size_t kv_head = head / static_cast<std::size_t>(c_.n_heads / c_.n_kv_heads);
        Row score(position + 1);
        double total = 0;
        for (std::size_t key = 0; key <= position; ++key) {
          for (std::size_t i = 0; i < dim; ++i) score[key] += q[position][head * dim + i] * k[key][kv_head * dim + i];
          score[key] = std::exp(score[key] / std::sqrt(static_cast<double>(dim)));
          total += score[key];
        }
        for (std::size_t key = 0; key <= position; ++key)
          for (std::size_t i = 0; i < dim; ++i) out[position][head * dim + i] += score[key] / total * v[key][kv_head * dim + i];
      }
    return out;
  }
  static Rows sum(const Rows& a, const Rows& b) {
    Rows out = a;
    for (std::size_t r = 0; r < a.size(); ++r)
      for (std::size_t i = 0; i < a[r].size(); ++i) out[r][i] += b[r][i];
    return out;
  }

  const Model& m_;
  const ModelConfig& c_;
};

/// |b - a| / |a| over all rows.
inline double relative_rms(const Rows& a, const Rows& b) {
  double difference = 0, reference = 0;
  for (std::size_t r = 0; r < a.size(); ++r)
    for (std::size_t i = 0; i < a[r].size(); ++i) {
      difference += (b[r][i] - a[r][i]) * (b[r][i] - a[r][i]);
      reference += a[r][i] * a[r][i];
    }
  return std::sqrt(difference / reference);
}

}  // namespace greta::test
