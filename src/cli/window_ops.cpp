#include "cli/window_ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>
#include <utility>

#include "audit/elementwise_bound.h"
#include "audit/local_error.h"
#include "fault/op_call.h"

namespace greta::cli {
namespace {

constexpr int kSeeded = 3;       // one-hot columns, rows of a table
constexpr int kDense = 2;        // inputs without zeros
constexpr int kDecodeCalls = 4;  // of the windows, the last ones: dense inputs are among them

/// No rows of an arm: the names of a stage's tensors do not depend on any.
class NoRows final : public audit::Rows {
 public:
  std::span<const double> row(Stage, int, int) const override { return {}; }
  std::optional<DType> dtype(Stage, int) const override { return std::nullopt; }
  std::string_view route(Stage, int) const override { return {}; }
  std::vector<int> positions(Stage, int) const override { return {}; }
};

std::uint64_t seed_of(const std::string& tensor) {
  std::uint64_t seed = 1469598103934665603u;  // FNV-1a: the same on every machine
  for (const char c : tensor) seed = (seed ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return seed;
}

/// Columns in which a row holds something else than zero.
std::vector<bool> live_columns(const audit::Tensors& tensors, const std::string& tensor, const audit::TensorShape& shape) {
  std::vector<bool> live(static_cast<std::size_t>(shape.cols));
  std::vector<double> row(live.size());
  for (std::int64_t o = 0; o < shape.rows; ++o) {
    tensors.row(tensor, o, row);
    for (std::size_t i = 0; i < row.size(); ++i)
      if (row[i] != 0) live[i] = true;
  }
  return live;
}

bool is_live(const audit::Tensors& tensors, const std::string& tensor, std::int64_t row, std::vector<double>& values) {
  tensors.row(tensor, row, values);
  return std::any_of(values.begin(), values.end(), [](double x) { return x != 0; });
}

/// The first, the last, both sides of the first and the last border of blocks, and seeded ones.
std::set<std::int64_t> places_to_try(std::int64_t n, std::int64_t block, SeededNumbers& numbers) {
  std::set<std::int64_t> out{0, n - 1};
  for (const std::int64_t border : {block, n / block * block, n - block})
    for (const std::int64_t place : {border - 1, border})
      if (place >= 0 && place < n) out.insert(place);
  for (int i = 0; i < kSeeded; ++i) out.insert(static_cast<std::int64_t>(numbers.bits() % static_cast<std::uint64_t>(n)));
  return out;
}

}  // namespace

WindowResult* WindowOps::open(const OpSite& site, const WeightView& weight, const std::string& tensor, OpKind op) {
  WindowResult& result = results_.emplace_back();
  result.tensor = tensor.empty() ? std::string(weight.name) : tensor;
  result.stage = site.stage;
  result.layer = site.layer;
  const auto shape = tensor.empty() ? std::nullopt : contract_.tensors.find(tensor);
  if (shape) {
    result.shape = *shape;
    return &result;
  }
  result.shape = {weight.n_rows, weight.n_cols, weight.dtype};
  result.finding = fmt::format("{} of {} reads it, and the contract has no such tensor there", name(op), name(site.stage));
  return nullptr;
}

WindowOps::Call WindowOps::call(Phase phase, const OpSite& site, const TensorView& like, const Windows& windows,
                                std::int64_t n_out, const Op& op) {
  std::vector<RowId> rows;
  for (std::size_t r = 0; r < windows.size(); ++r) rows.push_back({0, static_cast<std::int32_t>(r)});
  const OpSite own{site.stage, site.layer, rows};
  suspect_.begin_step(phase, rows);
  TensorView in;
  if (!windows.front().empty()) {
    in = in_.next(like.origin.stage, like.origin.layer, plan_.activations, rows,
                  static_cast<std::int64_t>(windows.front().size()));
    for (std::int64_t r = 0; r < in.n_rows; ++r) store_row(in, r, windows[static_cast<std::size_t>(r)]);
    if (like.dtype != in.dtype) {  // in blocks, or rounded
      const TensorView codes = codes_.next(like.origin.stage, like.origin.layer, like.dtype, rows, in.n_cols);
      suspect_.ops().quantize({like.origin.stage, like.origin.layer, rows}, in, codes);
      in = codes;
    }
  }
  const TensorView out = out_.next(site.stage, site.layer, plan_.activations, rows, n_out);
  op(own, in, out);
  Call made;
  for (std::int64_t r = 0; r < out.n_rows; ++r) {
    if (in.data != nullptr) made.read.push_back(row_as_double(in, r));
    made.wrote.push_back(row_as_double(out, r));
  }
  return made;
}

void WindowOps::judge(WindowResult& result, Phase phase, const audit::Estimate& due, const std::vector<double>& wrote) {
  const audit::LocalError error = audit::judge(due, wrote);
  ++result.windows;
  result.ratio = std::max(result.ratio, audit::largest_ratio(error));
  if (error.guilty() && result.finding.empty()) result.finding = fmt::format("{}: {}", name(phase), audit::described(error));
}

/// One-hot inputs that meet a column which is not all zero, then dense ones.
WindowOps::Windows WindowOps::windows_of(const audit::Op& op, WindowResult& result) const {
  const std::vector<bool> live = live_columns(contract_.tensors, op.weight, result.shape);
  SeededNumbers numbers(seed_of(op.weight));
  const std::int64_t n = result.shape.cols;
  std::set<std::int64_t> columns;
  for (const std::int64_t wanted : places_to_try(n, dtype_info(result.shape.dtype).block_elems, numbers))
    for (std::int64_t moved = 0; moved < n; ++moved)
      if (const std::int64_t c = (wanted + moved) % n; live[static_cast<std::size_t>(c)]) {
        columns.insert(c);
        break;
      }
  result.all_zero = columns.empty();
  Windows windows;
  for (const std::int64_t c : columns) windows.emplace_back(static_cast<std::size_t>(n))[static_cast<std::size_t>(c)] = 1;
  for (int i = 0; i < kDense; ++i) windows.push_back(numbers.next(static_cast<std::size_t>(n)));
  return windows;
}

void WindowOps::products(WindowResult& result, const OpSite& site, const TensorView& x, const WeightView& weight,
                         const WeightView& bias, const audit::Op& op, const Windows& windows, std::int64_t n_out) {
  audit::RowCase right;
  right.op = op;
  right.matrix = audit::matrix_of(contract_.tensors, op.weight);
  right.bias = audit::vector_of(contract_.tensors, op.bias);
  right.quantised = x.dtype == DType::q8_f32;
  right.held = x.dtype;
  right.stored = plan_.activations;
  const Op compute = [&](const OpSite& own, const TensorView& in, const TensorView& out) {
    suspect_.ops().matmul(own, in, weight, bias, out);
  };
  std::vector<Call> calls;
  std::vector<Phase> phases;
  const auto make = [&](Phase phase, const Windows& part) {
    calls.push_back(call(phase, site, x, part, n_out, compute));
    phases.push_back(phase);
  };
  for (std::size_t first = 0; first < windows.size(); first += kRows) {
    const auto begin = windows.begin() + static_cast<std::ptrdiff_t>(first);
    make(Phase::prefill, {begin, begin + static_cast<std::ptrdiff_t>(std::min<std::size_t>(kRows, windows.size() - first))});
  }
  for (std::size_t w = windows.size() - std::min<std::size_t>(kDecodeCalls, windows.size()); w < windows.size(); ++w)
    make(Phase::decode, {windows[w]});

  std::vector<std::span<const double>> inputs;  // of all calls: the matrix is read once
  for (const Call& made : calls) inputs.insert(inputs.end(), made.read.begin(), made.read.end());
  const auto due = audit::products(right, inputs, audit::arithmetic_of(route(OpKind::matmul), right));
  std::size_t next = 0;
  for (std::size_t c = 0; c < calls.size(); ++c)
    for (const std::vector<double>& wrote : calls[c].wrote) judge(result, phases[c], due[next++], wrote);
}

void WindowOps::matmul(const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
                       TensorView out) {
  inner_.matmul(site, x, weight, bias, out);
  const auto op = audit::op_of(contract_, NoRows(), {site.stage, site.layer});
  WindowResult* result = open(site, weight, op ? op->weight : std::string(), OpKind::matmul);
  if (result == nullptr) return;
  products(*result, site, x, weight, bias, *op, windows_of(*op, *result), out.n_cols);
  if (op->bias.empty() && !bias) return;
  result = open(site, bias, op->bias, OpKind::matmul);
  if (result == nullptr) return;
  std::vector<double> values;
  values.resize(static_cast<std::size_t>(result->shape.cols));
  result->all_zero = !is_live(contract_.tensors, op->bias, 0, values);
  const Windows zeros(2, std::vector<double>(static_cast<std::size_t>(weight.n_cols)));
  products(*result, site, x, weight, bias, *op, zeros, out.n_cols);
}

void WindowOps::rmsnorm(const OpSite& site, const TensorView& x, const WeightView& weight, double eps, TensorView out) {
  inner_.rmsnorm(site, x, weight, eps, out);
  const auto op = audit::op_of(contract_, NoRows(), {site.stage, site.layer});
  WindowResult* result = open(site, weight, op ? op->weight : std::string(), OpKind::rmsnorm);
  if (result == nullptr) return;
  audit::RowCase right;
  right.op = *op;
  right.gain = audit::vector_of(contract_.tensors, op->weight);
  right.eps = contract_.model.rms_eps;
  right.stored = plan_.activations;
  result->all_zero = std::all_of(right.gain.begin(), right.gain.end(), [](double g) { return g == 0; });
  SeededNumbers numbers(seed_of(op->weight));
  Windows windows;
  for (int i = 0; i < kDense; ++i) windows.push_back(numbers.next(static_cast<std::size_t>(x.n_cols)));
  const Op compute = [&](const OpSite& own, const TensorView& in, const TensorView& to) {
    suspect_.ops().rmsnorm(own, in, weight, eps, to);
  };
  const audit::Arithmetic arithmetic = audit::arithmetic_of(route(OpKind::rmsnorm), right);
  const auto judge_all = [&](Phase phase, const Windows& part) {
    const Call made = call(phase, site, x, part, out.n_cols, compute);
    for (std::size_t r = 0; r < part.size(); ++r) {
      right.inputs = {made.read[r]};
      judge(*result, phase, audit::estimate(right, arithmetic), made.wrote[r]);
    }
  };
  judge_all(Phase::prefill, windows);
  judge_all(Phase::decode, {windows.back()});
}

void WindowOps::embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens, double scale,
                      TensorView out) {
  inner_.embed(site, table, tokens, scale, out);
  const auto op = audit::op_of(contract_, NoRows(), {site.stage, site.layer});
  WindowResult* result = open(site, table, op ? op->weight : std::string(), OpKind::embed);
  if (result == nullptr) return;
  audit::RowCase right;
  right.op = *op;
  right.matrix = audit::matrix_of(contract_.tensors, op->weight);
  right.factor = contract_.model.embedding_scale;
  right.stored = plan_.activations;
  SeededNumbers numbers(seed_of(op->weight));
  std::vector<double> values(static_cast<std::size_t>(result->shape.cols));
  std::set<std::int64_t> ids;
  const std::int64_t n = result->shape.rows;
  for (const std::int64_t wanted : places_to_try(n, n, numbers))
    for (std::int64_t moved = 0; moved < n; ++moved)
      if (const std::int64_t id = (wanted + moved) % n; is_live(contract_.tensors, op->weight, id, values)) {
        ids.insert(id);
        break;
      }
  result->all_zero = ids.empty();
  if (ids.empty()) ids.insert(0);
  const audit::Arithmetic arithmetic = audit::arithmetic_of(route(OpKind::embed), right);
  const auto judge_all = [&](Phase phase, const std::vector<std::int32_t>& part) {
    const Op compute = [&](const OpSite& own, const TensorView&, const TensorView& to) {
      suspect_.ops().embed(own, table, part, scale, to);
    };
    const Call made = call(phase, site, {}, Windows(part.size()), out.n_cols, compute);
    for (std::size_t r = 0; r < part.size(); ++r) {
      right.token = part[r];
      judge(*result, phase, audit::estimate(right, arithmetic), made.wrote[r]);
    }
  };
  const std::vector<std::int32_t> all(ids.begin(), ids.end());
  judge_all(Phase::prefill, all);
  judge_all(Phase::decode, {all.back()});
}

}  // namespace greta::cli
