// Sums kept in binary16: in matrix products, in q.k, in the mixture of values.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/activation_blocks.h"
#include "core/half.h"
#include "fault/attention_parts.h"
#include "fault/catalogue.h"
#include "ops/cpu/weight_rows.h"

namespace greta {
namespace {

constexpr std::array kSums{Stage::q,        Stage::k,      Stage::v,       Stage::attn_scores, Stage::attn_out, Stage::wo_out,
                           Stage::ffn_gate, Stage::ffn_up, Stage::mlp_out, Stage::head_out,    Stage::logits};

/// A running sum in binary16: every product and every sum is rounded, and what leaves the range is infinite.
class HalfSum {
 public:
  void add(double a, double b) {
    const float product = f16_to_f32(f32_to_f16(static_cast<float>(a * b)));
    sum_ = f16_to_f32(f32_to_f16(sum_ + product));
  }
  double value() const { return static_cast<double>(sum_); }

 private:
  float sum_ = 0;
};

void matmul_in_half(WrongCall& call) {
  std::vector<std::vector<double>> inputs, outputs;
  for (std::int64_t r = 0; r < call.n_rows(); ++r) {
    inputs.push_back(row_as_double(call.x, r));
    outputs.emplace_back(static_cast<std::size_t>(call.weight.n_rows));
  }
  std::vector<float> weights(static_cast<std::size_t>(call.weight.n_cols)), bias;
  if (call.bias) {
    bias.resize(static_cast<std::size_t>(call.weight.n_rows));
    dequantize_output(call.bias, 0, bias.data());
  }
  for (std::size_t o = 0; o < static_cast<std::size_t>(call.weight.n_rows); ++o) {
    dequantize_output(call.weight, static_cast<std::int64_t>(o), weights.data());
    for (std::size_t r = 0; r < inputs.size(); ++r) {
      HalfSum sum;
      for (std::size_t i = 0; i < weights.size(); ++i) sum.add(inputs[r][i], static_cast<double>(weights[i]));
      outputs[r][o] = sum.value() + (bias.empty() ? 0.0 : static_cast<double>(bias[o]));
    }
  }
  for (std::int64_t r = 0; r < call.n_rows(); ++r) store_row(call.out, r, outputs[static_cast<std::size_t>(r)]);
}

void qk_in_half(WrongCall& call) {
  const AttentionParams& p = call.attention;
  for (std::int64_t r = 0; r < call.n_rows(); ++r) {
    const std::vector<double> q = row_as_double(call.x, r);
    std::vector<double> scores = row_as_double(call.out, r);  // masked keys stay as they are
    const std::size_t n = scores.size() / static_cast<std::size_t>(p.n_heads);
    for (std::size_t j = 0; j < n; ++j) {
      const std::vector<double> key =
          slot_as_double(*call.kv, KvPart::k, call.site.layer, {call.row_id(r).seq, static_cast<std::int32_t>(j)});
      for (int h = 0; h < p.n_heads; ++h) {
        double& score = scores[static_cast<std::size_t>(h) * n + j];
        if (std::isinf(score)) continue;
        HalfSum sum;
        for (int d = 0; d < p.head_dim; ++d) sum.add(q[head_element(h, p, d)], key[kv_element(h, p, d)]);
        score = capped(sum.value() * p.scale, p);
      }
    }
    store_row(call.out, r, scores);
  }
}

void pv_in_half(WrongCall& call) {
  const AttentionParams& p = call.attention;
  for (std::int64_t r = 0; r < call.n_rows(); ++r) {
    const std::vector<double> probs = row_as_double(call.x, r);
    const std::size_t n = probs.size() / static_cast<std::size_t>(p.n_heads);
    std::vector<HalfSum> sums(static_cast<std::size_t>(p.n_heads) * static_cast<std::size_t>(p.head_dim));
    for (std::size_t j = 0; j < n; ++j) {
      const std::vector<double> value =
          slot_as_double(*call.kv, KvPart::v, call.site.layer, {call.row_id(r).seq, static_cast<std::int32_t>(j)});
      for (int h = 0; h < p.n_heads; ++h)
        for (int d = 0; d < p.head_dim; ++d)
          sums[head_element(h, p, d)].add(probs[static_cast<std::size_t>(h) * n + j], value[kv_element(h, p, d)]);
    }
    std::vector<double> out;
    for (const HalfSum& sum : sums) out.push_back(sum.value());
    store_row(call.out, r, out);
  }
}

void plant_half(const FaultSpec& fault, WrongCall& call) {
  if (call.op == OpKind::softcap) return;
  call.instead(fault, [&call] {
    if (call.op == OpKind::qk) return qk_in_half(call);
    if (call.op == OpKind::pv) return pv_in_half(call);
    matmul_in_half(call);
  });
}

constexpr std::array kQuantised{Stage::attn_norm_q8, Stage::attn_out_q8, Stage::ffn_norm_q8, Stage::ffn_act_q8,
                                Stage::lm_head_in_q8};

constexpr std::array kInverseKeys{FaultKey{
    .name = "bits", .fallback = "11", .doc = "significant bits of the inverse (binary16 has 11)", .min = 1, .max = 24}};

/// 1 / d in `bits` significant bits; infinite beyond binary16's largest number.
double short_inverse(float d, std::int64_t bits) {
  int exponent = 0;
  const double fraction = std::frexp(1.0 / static_cast<double>(d), &exponent);
  const double rounded =
      std::ldexp(std::nearbyint(std::ldexp(fraction, static_cast<int>(bits))), exponent - static_cast<int>(bits));
  return rounded > 65504.0 ? std::numeric_limits<double>::infinity() : rounded;
}

void plant_inverse(const FaultSpec& fault, WrongCall& call) {
  call.instead(fault, [&fault, &call] {
    for (std::int64_t r = 0; r < call.n_rows(); ++r) {
      const std::vector<double> x = row_as_double(call.x, r);
      auto* blocks = call.out.row_as<BlockQ8F32>(r);
      for (std::size_t i = 0; i < x.size(); ++i) {
        BlockQ8F32& block = blocks[i / kActivationBlock];
        const double code = x[i] == 0 ? 0.0 : std::nearbyint(x[i] * short_inverse(block.d, fault.integer("bits")));
        block.q[i % kActivationBlock] = static_cast<std::int8_t>(std::clamp(code, -127.0, 127.0));
      }
    }
  });
}

const auto kRows = std::to_array<FaultInfo>({
    {.name = "f16-accumulate",
     .family = "accumulate",
     .doc = "products and running sums are rounded to binary16; beyond 65504 they are infinite",
     .found_at = "STAGE (omitted: all of them, found at the first)",
     .idle = "where every product and sum is exact in binary16, as the probability 1 of position 0's only key may be",
     .stands_for = "FP16 accumulation overflow in QK or PV (llama.cpp#17746, #7805)",
     .stages = kSums,
     .shows = ShowsIn::kernel,
     .plant = plant_half},
    {.name = "inverse-scale-f16",
     .family = "accumulate",
     .doc = "activations are quantised with the inverse of their block's scale in binary16: 11 bits, and infinite for small "
            "blocks",
     .found_at = "STAGE (omitted: all of them, found at the first)",
     .idle = "where no code changes by it",
     .needs = "a plan that quantises activations (q8), and weights of a block type",
     .stands_for = "fp16 denormal inverse scale overflows (llama.cpp#27413)",
     .stages = kQuantised,
     .keys = kInverseKeys,
     .shows = ShowsIn::kernel,
     .plant = plant_inverse},
});

}  // namespace

std::span<const FaultInfo> accumulate_faults() { return kRows; }

}  // namespace greta
