// Weight matrices read wrongly: transposed, shifted, permuted, a tail or a block's scale or minimum left out, no bias.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/half.h"
#include "fault/catalogue.h"
#include "fault/stage_weights.h"

namespace greta {
namespace {

constexpr std::array kMatmuls{Stage::q,      Stage::k,       Stage::v,        Stage::wo_out, Stage::ffn_gate,
                              Stage::ffn_up, Stage::mlp_out, Stage::head_out, Stage::logits};

void alter(WrongCall& call, const std::function<void(std::vector<std::byte>&)>& change) {
  const AlteredWeights::Copy copy = call.altered.get(call.fault, call.weight, change);
  call.arena.held.push_back(copy.bytes);
  call.weight = copy.view;
}

/// Row o of the copy is row source(o) of the weights.
void reorder_rows(WrongCall& call, const std::function<std::int64_t(std::int64_t)>& source) {
  const WeightView weight = call.weight;
  alter(call, [&](std::vector<std::byte>& bytes) {
    for (std::int64_t o = 0; o < weight.n_rows; ++o)
      std::memcpy(bytes.data() + o * weight.row_size(), weight.row(source(o)), static_cast<std::size_t>(weight.row_size()));
  });
}

/// Capped logits are no matrix's: the head's product is head_out then.
bool is_matmul(const WrongCall& call) { return call.op == OpKind::matmul; }

void plant_transposed(const FaultSpec&, WrongCall& call) {
  if (is_matmul(call)) call.weight.layout = WeightLayout::transposed;
}

constexpr std::array kShiftKeys{
    FaultKey{.name = "delta", .fallback = "1", .doc = "rows away, round the end", .min = -1e9, .max = 1e9}};

void plant_shifted(const FaultSpec& fault, WrongCall& call) {
  if (!is_matmul(call)) return;
  const std::int64_t n = call.weight.n_rows, delta = fault.integer("delta");
  reorder_rows(call, [&](std::int64_t o) { return ((o + delta) % n + n) % n; });
}

// qk-permuted: the permutation between the two RoPE layouts, once too often.

constexpr std::array kProjections{Stage::q, Stage::k};
constexpr std::array kPermuteKeys{
    FaultKey{.name = "heads", .doc = "heads that the converter assumed (the projection's own number)", .min = 1, .max = 1e6}};

std::int64_t heads_assumed(const FaultSpec& fault, const ModelConfig& config, Stage stage) {
  return fault.has("heads") ? fault.integer("heads") : stage == Stage::q ? config.n_heads : config.n_kv_heads;
}

void plant_permuted(const FaultSpec& fault, WrongCall& call) {
  const std::int64_t size = call.weight.n_rows / heads_assumed(fault, call.target.model.config, call.site.stage);
  reorder_rows(call, [&](std::int64_t o) {
    const std::int64_t in_head = o % size;
    return o - in_head + in_head % 2 * (size / 2) + in_head / 2;
  });
}

std::string lacks_heads(const FaultSpec& fault, const FaultTarget& target) {
  const ModelConfig& config = target.model.config;
  for (const Stage stage : kProjections) {
    if (fault.stage && *fault.stage != stage) continue;
    const std::int64_t rows = std::int64_t{stage == Stage::q ? config.n_heads : config.n_kv_heads} * config.head_dim;
    const std::int64_t heads = heads_assumed(fault, config, stage);
    if (rows % (2 * heads) != 0)
      return fmt::format("{} has {} rows, which are not pairs of {} heads", name(stage), rows, heads);
  }
  return "";
}

// tail-dropped

constexpr std::array kTailKeys{FaultKey{.name = "block",
                                        .fallback = "32",
                                        .doc = "inputs beyond the last multiple of it are left out; "
                                               "the whole last block where there are none beyond",
                                        .min = 1,
                                        .max = 1e9}};

void plant_tail(const FaultSpec& fault, WrongCall& call) {
  if (!is_matmul(call)) return;
  call.instead(fault, [&fault, &call] {
    const TensorView cut = copy_of(call.x, call.arena);
    const std::int64_t n = cut.n_cols, block = std::min(fault.integer("block"), n);
    const std::int64_t first = n % block == 0 ? n - block : n - n % block;
    for (std::int64_t r = 0; r < call.n_rows(); ++r) clear_from(cut, r, first);
    call.kernel.matmul(call.site, cut, call.weight, call.bias, call.out);
  });
}

// block-scale, block-min

/// Where a block's scale and minimum lie, as binary16 (-1: it has none). By name, as on the command line.
struct BlockLayout {
  std::string_view dtype;
  std::int64_t scale = 0, minimum = -1;
};
constexpr std::array kLayouts{BlockLayout{"q8_0"},      BlockLayout{"q4_0"},       BlockLayout{"q4_1", 0, 2},
                              BlockLayout{"q5_0"},      BlockLayout{"q5_1", 0, 2}, BlockLayout{"q2_k", 80, 82},
                              BlockLayout{"q3_k", 108}, BlockLayout{"q4_k", 0, 2}, BlockLayout{"q5_k", 0, 2},
                              BlockLayout{"q6_k", 208}, BlockLayout{"iq4_nl"},     BlockLayout{"iq4_xs"}};

const BlockLayout* layout_of(DType dtype) {
  const auto found =
      std::find_if(kLayouts.begin(), kLayouts.end(), [&](const BlockLayout& l) { return l.dtype == name(dtype); });
  return found == kLayouts.end() ? nullptr : &*found;
}

constexpr FaultKey kBlockKey{.name = "block", .fallback = "0", .doc = "which block of every row", .min = 0, .max = 1e9};
constexpr std::array kScaleKeys{FaultKey{.name = "as",
                                         .type = KeyType::word,
                                         .fallback = "next",
                                         .doc = "the next block's scale is taken (round the end of the row), or none (1)",
                                         .words = "next one"},
                                kBlockKey};
constexpr std::array kMinKeys{kBlockKey};

/// change(block, next block) of every row.
void alter_blocks(const FaultSpec& fault, WrongCall& call, const std::function<void(std::byte*, const std::byte*)>& change) {
  const WeightView weight = call.weight;
  const DTypeInfo& info = dtype_info(weight.dtype);
  const std::int64_t n = weight.n_cols / info.block_elems, block = std::min(fault.integer("block"), n - 1);
  alter(call, [&](std::vector<std::byte>& bytes) {
    for (std::int64_t o = 0; o < weight.n_rows; ++o)
      change(bytes.data() + o * weight.row_size() + block * info.block_bytes,
             weight.row(o) + (block + 1) % n * info.block_bytes);
  });
}

void plant_scale(const FaultSpec& fault, WrongCall& call) {
  const BlockLayout* layout = layout_of(call.weight.dtype);
  if (layout == nullptr || !is_matmul(call)) return;
  alter_blocks(fault, call, [&](std::byte* block, const std::byte* next) {
    const std::uint16_t one = f32_to_f16(1.0f);
    if (fault.word("as") == "one") {
      std::memcpy(block + layout->scale, &one, sizeof one);
    } else {
      std::memcpy(block + layout->scale, next + layout->scale, sizeof one);
    }
  });
}

void plant_min(const FaultSpec& fault, WrongCall& call) {
  const BlockLayout* layout = layout_of(call.weight.dtype);
  if (layout == nullptr || layout->minimum < 0 || !is_matmul(call)) return;
  alter_blocks(fault, call, [&](std::byte* block, const std::byte*) { std::memset(block + layout->minimum, 0, 2); });
}

/// Whether any matrix at the fault's places satisfies the condition.
template <class Holds>
bool any_weight(const FaultSpec& fault, const FaultTarget& target, const Holds& holds) {
  for (const Stage stage : fault.kind->stages)
    for (std::int32_t l = 0; l < target.n_layers(); ++l) {
      if (!fault.matches_layer(l, stage, target.n_layers())) continue;
      const auto [weight, bias] = matrix_of(target.model, stage, static_cast<std::size_t>(l));
      if (holds(weight, bias)) return true;
    }
  return false;
}

std::string lacks_scales(const FaultSpec& fault, const FaultTarget& target) {
  return any_weight(fault, target, [](const WeightView& w, const WeightView&) { return layout_of(w.dtype) != nullptr; })
             ? ""
             : "the weights there have no blocks";
}

std::string lacks_minima(const FaultSpec& fault, const FaultTarget& target) {
  const auto has = [](const WeightView& w, const WeightView&) {
    const BlockLayout* layout = layout_of(w.dtype);
    return layout != nullptr && layout->minimum >= 0;
  };
  return any_weight(fault, target, has) ? "" : "the weights there have no blocks with a minimum";
}

void plant_no_bias(const FaultSpec&, WrongCall& call) { call.bias = {}; }

std::string lacks_bias(const FaultSpec& fault, const FaultTarget& target) {
  return any_weight(fault, target, [](const WeightView&, const WeightView& bias) { return static_cast<bool>(bias); })
             ? ""
             : "the model has no bias there";
}

constexpr std::array kBiased{Stage::q, Stage::k, Stage::v, Stage::wo_out, Stage::ffn_gate, Stage::ffn_up, Stage::mlp_out};

const auto kRows = std::to_array<FaultInfo>({
    {.name = "weight-transposed",
     .family = "weights",
     .doc = "the weight matrix of STAGE is read column by column instead of row by row (its shape stays)",
     .found_at = "STAGE (omitted: all matrices, found at the first)",
     .stands_for = "weight matrix read transposed: Wq, Wk, Wv, Wo row for column (gretacore B3.33-B3.40)",
     .stages = kMatmuls,
     .plant = plant_transposed},
    {.name = "row-shifted",
     .family = "weights",
     .doc = "output o of a matrix is computed with the weights of output o + DELTA",
     .found_at = "STAGE (omitted: all matrices, found at the first)",
     .stands_for = "an offset into the weights that is wrong by a row",
     .stages = kMatmuls,
     .keys = kShiftKeys,
     .plant = plant_shifted},
    {.name = "qk-permuted",
     .family = "weights",
     .doc = "the rows of the Q or K projection stand in the order of the other RoPE layout: permuted once too often, or by a "
            "wrong "
            "number of heads",
     .found_at = "q or k (the first of those chosen)",
     .idle = "where a head has two elements",
     .needs = "a projection whose rows are pairs of HEADS heads",
     .stands_for =
         "Q/K rows permuted wrongly under GQA (llama.cpp#3364); RoPE permutation skipped in a repack (llama.cpp#22611)",
     .stages = kProjections,
     .keys = kPermuteKeys,
     .plant = plant_permuted,
     .lacks = lacks_heads},
    {.name = "tail-dropped",
     .family = "weights",
     .doc = "a dot product leaves out its last inputs",
     .found_at = "STAGE (omitted: all matrices, found at the first)",
     .idle = "where those inputs or their weights are zero",
     .stands_for = "tail of a row not a multiple of the block dropped",
     .stages = kMatmuls,
     .keys = kTailKeys,
     .shows = ShowsIn::kernel,
     .plant = plant_tail},
    {.name = "block-scale",
     .family = "weights",
     .doc = "one block of every row of a quantised matrix is scaled by the next block's scale, or not at all",
     .found_at = "STAGE (omitted: all matrices, found at the first)",
     .idle = "where both scales are equal",
     .needs = "weights of a block type (q8_0, q4_0, ...)",
     .stands_for = "a block's scale ignored or wrong",
     .stages = kMatmuls,
     .keys = kScaleKeys,
     .plant = plant_scale,
     .lacks = lacks_scales},
    {.name = "block-min",
     .family = "weights",
     .doc = "the minimum of one block of every row of a quantised matrix is left out",
     .found_at = "STAGE (omitted: all matrices, found at the first)",
     .idle = "where the minimum is zero",
     .needs = "weights of a block type with a minimum (q4_1, q5_1, q2_k, q4_k, q5_k)",
     .stands_for = "a block's minimum ignored",
     .stages = kMatmuls,
     .keys = kMinKeys,
     .plant = plant_min,
     .lacks = lacks_minima},
    {.name = "bias-missing",
     .family = "weights",
     .doc = "a matrix product leaves out its bias",
     .found_at = "STAGE (omitted: all that have a bias, found at the first)",
     .needs = "a model with a bias there (qwen2: q, k, v)",
     .stands_for = "bias dropped (vllm#46835, vllm#3767)",
     .stages = kBiased,
     .plant = plant_no_bias,
     .lacks = lacks_bias},
});

}  // namespace

std::span<const FaultInfo> weight_faults() { return kRows; }

}  // namespace greta
