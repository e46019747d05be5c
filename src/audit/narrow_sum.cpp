#include "audit/narrow_sum.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/half.h"

namespace greta::audit {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<double> narrow_product(const RowCase& row, SumOrder order, std::span<const std::int64_t> outputs) {
  std::vector<double> out, weights(static_cast<std::size_t>(row.matrix.n_in));
  const auto add = [&](std::int64_t o) {
    row.matrix.row(o, weights);
    NarrowSum sum(order);
    for (std::size_t i = 0; i < weights.size(); ++i) sum.add(row.inputs[0][i], weights[i]);
    out.push_back(sum.value() + (row.bias.empty() ? 0 : row.bias[static_cast<std::size_t>(o)]));
  };
  for (const std::int64_t o : outputs) add(o);
  for (std::int64_t o = 0; outputs.empty() && o < row.matrix.n_out; ++o) add(o);
  return out;
}

/// Scores or mixtures.
std::vector<double> narrow_attention(const RowCase& row, SumOrder order) {
  const AttentionCase& a = row.attention;
  const auto keys = static_cast<std::size_t>(a.n_keys), dim = static_cast<std::size_t>(a.head_dim);
  const bool scores = row.op.op == OpClass::qk;
  std::vector<double> out;
  for (int h = 0; h < a.n_heads; ++h) {
    const auto head = static_cast<std::size_t>(h);
    std::vector<NarrowSum> sums(scores ? keys : dim, NarrowSum(order));
    for (std::size_t j = 0; j < keys; ++j) {
      const auto slot = a.slots(static_cast<std::int64_t>(j), a.kv_head(h));
      for (std::size_t d = 0; d < dim; ++d)
        scores ? sums[j].add(row.inputs[0][head * dim + d], slot[d]) : sums[d].add(row.inputs[0][head * keys + j], slot[d]);
    }
    for (std::size_t i = 0; i < sums.size(); ++i) {
      double value = sums[i].value();
      if (scores) value = static_cast<std::int64_t>(i) < a.first_key ? -kInfinity : value * a.scale;
      if (scores && a.softcap > 0) value = a.softcap * std::tanh(value / a.softcap);
      out.push_back(value);
    }
  }
  return out;
}

std::vector<double> narrow_norm(const RowCase& row, SumOrder order) {
  const std::vector<double>& x = row.inputs[0];
  const std::size_t group = row.gain.size();
  std::vector<double> out(x.size());
  for (std::size_t first = 0; first + group <= x.size(); first += group) {
    NarrowSum sum(order);
    for (std::size_t i = 0; i < group; ++i) sum.add(x[first + i], x[first + i]);
    const double mean = rounded(sum.value() / static_cast<double>(group), order.dtype);
    const double scale = rounded(1 / rounded(std::sqrt(rounded(mean + row.eps, order.dtype)), order.dtype), order.dtype);
    for (std::size_t i = 0; i < group; ++i)
      out[first + i] = rounded(rounded(x[first + i] * scale, order.dtype) * row.gain[i], order.dtype);
  }
  return out;
}

std::vector<double> narrow_softmax(const RowCase& row, SumOrder order) {
  const std::vector<double>& scores = row.inputs[0];
  const auto keys = static_cast<std::size_t>(row.attention.n_keys);
  std::vector<double> out(scores.size());
  for (std::size_t head = 0; head + keys <= scores.size(); head += keys) {
    const auto begin = scores.begin() + static_cast<std::ptrdiff_t>(head);
    const double largest = *std::max_element(begin, begin + static_cast<std::ptrdiff_t>(keys));
    NarrowSum sum(order);
    for (std::size_t j = head; j < head + keys; ++j) {
      out[j] = rounded(std::exp(rounded(scores[j] - largest, order.dtype)), order.dtype);
      sum.add(out[j], 1);
    }
    for (std::size_t j = head; j < head + keys; ++j) out[j] = rounded(out[j] / sum.value(), order.dtype);
  }
  return out;
}

}  // namespace

double rounded(double value, DType dtype) {
  if (dtype == DType::f64) return value;
  const auto single = static_cast<float>(value);
  if (dtype == DType::f32) return static_cast<double>(single);
  return static_cast<double>(dtype == DType::f16 ? f16_to_f32(f32_to_f16(single)) : bf16_to_f32(f32_to_bf16(single)));
}

void NarrowSum::add(double a, double b) {
  if (order_.exact == 1 && order_.fused && order_.dtype == DType::f64) {
    double& chain = chains_[next_];
    next_ = (next_ + 1) % chains_.size();
    chain = std::fma(a, b, chain);
    return;
  }
  if (order_.exact == 1) return push(a * b);
  block_ += a * b;
  if (++in_block_ < order_.exact) return;
  push(block_);
  block_ = 0;
  in_block_ = 0;
}

void NarrowSum::push(double product) {
  double& chain = chains_[next_];
  next_ = (next_ + 1) % chains_.size();
  chain = rounded(chain + (order_.fused ? product : rounded(product, order_.dtype)), order_.dtype);
}

double NarrowSum::value() const {
  std::vector<double> sums = chains_;
  if (in_block_ > 0) sums[next_] = rounded(sums[next_] + block_, order_.dtype);
  for (std::size_t half = sums.size() / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) sums[i] = rounded(sums[i] + sums[i + half], order_.dtype);
  return sums.front();
}

bool has_sum(OpClass op) {
  return op == OpClass::matmul || op == OpClass::qk || op == OpClass::pv || op == OpClass::rmsnorm || op == OpClass::softmax;
}

std::vector<double> narrow_row(const RowCase& row, SumOrder order, std::span<const std::int64_t> outputs) {
  switch (row.op.op) {
    case OpClass::matmul:
      return narrow_product(row, order, outputs);
    case OpClass::rmsnorm:
      return narrow_norm(row, order);
    case OpClass::softmax:
      return narrow_softmax(row, order);
    default:
      return narrow_attention(row, order);
  }
}

}  // namespace greta::audit
