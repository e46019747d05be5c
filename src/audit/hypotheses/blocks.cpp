// Hypotheses about the blocks of a quantised matrix: one block of every row is scaled wrongly, or loses its minimum.
#include <algorithm>
#include <array>

#include "audit/hypotheses/few_outputs.h"
#include "audit/hypothesis.h"

namespace greta::audit {
namespace {

enum class Misread : std::uint8_t { next_scale, no_scale, no_minimum };

/// The scale that a misreading kernel takes for block `block` of `n`: the next one's, round the end of the row, or 1.
BlockScale misread(const Tensors& tensors, const std::string& name, std::int64_t row, std::int64_t block, std::int64_t n,
                   Misread how) {
  BlockScale out = tensors.block_scale(name, row, block);
  if (how == Misread::next_scale) out.scale = tensors.block_scale(name, row, (block + 1) % n).scale;
  if (how == Misread::no_scale) out.scale = 1;
  if (how == Misread::no_minimum) out.minimum = 0;
  return out;
}

/// What is left of the residuals' squares, of 1, if block b of every row is misread: for all blocks.
std::vector<double> left_by_block(const Scene& scene, const FewOutputs& few, std::int64_t elements, Misread how) {
  const Tensors& tensors = scene.contract.tensors;
  const std::string& name = scene.right.op.weight;
  const std::vector<double>& x = scene.right.inputs[0];
  const auto size = static_cast<std::size_t>(elements), n = x.size() / size;
  std::vector<double> left(n), own(x.size()), other(size);
  for (std::size_t k = 0; k < few.outputs.size(); ++k) {
    const std::int64_t row = few.outputs[k];
    tensors.row(name, row, own);
    for (std::size_t b = 0; b < n; ++b) {
      const auto block = static_cast<std::int64_t>(b);
      const BlockScale scale = misread(tensors, name, row, block, static_cast<std::int64_t>(n), how);
      tensors.scaled_block(name, row, block, scale, other);
      double moved = 0;
      for (std::size_t i = 0; i < size; ++i) moved += x[b * size + i] * (other[i] - own[b * size + i]);
      const double rest = few.residual[k] - moved;
      left[b] += rest * rest / few.squares;
    }
  }
  return left;
}

RowCase misread_case(const Scene& scene, std::int64_t elements, std::int64_t block, Misread how) {
  const Tensors& tensors = scene.contract.tensors;
  const std::string name = scene.right.op.weight;
  const std::int64_t n = scene.right.matrix.n_in / elements;
  const auto first = static_cast<std::size_t>(block * elements), size = static_cast<std::size_t>(elements);
  RowCase altered = scene.right;
  altered.matrix.row = [&tensors, name, block, n, how, first, size, row = scene.right.matrix.row](std::int64_t o,
                                                                                                  std::span<double> out) {
    row(o, out);
    tensors.scaled_block(name, o, block, misread(tensors, name, o, block, n, how), out.subspan(first, size));
  };
  if (how != Misread::no_minimum) return altered;
  const auto sub = static_cast<std::size_t>(integer_blocks(scene.right.matrix.dtype).sub);
  altered.matrix.minima = [first, size, sub, minima = scene.right.matrix.minima](std::int64_t o, std::span<double> out) {
    minima(o, out);
    for (double& minimum : out.subspan(first / sub, size / sub)) minimum = 0;
  };
  return altered;
}

/// The block is the one whose misreading moves a few outputs as they were moved.
void propose_misread(const Scene& scene, const Emit& emit, Misread how) {
  if (scene.right.op.op != OpClass::matmul) return;
  const Tensors& tensors = scene.contract.tensors;
  const std::string& name = scene.right.op.weight;
  const std::int64_t elements = tensors.block_elements(name), n_in = scene.right.matrix.n_in;
  if (elements == 0 || n_in % elements != 0) return;
  if (how == Misread::no_minimum && !tensors.block_scale(name, 0, 0).minimum) return;
  const FewOutputs few = few_outputs(scene);
  if (few.outputs.empty()) return;
  constexpr double kMostLeft = 0.05;
  constexpr std::size_t kMostBlocks = 3;
  const std::vector<double> left = left_by_block(scene, few, elements, how);
  std::vector<std::pair<double, std::int64_t>> near;
  for (std::size_t b = 0; b < left.size(); ++b)
    if (left[b] < kMostLeft) near.emplace_back(left[b], static_cast<std::int64_t>(b));
  std::sort(near.begin(), near.end());
  for (std::size_t i = 0; i < std::min(near.size(), kMostBlocks); ++i) {
    const std::int64_t block = near[i].second;
    std::vector<std::pair<std::string, std::string>> params{{"block", std::to_string(block)}};
    if (how != Misread::no_minimum) params.emplace_back("as", how == Misread::next_scale ? "next" : "one");
    emit({how == Misread::no_minimum ? "block-min" : "block-scale",
          std::move(params),
          misread_case(scene, elements, block, how),
          {},
          false});
  }
}

void propose_scale(const Scene& scene, const Emit& emit) {
  propose_misread(scene, emit, Misread::next_scale);
  propose_misread(scene, emit, Misread::no_scale);
}

void propose_minimum(const Scene& scene, const Emit& emit) { propose_misread(scene, emit, Misread::no_minimum); }

constexpr std::array kBlocks{
    Hypothesis{"block-scale", "one block of every row is scaled by the next block's scale, or not at all", propose_scale},
    Hypothesis{"block-min", "the minimum of one block of every row is left out", propose_minimum}};

}  // namespace

std::span<const Hypothesis> block_hypotheses() { return kBlocks; }

}  // namespace greta::audit
