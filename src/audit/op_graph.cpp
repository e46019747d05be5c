#include "audit/op_graph.h"

#include <fmt/format.h>

namespace greta::audit {
namespace {

class Graph {
 public:
  Graph(const Contract& contract, const Rows& rows, int layer) : contract_(contract), rows_(rows), layer_(layer) {}

  Op attention(Stage stage) const {
    switch (stage) {
      case Stage::attn_norm:
        return norm(at(Stage::x_in), "attn_norm");
      case Stage::q:
        return product(quantised(Stage::attn_norm, Stage::attn_norm_q8), "attn_q");
      case Stage::k:
        return product(quantised(Stage::attn_norm, Stage::attn_norm_q8), "attn_k");
      case Stage::v:
        return product(quantised(Stage::attn_norm, Stage::attn_norm_q8), "attn_v");
      case Stage::q_norm:
        return norm(at(Stage::q), "attn_q_norm");
      case Stage::k_norm:
        return norm(at(Stage::k), "attn_k_norm");
      case Stage::q_rope:
        return {OpClass::rope, {normed(Stage::q, Stage::q_norm, "attn_q_norm")}, {}, {}};
      case Stage::k_rope:
        return {OpClass::rope, {normed(Stage::k, Stage::k_norm, "attn_k_norm")}, {}, {}};
      case Stage::k_cache:
        return {OpClass::kv_write, {at(Stage::k_rope)}, {}, {}};
      case Stage::v_cache:
        return {OpClass::kv_write, {at(Stage::v)}, {}, {}};
      case Stage::attn_scores:
        return {OpClass::qk, {at(Stage::q_rope), at(Stage::k_cache)}, {}, {}};
      case Stage::attn_probs:
        return {OpClass::softmax, {at(Stage::attn_scores)}, {}, {}};
      case Stage::attn_out:
        return {OpClass::pv, {at(Stage::attn_probs), at(Stage::v_cache)}, {}, {}};
      case Stage::wo_out:
        return product(quantised(Stage::attn_out, Stage::attn_out_q8), "attn_output");
      case Stage::attn_post_norm:
        return norm(at(Stage::wo_out), "post_attention_norm");
      default:  // x_after_attn
        return {OpClass::add, {at(Stage::x_in), normed(Stage::wo_out, Stage::attn_post_norm, "post_attention_norm")}, {}, {}};
    }
  }

  Op mlp(Stage stage) const {
    switch (stage) {
      case Stage::ffn_norm:
        return norm(at(Stage::x_after_attn), "ffn_norm");
      case Stage::ffn_gate:
        return product(quantised(Stage::ffn_norm, Stage::ffn_norm_q8), "ffn_gate");
      case Stage::ffn_up:
        return product(quantised(Stage::ffn_norm, Stage::ffn_norm_q8), "ffn_up");
      case Stage::ffn_act:
        return {OpClass::act_mul, {at(Stage::ffn_gate), at(Stage::ffn_up)}, {}, {}};
      case Stage::mlp_out:
        return product(quantised(Stage::ffn_act, Stage::ffn_act_q8), "ffn_down");
      case Stage::ffn_post_norm:
        return norm(at(Stage::mlp_out), "post_ffw_norm");
      case Stage::x_after_mlp:
        return {OpClass::add, {at(Stage::x_after_attn), normed(Stage::mlp_out, Stage::ffn_post_norm, "post_ffw_norm")}, {}, {}};
      default:  // x_out
        return {OpClass::handoff, {at(Stage::x_after_mlp)}, {}, {}};
    }
  }

  Op head(Stage stage) const {
    const bool capped = contract_.model.final_softcap > 0;
    if (stage == Stage::final_rms)
      return {OpClass::rmsnorm, {{Stage::x_out, contract_.model.n_layers - 1}}, "output_norm.weight", {}};
    if (stage == Stage::lm_head_in) return {OpClass::handoff, {at(Stage::final_rms)}, {}, {}};
    if (stage == Stage::logits && capped) return {OpClass::softcap, {at(Stage::head_out)}, {}, {}};
    const bool own = contract_.tensors.find("output.weight").has_value();
    return {
        OpClass::matmul, {quantised(Stage::lm_head_in, Stage::lm_head_in_q8)}, own ? "output.weight" : "token_embd.weight", {}};
  }

  Op quantisation(Stage stage) const {
    return {OpClass::quantize, {at(static_cast<Stage>(static_cast<int>(stage) - 1))}, {}, {}};
  }

 private:
  Place at(Stage stage) const { return {stage, layer_}; }
  std::string tensor(std::string_view part, std::string_view kind = "weight") const {
    return fmt::format("blk.{}.{}.{}", layer_, part, kind);
  }
  bool file_has(const std::string& tensor) const { return contract_.tensors.find(tensor).has_value(); }

  Op norm(Place input, std::string_view part) const { return {OpClass::rmsnorm, {input}, tensor(part), {}}; }
  Op product(Place input, std::string_view part) const {
    const std::string bias = tensor(part, "bias");
    return {OpClass::matmul, {input}, tensor(part), file_has(bias) ? bias : std::string()};
  }
  /// `after` where the model has that norm, `before` otherwise.
  Place normed(Stage before, Stage after, std::string_view part) const { return at(file_has(tensor(part)) ? after : before); }
  Place quantised(Stage plain, Stage codes) const { return at(rows_.has(codes, layer_) ? codes : plain); }

  const Contract& contract_;
  const Rows& rows_;
  int layer_;
};

}  // namespace

std::string_view name(OpClass op) {
  constexpr std::string_view kNames[]{"embed", "rmsnorm", "matmul",  "rope",    "kv_write", "qk",     "softmax",
                                      "pv",    "add",     "act_mul", "softcap", "quantize", "handoff"};
  return kNames[static_cast<std::size_t>(op)];
}

std::optional<Op> op_of(const Contract& contract, const Rows& rows, Place place) {
  const auto [stage, layer] = place;
  const Graph graph(contract, rows, layer);
  if (layer < 0 || layer > contract.model.n_layers || once_per_token(stage) != (layer == contract.model.n_layers))
    return std::nullopt;
  if (stage == Stage::x_in) {
    if (layer == 0) return Op{OpClass::embed, {}, "token_embd.weight", {}};
    return Op{OpClass::handoff, {{Stage::x_out, layer - 1}}, {}, {}};
  }
  if (is_quantised(stage)) return graph.quantisation(stage);
  Op op = once_per_token(stage) ? graph.head(stage) : stage <= Stage::x_after_attn ? graph.attention(stage) : graph.mlp(stage);
  if (!op.weight.empty() && !contract.tensors.find(op.weight)) return std::nullopt;
  return op;
}

}  // namespace greta::audit
