#include "cli/scene_check.h"

#include <fmt/ranges.h>

#include <optional>
#include <string_view>
#include <utility>

#include "cli/file_contract.h"
#include "core/error.h"
#include "core/quote.h"

namespace greta::cli {
namespace {

using audit::ModelContract;

/// Elements of a row of the stage at `position`.
std::int64_t width_of(Stage stage, const ModelContract& model, int position) {
  switch (stage) {
    case Stage::q:
    case Stage::q_norm:
    case Stage::q_rope:
    case Stage::attn_out:
    case Stage::attn_out_q8:
      return model.q_width();
    case Stage::k:
    case Stage::v:
    case Stage::k_norm:
    case Stage::k_rope:
    case Stage::k_cache:
    case Stage::v_cache:
      return model.kv_width();
    case Stage::attn_scores:
    case Stage::attn_probs:
      return model.n_heads * (position + std::int64_t{1});
    case Stage::ffn_gate:
    case Stage::ffn_up:
    case Stage::ffn_act:
    case Stage::ffn_act_q8:
      return model.d_ff;
    case Stage::head_out:
    case Stage::logits:
      return model.vocab_size;
    default:
      return model.d_model;
  }
}

/// Rows and columns of a tensor that an op reads, by its name without `blk.N.`; nullopt: none of theirs.
std::optional<std::pair<std::int64_t, std::int64_t>> shape_of(std::string_view part, const ModelContract& model) {
  struct Known {
    std::string_view part;
    std::int64_t rows, cols;
  };
  const std::int64_t d = model.d_model, q = model.q_width(), kv = model.kv_width();
  const Known known[]{{"attn_norm.weight", 1, d},
                      {"ffn_norm.weight", 1, d},
                      {"post_attention_norm.weight", 1, d},
                      {"post_ffw_norm.weight", 1, d},
                      {"output_norm.weight", 1, d},
                      {"attn_q_norm.weight", 1, model.head_dim},
                      {"attn_k_norm.weight", 1, model.head_dim},
                      {"attn_q.weight", q, d},
                      {"attn_k.weight", kv, d},
                      {"attn_v.weight", kv, d},
                      {"attn_output.weight", d, q},
                      {"ffn_gate.weight", model.d_ff, d},
                      {"ffn_up.weight", model.d_ff, d},
                      {"ffn_down.weight", d, model.d_ff},
                      {"attn_q.bias", 1, q},
                      {"attn_k.bias", 1, kv},
                      {"attn_v.bias", 1, kv},
                      {"attn_output.bias", 1, d},
                      {"ffn_gate.bias", 1, model.d_ff},
                      {"ffn_up.bias", 1, model.d_ff},
                      {"ffn_down.bias", 1, d},
                      {"token_embd.weight", model.vocab_size, d},
                      {"output.weight", model.vocab_size, d}};
  for (const Known& one : known)
    if (one.part == part) return std::pair(one.rows, one.cols);
  return std::nullopt;
}

std::string_view without_block(std::string_view tensor) {
  if (!tensor.starts_with("blk.")) return tensor;
  const std::size_t dot = tensor.find('.', 4);
  return dot == std::string_view::npos ? tensor : tensor.substr(dot + 1);
}

void check_tensors(const Gguf& file, const ModelContract& model) {
  for (const GgufTensor& tensor : file.tensors()) {
    const auto wanted = shape_of(without_block(tensor.name), model);
    if (!wanted) continue;
    std::int64_t rows = 1;  // trailing dimensions of 1 say nothing
    for (std::size_t d = 1; d < tensor.shape.size(); ++d) rows *= tensor.shape[d];
    if (tensor.shape[0] != wanted->second || rows != wanted->first || (tensor.shape.size() > 1 && tensor.shape[1] != rows))
      fail("{}: tensor {} has shape [{}], wanted {} rows of {}; give the run's model with --model", file.path().string(),
           quote(tensor.name), fmt::join(tensor.shape, ", "), wanted->first, wanted->second);
  }
}

void check_rows(const SceneRows& scene, const ModelContract& model, const std::filesystem::path& source) {
  const auto check = [&](std::pair<std::int32_t, Stage> place, const FullTensor& tensor, int position, std::size_t bytes) {
    const auto elements = static_cast<std::int64_t>(bytes) / row_bytes(tensor.dtype, 1);
    const std::int64_t wanted = width_of(place.second, model, position);
    if (position < 0 || static_cast<std::size_t>(position) >= scene.tokens.size())
      fail("{}: {} layer {} has a row at position {}, beyond its {} tokens; run isolate again", source.string(),
           name(place.second), place.first, position, scene.tokens.size());
    if (elements != wanted)
      fail("{}: {} layer {} position {} has {} elements, wanted {} by the model; run isolate again", source.string(),
           name(place.second), place.first, position, elements, wanted);
    if (is_quantised(place.second) && tensor.dtype == DType::f64 && elements % 32 != 0)
      fail("{}: {} layer {} has {} elements, which are no whole blocks of 32; run isolate again", source.string(),
           name(place.second), place.first, elements);
  };
  for (const auto& [place, tensor] : scene.rows.tensors) {
    for (const auto& [position, row] : tensor.rows) check(place, tensor, position, row.size());
    for (const auto& [position, row] : tensor.rereads) check(place, tensor, position, row.size());
  }
}

}  // namespace

void check_scene(const SceneRows& scene, int n_layers, const Gguf& file, const std::filesystem::path& source) {
  const ModelContract model = contract_of(file);
  if (n_layers != model.n_layers)
    fail("{}: of a model of {} layers, {} has {}; give the run's with --model", source.string(), n_layers, file.path().string(),
         model.n_layers);
  for (const std::int32_t token : scene.tokens)
    if (token >= model.vocab_size)
      fail("{}: token {} is not one of the model's {}; run isolate again", source.string(), token, model.vocab_size);
  check_tensors(file, model);
  check_rows(scene, model, source);
}

}  // namespace greta::cli
