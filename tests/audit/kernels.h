// Real kernels of src/ops on random operands: what they wrote, beside what the audit expects of it.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "audit/attention_bound.h"
#include "audit/dot_bound.h"
#include "audit/elementwise_bound.h"
#include "audit/local_error.h"
#include "audit/norm_bound.h"
#include "audit/rope_bound.h"
#include "audit/storage_bound.h"
#include "core/activation_blocks.h"
#include "ops/cpu/convert.h"
#include "tests/ops/harness.h"

namespace greta::test {

using audit::Arithmetic;
using audit::Estimate;

/// A row that a kernel wrote.
struct Judged {
  Estimate estimate;
  std::vector<double> actual;
  audit::LocalError verdict() const { return audit::judge(estimate, actual); }
};

/// A plan's route with its declared arithmetic.
struct Declared {
  std::string name;
  Arm arm;
  Arithmetic lanes, chain;
  double eps_error = 0;  // added to a kernel's epsilon: a planted fault
};
inline std::vector<Declared> declared_routes() {
  std::vector<Declared> routes;
  for (const Isa isa : supported_isas()) {
    routes.push_back({"reference_" + std::string(name(isa)),
                      {RouteId::reference, isa, DType::f32, 1},
                      audit::reference_arithmetic(),
                      audit::chain_arithmetic()});
  }
  for (const DType type : {DType::f32, DType::f64}) {
    const Arithmetic arithmetic = audit::float64_arithmetic(type);
    routes.push_back({"float64_" + std::string(name(type)), {RouteId::float64, Isa::scalar, type, 1}, arithmetic, arithmetic});
  }
  return routes;
}

/// How operands are spread.
enum class Spread { normal, heavy, positive, cancelling, constant, massive };
inline constexpr Spread kSpreads[] = {Spread::normal,     Spread::heavy,    Spread::positive,
                                      Spread::cancelling, Spread::constant, Spread::massive};

/// n numbers; massive: one thousands of times the others, which lie close together (a massive activation: Sun et al. 2024,
/// arXiv:2402.17762); heavy: magnitudes over many decades; cancelling: pairs of opposite numbers that almost sum to 0,
/// shuffled.
inline std::vector<double> numbers(std::size_t n, Spread spread, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::vector<double> out(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double x = normal(random);
    switch (spread) {
      case Spread::normal:
        out[i] = x;
        break;
      case Spread::heavy:
        out[i] = x * std::exp(3 * normal(random));
        break;
      case Spread::positive:
        out[i] = std::fabs(x) + 0.1;
        break;
      case Spread::cancelling:
        out[i] = i % 2 == 1 ? -out[i - 1] * (1 + 1e-6 * x) : x * 100;
        break;
      case Spread::constant:
        out[i] = 0.1;
        break;
      case Spread::massive:
        out[i] = i == 0 ? 2000 : 0.3 + 0.01 * x;
        break;
    }
  }
  if (spread == Spread::cancelling) std::shuffle(out.begin(), out.end(), random);
  return out;
}

inline Tensor tensor_of(DType dtype, const std::vector<double>& row) {
  Tensor x(dtype, 1, static_cast<std::int64_t>(row.size()));
  for (std::size_t i = 0; i < row.size(); ++i) x.set(0, static_cast<std::int64_t>(i), row[i]);
  return x;
}
inline std::vector<double> row_of(const Tensor& x, std::int64_t r = 0) {
  std::vector<double> row(static_cast<std::size_t>(x.view().cols(r)));
  widen_row(x.view().dtype, x.view().row(r), x.view().cols(r), row.data());
  return row;
}

inline Judged run_matmul(const Declared& route, DType dtype, std::int64_t n_in, std::int64_t n_out, Spread spread, bool bias,
                         std::mt19937_64& random) {
  const Weight weight(dtype, n_out, n_in, random), offsets(DType::f32, 1, n_out, random);
  const Tensor x = tensor_of(route.arm.activations, numbers(static_cast<std::size_t>(n_in), spread, random));
  Tensor out(route.arm.activations, 1, n_out);
  const std::vector<RowId> rows = rows_from(0, 1);
  ArmOps(route.arm)->matmul({Stage::q, 0, rows}, x.view(), weight.view(), bias ? offsets.view() : WeightView{}, out.view());
  const std::vector<double> in = row_of(x);
  const std::span<const double> in_rows[] = {in};
  std::vector<double> biases;
  for (std::int64_t o = 0; bias && o < n_out; ++o) biases.push_back(offsets.flat(o));
  const auto row = [&](std::int64_t o, std::span<double> w) {
    for (std::int64_t i = 0; i < n_in; ++i) w[static_cast<std::size_t>(i)] = weight.value(o, i);
  };
  return {audit::matmul(in_rows, n_out, row, biases, route.lanes)[0], row_of(out)};
}

/// Plan q8: x in 8-bit blocks, integer products.
inline Judged run_integer_matmul(DType dtype, std::int64_t n_in, std::int64_t n_out, Spread spread, bool bias,
                                 std::mt19937_64& random) {
  const Weight weight(dtype, n_out, n_in, random), offsets(DType::f32, 1, n_out, random);
  const Tensor plain = tensor_of(DType::f32, numbers(static_cast<std::size_t>(n_in), spread, random));
  Tensor x(DType::q8_f32, 1, n_in), out(DType::f32, 1, n_out);
  quantize_activations(plain.view().row_as<float>(0), n_in, x.view().row(0));
  const std::vector<RowId> rows = rows_from(0, 1);
  ThreadPool pool(1);
  make_cpu_ops({.routes = select_routes("q8", RouteShape{1}, {}), .isa = best_isa(), .pool = pool})
      ->matmul({Stage::q, 0, rows}, x.view(), weight.view(), bias ? offsets.view() : WeightView{}, out.view());
  const std::vector<double> in = row_of(x);
  const std::span<const double> in_rows[] = {in};
  std::vector<double> biases;
  for (std::int64_t o = 0; bias && o < n_out; ++o) biases.push_back(offsets.flat(o));
  const auto row = [&](std::int64_t o, std::span<double> w, std::span<double> minima) {
    for (std::int64_t i = 0; i < n_in; ++i) w[static_cast<std::size_t>(i)] = weight.value(o, i);
    audit::block_minima(dtype, weight.view().row(o), minima.empty() ? 0 : n_in, minima);
  };
  return {audit::integer_matmul(in_rows, n_out, audit::integer_blocks(dtype), row, biases, audit::chain_arithmetic())[0],
          row_of(out)};
}

/// `mean_square` above 0: x is scaled to it.
inline Judged run_rmsnorm(const Declared& route, std::int64_t n, double eps, Spread spread, std::mt19937_64& random,
                          double mean_square = 0) {
  const Weight gain(DType::f32, 1, n, random);
  std::vector<double> values = numbers(static_cast<std::size_t>(n), spread, random), gains;
  double squares = 0;
  for (const double value : values) squares += value * value;
  for (double& value : values) value *= mean_square > 0 ? std::sqrt(mean_square * static_cast<double>(n) / squares) : 1;
  const Tensor x = tensor_of(route.arm.activations, values);
  Tensor out(route.arm.activations, 1, n);
  const std::vector<RowId> rows = rows_from(0, 1);
  ArmOps(route.arm)->rmsnorm({Stage::attn_norm, 0, rows}, x.view(), gain.view(), eps + route.eps_error, out.view());
  for (std::int64_t i = 0; i < n; ++i) gains.push_back(gain.flat(i));
  return {audit::rmsnorm(row_of(x), gains, eps, route.lanes), row_of(out)};
}

inline Judged run_rope(const Declared& route, int head_dim, int n_rot, int heads, std::int32_t position, bool interleaved,
                       double theta, std::mt19937_64& random) {
  const Tensor x =
      tensor_of(route.arm.activations, numbers(static_cast<std::size_t>(heads * head_dim), Spread::normal, random));
  Tensor out(route.arm.activations, 1, heads * head_dim);
  const std::vector<RowId> rows = rows_from(0, 1);
  // The scaled forms too, on heads that are not interleaved.
  const double linear_scale = interleaved ? 1 : 4;
  std::vector<float> factors;
  for (int i = 0; !interleaved && i < n_rot / 2; ++i) factors.push_back(1 + 0.3f * static_cast<float>(i));
  const RopeParams params{theta, head_dim, n_rot, interleaved, linear_scale, factors};
  ArmOps(route.arm)->rope({Stage::q_rope, 0, rows}, x.view(), params, std::vector<std::int32_t>{position}, out.view());
  const audit::Rotation rotation{theta, head_dim, n_rot, interleaved, linear_scale, factors};
  return {audit::rope(row_of(x), rotation, position, route.lanes), row_of(out)};
}

/// One head of attention over keys 0..n_keys-1.
struct Head {
  std::int64_t n_keys = 1;
  int head_dim = 64;
  DType kv = DType::f32;
  double softcap = 0;
  int window = 0;

  AttentionParams params() const {
    AttentionParams params;
    params.n_heads = params.n_kv_heads = 1;
    params.head_dim = head_dim;
    params.scale = 1 / std::sqrt(static_cast<double>(head_dim));
    params.softcap = softcap;
    params.window = window;
    return params;
  }
  std::vector<RowId> rows() const { return rows_from(static_cast<int>(n_keys) - 1, 1); }
  std::int64_t first_key() const { return params().first_key(static_cast<std::int32_t>(n_keys - 1)); }
};

/// Reads slots of a cache as the audit wants them.
class Slots {
 public:
  Slots(LooseKv& kv, KvPart part, int head_dim) : kv_(kv), part_(part), values_(static_cast<std::size_t>(head_dim)) {}
  std::span<const double> operator()(std::int64_t j) {
    for (std::size_t i = 0; i < values_.size(); ++i) {
      values_[i] = kv_.get(part_, 0, {0, static_cast<std::int32_t>(j)}, static_cast<std::int64_t>(i));
    }
    return values_;
  }

 private:
  LooseKv& kv_;
  KvPart part_;
  std::vector<double> values_;
};

inline Judged run_qk(const Declared& route, const Head& head, Spread spread, std::mt19937_64& random) {
  LooseKv kv(head.kv, head.head_dim);
  kv.fill_normal(KvPart::k, 0, 1, static_cast<int>(head.n_keys), random);
  const Tensor q = tensor_of(route.arm.activations, numbers(static_cast<std::size_t>(head.head_dim), spread, random));
  Tensor out(route.arm.activations, {head.n_keys});
  const std::vector<RowId> rows = head.rows();
  ArmOps(route.arm)->qk({Stage::attn_scores, 0, rows}, q.view(), head.params(), kv, out.view());
  Slots slots(kv, KvPart::k, head.head_dim);
  return {
      audit::qk(row_of(q), head.n_keys, std::ref(slots), {head.params().scale, head.softcap, head.first_key()}, route.lanes),
      row_of(out)};
}

inline Judged run_softmax(const Declared& route, std::vector<double> scores, std::int64_t masked) {
  std::fill(scores.begin(), scores.begin() + masked, -std::numeric_limits<double>::infinity());
  const Head head{static_cast<std::int64_t>(scores.size())};
  Tensor in(route.arm.activations, {head.n_keys}), out(route.arm.activations, {head.n_keys});
  for (std::size_t j = 0; j < scores.size(); ++j) in.set(0, static_cast<std::int64_t>(j), scores[j]);
  const std::vector<RowId> rows = head.rows();
  ArmOps(route.arm)->softmax({Stage::attn_probs, 0, rows}, in.view(), head.params(), out.view());
  return {audit::softmax(row_of(in), route.lanes), row_of(out)};
}

/// Probabilities of random scores.
inline std::vector<double> probabilities(std::size_t n, Spread spread, std::mt19937_64& random) {
  std::vector<double> p = numbers(n, spread, random);
  double sum = 0;
  for (double& x : p) sum += x = std::exp(std::clamp(3 * x, -80.0, 8.0));
  for (double& x : p) x /= sum;
  return p;
}

inline Judged run_pv(const Declared& route, const Head& head, Spread probs, std::mt19937_64& random,
                     bool equal_values = false) {
  LooseKv kv(head.kv, head.head_dim);
  kv.fill_normal(KvPart::v, 0, 1, static_cast<int>(head.n_keys), random);
  for (std::int32_t j = 1; equal_values && j < head.n_keys; ++j) {
    for (int i = 0; i < head.head_dim; ++i) kv.set(KvPart::v, 0, {0, j}, i, kv.get(KvPart::v, 0, {0, 0}, i));
  }
  const std::vector<double> p = probabilities(static_cast<std::size_t>(head.n_keys), probs, random);
  Tensor in(route.arm.activations, {head.n_keys}), out(route.arm.activations, 1, head.head_dim);
  for (std::int64_t j = 0; j < head.n_keys; ++j) in.set(0, j, j < head.first_key() ? 0.0 : p[static_cast<std::size_t>(j)]);
  const std::vector<RowId> rows = head.rows();
  ArmOps(route.arm)->pv({Stage::attn_out, 0, rows}, in.view(), head.params(), kv, out.view());
  Slots slots(kv, KvPart::v, head.head_dim);
  return {audit::pv(row_of(in), head.head_dim, std::ref(slots), head.first_key(), route.chain), row_of(out)};
}

inline Judged run_add(const Declared& route, std::size_t n, Spread spread, std::mt19937_64& random) {
  const Tensor a = tensor_of(route.arm.activations, numbers(n, spread, random));
  const Tensor b = tensor_of(route.arm.activations, numbers(n, spread, random));
  Tensor out(route.arm.activations, 1, static_cast<std::int64_t>(n));
  const std::vector<RowId> rows = rows_from(0, 1);
  ArmOps(route.arm)->add({Stage::x_after_attn, 0, rows}, a.view(), b.view(), out.view());
  return {audit::add(row_of(a), row_of(b), route.lanes), row_of(out)};
}

inline Judged run_act_mul(const Declared& route, Activation act, std::size_t n, double size, Spread spread,
                          std::mt19937_64& random) {
  std::vector<double> gates = numbers(n, spread, random);
  for (double& gate : gates) gate *= size;
  const Tensor gate = tensor_of(route.arm.activations, gates);
  const Tensor up = tensor_of(route.arm.activations, numbers(n, Spread::normal, random));
  Tensor out(route.arm.activations, 1, static_cast<std::int64_t>(n));
  const std::vector<RowId> rows = rows_from(0, 1);
  ArmOps(route.arm)->act_mul({Stage::ffn_act, 0, rows}, act, gate.view(), up.view(), out.view());
  return {audit::act_mul(act, row_of(gate), row_of(up), route.lanes), row_of(out)};
}

inline Judged run_softcap(const Declared& route, std::size_t n, double cap, Spread spread, std::mt19937_64& random) {
  const Tensor x = tensor_of(route.arm.activations, numbers(n, spread, random));
  Tensor out(route.arm.activations, 1, static_cast<std::int64_t>(n));
  const std::vector<RowId> rows = rows_from(0, 1);
  ArmOps(route.arm)->softcap({Stage::logits, 0, rows}, x.view(), cap, out.view());
  return {audit::softcap(row_of(x), cap, route.lanes), row_of(out)};
}

inline Judged run_embed(const Declared& route, DType dtype, std::int64_t n, double scale, std::mt19937_64& random) {
  const Weight table(dtype, 3, n, random);
  Tensor out(route.arm.activations, 1, n);
  const std::vector<RowId> rows = rows_from(0, 1);
  ArmOps(route.arm)->embed({Stage::x_in, 0, rows}, table.view(), std::vector<std::int32_t>{1}, scale, out.view());
  std::vector<double> row;
  for (std::int64_t i = 0; i < n; ++i) row.push_back(table.value(1, i));
  return {audit::embed(row, scale, route.lanes), row_of(out)};
}

inline Judged run_kv_write(const Declared& route, DType kv_type, std::int64_t n, Spread spread, std::mt19937_64& random) {
  LooseKv kv(kv_type, n);
  const Tensor x = tensor_of(route.arm.activations, numbers(static_cast<std::size_t>(n), spread, random));
  const std::vector<RowId> rows = rows_from(0, 1);
  ArmOps(route.arm)->kv_write({Stage::k_cache, 0, rows}, x.view(), KvPart::k, kv);
  Judged out{audit::kv_write(row_of(x), kv_type, route.arm.activations), {}};
  for (std::int64_t i = 0; i < n; ++i) out.actual.push_back(kv.get(KvPart::k, 0, {0, 0}, i));
  return out;
}

inline Judged run_quantize(const Declared& route, std::int64_t n, Spread spread, std::mt19937_64& random) {
  const Tensor x = tensor_of(route.arm.activations, numbers(static_cast<std::size_t>(n), spread, random));
  Tensor out(DType::q8_f32, 1, n);
  const std::vector<RowId> rows = rows_from(0, 1);
  ArmOps(route.arm)->quantize({Stage::attn_norm_q8, 0, rows}, x.view(), out.view());
  return {audit::activation_blocks(row_of(x), route.arm.activations), row_of(out)};
}

}  // namespace greta::test
