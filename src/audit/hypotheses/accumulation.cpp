// Hypotheses about the precision of sums.
#include <array>
#include <cmath>
#include <limits>

#include "audit/hypotheses/few_outputs.h"
#include "audit/hypothesis.h"
#include "core/half.h"

namespace greta::audit {
namespace {

double rounded(double value, DType dtype) {
  const auto single = static_cast<float>(value);
  return static_cast<double>(dtype == DType::f16 ? f16_to_f32(f32_to_f16(single)) : bf16_to_f32(f32_to_bf16(single)));
}

/// A running sum in `dtype`, terms in order; products are rounded too, or fused.
class NarrowSum {
 public:
  NarrowSum(DType dtype, bool fused) : dtype_(dtype), fused_(fused) {}
  void add(double a, double b) { sum_ = rounded(sum_ + (fused_ ? a * b : rounded(a * b, dtype_)), dtype_); }
  double value() const { return sum_; }

 private:
  DType dtype_;
  bool fused_;
  double sum_ = 0;
};

/// Output o of a product; `weights` is room for a row of the matrix.
double narrow_output(const RowCase& row, std::int64_t o, DType dtype, bool fused, std::vector<double>& weights) {
  weights.resize(static_cast<std::size_t>(row.matrix.n_in));
  row.matrix.row(o, weights);
  NarrowSum sum(dtype, fused);
  for (std::size_t i = 0; i < weights.size(); ++i) sum.add(row.inputs[0][i], weights[i]);
  return sum.value() + (row.bias.empty() ? 0 : row.bias[static_cast<std::size_t>(o)]);
}

std::vector<double> narrow_product(const RowCase& row, DType dtype, bool fused) {
  std::vector<double> out, weights;
  for (std::int64_t o = 0; o < row.matrix.n_out; ++o) out.push_back(narrow_output(row, o, dtype, fused, weights));
  return out;
}

/// Whether a few outputs of a product are worth computing all; other ops are.
bool explains_few(const Scene& scene, const FewOutputs& few, DType dtype, bool fused) {
  if (few.outputs.empty()) return true;
  std::vector<double> weights;
  double left = 0;
  for (std::size_t k = 0; k < few.outputs.size(); ++k) {
    const double rest = scene.actual[static_cast<std::size_t>(few.outputs[k])] -
                        narrow_output(scene.right, few.outputs[k], dtype, fused, weights);
    left += rest * rest;
  }
  return !(left > 0.5 * few.squares);
}

/// Scores or mixtures, as estimate() lays them out.
std::vector<double> narrow_attention(const RowCase& row, DType dtype, bool fused) {
  const AttentionCase& a = row.attention;
  const auto keys = static_cast<std::size_t>(a.n_keys), dim = static_cast<std::size_t>(a.head_dim);
  const bool scores = row.op.op == OpClass::qk;
  std::vector<double> out;
  for (int h = 0; h < a.n_heads; ++h) {
    const auto head = static_cast<std::size_t>(h);
    std::vector<NarrowSum> sums(scores ? keys : dim, NarrowSum(dtype, fused));
    for (std::size_t j = 0; j < keys; ++j) {
      const auto slot = a.slots(static_cast<std::int64_t>(j), a.kv_head(h));
      for (std::size_t d = 0; d < dim; ++d)
        scores ? sums[j].add(row.inputs[0][head * dim + d], slot[d]) : sums[d].add(row.inputs[0][head * keys + j], slot[d]);
    }
    for (std::size_t i = 0; i < sums.size(); ++i) {
      double value = sums[i].value();
      if (scores)
        value = static_cast<std::int64_t>(i) < a.first_key ? -std::numeric_limits<double>::infinity() : value * a.scale;
      if (scores && a.softcap > 0) value = a.softcap * std::tanh(value / a.softcap);
      out.push_back(value);
    }
  }
  return out;
}

/// The sums ran in fewer bits, terms in order. Other orders of such sums are not told from other small errors, hence not named.
void propose_precision(const Scene& scene, const Emit& emit) {
  const OpClass op = scene.right.op.op;
  constexpr std::int64_t kMostTerms = std::int64_t{1} << 26;
  if (op != OpClass::matmul && op != OpClass::qk && op != OpClass::pv) return;
  if (op == OpClass::matmul && scene.right.matrix.n_in * scene.right.matrix.n_out > kMostTerms) return;
  const FewOutputs few = few_outputs(scene);
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const bool fused : {false, true}) {
      if (!explains_few(scene, few, dtype, fused)) continue;
      std::vector<double> values =
          op == OpClass::matmul ? narrow_product(scene.right, dtype, fused) : narrow_attention(scene.right, dtype, fused);
      emit({"accumulation",
            {{"type", std::string(name(dtype))}, {"products", fused ? "fused" : "rounded"}},
            scene.right,
            [values = std::move(values)](Estimate& estimate) { estimate.value = values; },
            true});
    }
  }
}

constexpr std::array kAccumulation{
    Hypothesis{"accumulation", "sums ran in fewer bits than the route declares", propose_precision}};

}  // namespace

std::span<const Hypothesis> accumulation_hypotheses() { return kAccumulation; }

}  // namespace greta::audit
