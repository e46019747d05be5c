// Hypotheses about the matrix of a product: another tensor, its transpose, rows moved, a bias or the last inputs left out.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "audit/hypotheses/few_outputs.h"
#include "audit/hypothesis.h"

namespace greta::audit {
namespace {

bool is_product(const Scene& scene) { return scene.right.op.op == OpClass::matmul; }

constexpr std::array<const char*, 7> kMatrices{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};

void propose_tensor(const Scene& scene, const Emit& emit) {
  if (!is_product(scene)) return;
  const Tensors& tensors = scene.contract.tensors;
  const auto with = [&](const std::string& name) {
    const auto shape = tensors.find(name);
    const Matrix& right = scene.right.matrix;
    if (!shape || name == scene.right.op.weight || shape->rows != right.n_out || shape->cols != right.n_in) return;
    RowCase altered = scene.right;
    altered.matrix.dtype = shape->dtype;
    altered.matrix.row = [&tensors, name](std::int64_t o, std::span<double> out) { tensors.row(name, o, out); };
    altered.matrix.minima = [&tensors, name](std::int64_t o, std::span<double> out) { tensors.minima(name, o, out); };
    emit({"weight", {{"tensor", name}}, std::move(altered), {}, false});
  };
  for (const char* part : kMatrices) {
    for (int layer = 0; layer < scene.contract.model.n_layers; ++layer) {
      // Another layer's matrix of the same part, or another part's of the same layer.
      const bool same_part = scene.right.op.weight.ends_with(std::string(".") + part + ".weight");
      if (same_part || layer == scene.right.place.layer) with(fmt::format("blk.{}.{}.weight", layer, part));
    }
  }
  with("token_embd.weight");
  with("output.weight");
}

/// Read column by column with its shape kept, one way or the other: the stored elements F, row by row, taken for columns
/// (element (o, i) is F[i n_out + o]), or the reverse, columns taken for rows. Of a square matrix both are its transpose.
/// Blocks do not lie along such a row, so that the product is one of numbers in F32, whatever it should have been.
void propose_transposed(const Scene& scene, const Emit& emit) {
  if (!is_product(scene)) return;
  const Matrix& right = scene.right.matrix;
  constexpr std::int64_t kMostElements = std::int64_t{1} << 24;  // of a matrix that is held whole
  if (right.n_out * right.n_in > kMostElements) return;
  const auto n_in = static_cast<std::size_t>(right.n_in), n_out = static_cast<std::size_t>(right.n_out);
  auto stored = std::make_shared<std::vector<double>>(n_in * n_out);
  for (std::size_t o = 0; o < n_out; ++o) right.row(static_cast<std::int64_t>(o), std::span(*stored).subspan(o * n_in, n_in));
  RowCase altered = scene.right;
  if (std::exchange(altered.quantised, false))
    for (double& value : altered.inputs[0]) value = static_cast<double>(static_cast<float>(value));
  altered.matrix.row = [stored, n_out](std::int64_t o, std::span<double> out) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = (*stored)[i * n_out + static_cast<std::size_t>(o)];
  };
  emit({"weight-transposed", {}, altered, {}, false});
  if (n_in == n_out) return;
  altered.matrix.row = [stored, n_in, n_out](std::int64_t o, std::span<double> out) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::size_t flat = static_cast<std::size_t>(o) * n_in + i;
      out[i] = (*stored)[flat % n_out * n_in + flat / n_out];
    }
  };
  emit({"weight-transposed", {{"order", "columns_to_rows"}}, std::move(altered), {}, false});
}

/// The row as it is without the bias, which stays where it is when rows of the matrix move.
std::vector<double> without_bias(const Scene& scene, std::span<const double> row) {
  std::vector<double> out(row.begin(), row.end());
  for (std::size_t o = 0; o < std::min(out.size(), scene.right.bias.size()); ++o) out[o] -= scene.right.bias[o];
  return out;
}

/// The shifts, round the end, at which a few outputs are what is due elsewhere.
std::vector<std::int64_t> fitting_shifts(const Scene& scene) {
  constexpr double kMostLeft = 0.05;
  constexpr std::size_t kMostShifts = 4;
  const FewOutputs few = few_outputs(scene);
  const std::vector<double> due = without_bias(scene, scene.due.value), actual = without_bias(scene, scene.actual);
  std::vector<std::int64_t> out;
  for (std::size_t shift = 1; shift < due.size() && !few.outputs.empty() && out.size() < kMostShifts; ++shift) {
    double left = 0;
    for (std::size_t k = 0; k < few.outputs.size() && left < kMostLeft * few.squares; ++k) {
      const auto o = static_cast<std::size_t>(few.outputs[k]);
      const double rest = actual[o] - due[(o + shift) % due.size()];
      left += rest * rest;
    }
    if (left < kMostLeft * few.squares) out.push_back(static_cast<std::int64_t>(shift));
  }
  return out;
}

void propose_row_shift(const Scene& scene, const Emit& emit) {
  if (!is_product(scene)) return;
  const std::int64_t n_out = scene.right.matrix.n_out;
  for (const std::int64_t shift : fitting_shifts(scene)) {
    RowCase altered = scene.right;
    const auto moved = [n_out, shift](std::int64_t o) { return (o + shift) % n_out; };
    altered.matrix.row = [row = scene.right.matrix.row, moved](std::int64_t o, std::span<double> out) { row(moved(o), out); };
    altered.matrix.minima = [row = scene.right.matrix.minima, moved](std::int64_t o, std::span<double> out) {
      row(moved(o), out);
    };
    const std::int64_t delta = shift <= n_out / 2 ? shift : shift - n_out;
    emit({"row-shifted", {{"delta", std::to_string(delta)}}, std::move(altered), {}, false});
  }
}

void propose_no_bias(const Scene& scene, const Emit& emit) {
  if (!is_product(scene) || scene.right.bias.empty()) return;
  RowCase altered = scene.right;
  altered.bias.clear();
  emit({"bias-missing", {}, std::move(altered), {}, false});
}

/// The number of last inputs without which a few outputs are nearest to what they should not be; 0: none explains them.
std::size_t fitted_tail(const Scene& scene) {
  const FewOutputs few = few_outputs(scene);
  if (few.outputs.empty()) return 0;
  const std::vector<double>& x = scene.right.inputs[0];
  std::vector<double> left(x.size()), weights(x.size());  // left[i]: without inputs i, i+1, ...
  for (std::size_t k = 0; k < few.outputs.size(); ++k) {
    scene.right.matrix.row(few.outputs[k], weights);
    double lost = 0;
    for (std::size_t i = x.size(); i-- > 0;) {
      lost += x[i] * weights[i];
      left[i] += (few.residual[k] + lost) * (few.residual[k] + lost) / few.squares;
    }
  }
  const auto best = std::min_element(left.begin() + 1, left.end());
  constexpr double kMostLeft = 0.05;
  return *best < kMostLeft ? static_cast<std::size_t>(left.end() - best) : 0;
}

void propose_tail(const Scene& scene, const Emit& emit) {
  if (!is_product(scene)) return;
  const std::size_t tail = fitted_tail(scene);
  if (tail == 0) return;
  RowCase altered = scene.right;
  std::fill(altered.inputs[0].end() - static_cast<std::ptrdiff_t>(tail), altered.inputs[0].end(), 0.0);
  emit({"tail-dropped", {{"elements", std::to_string(tail)}}, std::move(altered), {}, false});
}

/// Rows of a Q or K projection in the order of the other RoPE layout, one way or the other, for their own number of heads or
/// for one that was taken for it.
void propose_permuted(const Scene& scene, const Emit& emit) {
  if (!is_product(scene) || (scene.right.place.stage != Stage::q && scene.right.place.stage != Stage::k)) return;
  const ModelContract& model = scene.contract.model;
  const std::int64_t n_out = scene.right.matrix.n_out, own = n_out / model.head_dim;
  std::vector<std::int64_t> tried;
  for (const std::int64_t heads : {own, std::int64_t{model.n_heads}, std::int64_t{model.n_kv_heads}, 2 * own, own / 2}) {
    if (heads < 1 || n_out % (2 * heads) != 0 || std::find(tried.begin(), tried.end(), heads) != tried.end()) continue;
    tried.push_back(heads);
    const std::int64_t dim = n_out / heads, half = dim / 2;
    for (const bool inverse : {false, true}) {
      const auto source = [=](std::int64_t o) {
        const std::int64_t head = o / dim, at = o % dim;
        return head * dim + (inverse ? (at < half ? 2 * at : 2 * (at - half) + 1) : (at % 2 == 0 ? at / 2 : half + at / 2));
      };
      std::vector<std::pair<std::string, std::string>> params{{"order", inverse ? "pairs_to_halves" : "halves_to_pairs"}};
      if (heads != own) params.emplace_back("heads", std::to_string(heads));
      RowCase altered = scene.right;
      const auto moved = [source](const WeightRow& row) {
        return [row, source](std::int64_t o, std::span<double> out) { row(source(o), out); };
      };
      altered.matrix.row = moved(scene.right.matrix.row);
      if (scene.right.matrix.minima) altered.matrix.minima = moved(scene.right.matrix.minima);
      emit({"rows-permuted", std::move(params), std::move(altered), {}, false});
    }
  }
}

/// The token whose embedding, scaled as is due, is the output, if no neighbour's is: the whole table is searched.
void propose_any_token(const Scene& scene, const Emit& emit) {
  const Matrix& table = scene.right.matrix;
  constexpr std::int64_t kMostElements = std::int64_t{1} << 28;
  if (table.n_out * table.n_in > kMostElements || scene.actual.empty()) return;
  std::vector<double> row(scene.actual.size());
  for (std::int64_t token = 0; token < table.n_out; ++token) {
    if (std::abs(token - scene.right.token) <= 2) continue;
    table.row(token, row);
    const auto near = [&](std::size_t i) {
      const double due = row[i] * scene.right.factor;
      return std::fabs(scene.actual[i] - due) <= 1e-3 * std::fabs(due);
    };
    std::size_t same = 0;
    while (same < row.size() && near(same)) ++same;
    if (same < row.size()) continue;
    RowCase altered = scene.right;
    altered.token = token;
    emit({"embedding-row", {{"token", std::to_string(token)}}, std::move(altered), {}, false});
    return;
  }
}

void propose_token(const Scene& scene, const Emit& emit) {
  if (scene.right.op.op != OpClass::embed) return;
  for (const int delta : {-2, -1, 1, 2}) {
    const std::int64_t n = scene.right.matrix.n_out;
    RowCase altered = scene.right;
    altered.token = ((scene.right.token + delta) % n + n) % n;
    emit({"embedding-row", {{"delta", std::to_string(delta)}}, std::move(altered), {}, false});
  }
  propose_any_token(scene, emit);
  if (scene.right.factor == 1) return;
  RowCase altered = scene.right;
  altered.factor = 1;
  emit({"embedding-scale", {{"scale", "1"}}, std::move(altered), {}, false});
}

constexpr std::array kWeights{
    Hypothesis{"weight", "a product is computed with another tensor", propose_tensor},
    Hypothesis{"weight-transposed", "the matrix is read column by column", propose_transposed},
    Hypothesis{"row-shifted", "output o has the weights of output o + delta", propose_row_shift},
    Hypothesis{"rows-permuted", "Q or K rows stand in the order of the other RoPE layout", propose_permuted},
    Hypothesis{"bias-missing", "the bias is left out", propose_no_bias},
    Hypothesis{"tail-dropped", "the last inputs of a dot product are left out", propose_tail},
    Hypothesis{"embedding-row", "the embedding of another token is read, or not scaled", propose_token}};

}  // namespace

std::span<const Hypothesis> weight_hypotheses() { return kWeights; }

}  // namespace greta::audit
