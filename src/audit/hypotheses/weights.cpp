// Hypotheses about the matrix of a product: another tensor, its transpose, rows moved, a bias or the last inputs left out.
#include <fmt/format.h>

#include <algorithm>
#include <array>

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

/// Read column by column with its shape kept: element (o, i) of the reader is element o * n_in + i of the matrix laid out by
/// columns.
void propose_transposed(const Scene& scene, const Emit& emit) {
  if (!is_product(scene) || scene.right.quantised) return;
  const Matrix& right = scene.right.matrix;
  constexpr std::int64_t kMostElements = std::int64_t{1} << 24;  // of a matrix that is held whole
  if (right.n_out * right.n_in > kMostElements) return;
  const auto n_in = static_cast<std::size_t>(right.n_in), n_out = static_cast<std::size_t>(right.n_out);
  auto columns = std::make_shared<std::vector<double>>(n_in * n_out);
  std::vector<double> row(n_in);
  for (std::size_t o = 0; o < n_out; ++o) {
    right.row(static_cast<std::int64_t>(o), row);
    for (std::size_t i = 0; i < n_in; ++i) (*columns)[i * n_out + o] = row[i];
  }
  RowCase altered = scene.right;
  altered.matrix.row = [columns, n_in](std::int64_t o, std::span<double> out) {
    std::copy_n(columns->begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(o) * n_in), n_in, out.begin());
  };
  emit({"weight-transposed", {}, std::move(altered), {}, false});
}

void propose_row_shift(const Scene& scene, const Emit& emit) {
  if (!is_product(scene)) return;
  const std::int64_t n_out = scene.right.matrix.n_out;
  for (const int delta : {-8, -4, -2, -1, 1, 2, 4, 8}) {
    RowCase altered = scene.right;
    const auto moved = [n_out, delta](std::int64_t o) { return ((o + delta) % n_out + n_out) % n_out; };
    altered.matrix.row = [row = scene.right.matrix.row, moved](std::int64_t o, std::span<double> out) { row(moved(o), out); };
    altered.matrix.minima = [row = scene.right.matrix.minima, moved](std::int64_t o, std::span<double> out) {
      row(moved(o), out);
    };
    emit({"row-shifted", {{"delta", std::to_string(delta)}}, std::move(altered), {}, false});
  }
}

void propose_no_bias(const Scene& scene, const Emit& emit) {
  if (!is_product(scene) || scene.right.bias.empty()) return;
  RowCase altered = scene.right;
  altered.bias.clear();
  emit({"bias-missing", {}, std::move(altered), {}, false});
}

void propose_tail(const Scene& scene, const Emit& emit) {
  if (!is_product(scene)) return;
  const auto n_in = static_cast<std::size_t>(scene.right.matrix.n_in);
  for (const std::size_t block :
       {std::size_t{8}, std::size_t{16}, std::size_t{32}, std::size_t{64}, std::size_t{128}, std::size_t{256}}) {
    const std::size_t tail = n_in % block == 0 ? block : n_in % block;
    if (tail >= n_in) continue;
    RowCase altered = scene.right;
    std::fill(altered.inputs[0].end() - static_cast<std::ptrdiff_t>(tail), altered.inputs[0].end(), 0.0);
    emit({"tail-dropped", {{"elements", std::to_string(tail)}}, std::move(altered), {}, false});
  }
}

/// Rows of a Q or K projection in the order of the other RoPE layout, one way or the other.
void propose_permuted(const Scene& scene, const Emit& emit) {
  if (!is_product(scene) || (scene.right.place.stage != Stage::q && scene.right.place.stage != Stage::k)) return;
  const std::int64_t dim = scene.contract.model.head_dim, half = dim / 2, n_out = scene.right.matrix.n_out;
  for (const bool inverse : {false, true}) {
    const auto source = [=](std::int64_t o) {
      const std::int64_t head = o / dim, at = o % dim;
      return head * dim + (inverse ? (at < half ? 2 * at : 2 * (at - half) + 1) : (at % 2 == 0 ? at / 2 : half + at / 2));
    };
    if (n_out % dim != 0) return;
    RowCase altered = scene.right;
    altered.matrix.row = [row = scene.right.matrix.row, source](std::int64_t o, std::span<double> out) { row(source(o), out); };
    altered.matrix.minima = [row = scene.right.matrix.minima, source](std::int64_t o, std::span<double> out) {
      row(source(o), out);
    };
    emit({"rows-permuted", {{"order", inverse ? "pairs_to_halves" : "halves_to_pairs"}}, std::move(altered), {}, false});
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
