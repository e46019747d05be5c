// What each architecture reads from a file, and what it refuses.
#include <gtest/gtest.h>

#include <cmath>

#include "model/arch/architecture.h"
#include "model/gguf.h"
#include "model/model.h"
#include "model/synth.h"
#include "tests/support/command.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

using test::expect_error;
using test::GgufBytes;

/// small_llama under another architecture's name.
GgufBytes small(const std::string& architecture) {
  GgufBytes file = test::small_llama();
  const std::string p = architecture + ".";
  file.string("general.architecture", architecture);
  file.u32(p + "block_count", 2)
      .u32(p + "embedding_length", 8)
      .u32(p + "context_length", 16)
      .u32(p + "feed_forward_length", 12);
  file.u32(p + "attention.head_count", 2).u32(p + "attention.head_count_kv", 1);
  file.f32(p + "attention.layer_norm_rms_epsilon", 1e-6f);
  return file;
}

void add_layers(GgufBytes& file, const std::string& part, std::uint64_t size) {
  for (int layer = 0; layer < 2; ++layer)
    file.f32_tensor("blk." + std::to_string(layer) + "." + part, {size}, std::vector<float>(size, 0.5f));
}

GgufBytes small_gemma2() {
  GgufBytes file = small("gemma2");
  file.u32("gemma2.attention.sliding_window", 4);
  file.f32("gemma2.attn_logit_softcapping", 50.0f).f32("gemma2.final_logit_softcapping", 30.0f);
  add_layers(file, "post_attention_norm.weight", 8);
  add_layers(file, "post_ffw_norm.weight", 8);
  std::erase_if(file.tensors, [](const auto& tensor) { return tensor.name == "output.weight"; });
  return file;
}

GgufBytes small_gemma3() {
  GgufBytes file = small("gemma3");
  file.u32("gemma3.attention.sliding_window", 4).f32("gemma3.rope.freq_base", 1e6f);
  file.string("gemma3.rope.scaling.type", "linear").f32("gemma3.rope.scaling.factor", 8.0f);
  add_layers(file, "attn_q_norm.weight", 4);
  add_layers(file, "attn_k_norm.weight", 4);
  add_layers(file, "post_attention_norm.weight", 8);
  add_layers(file, "post_ffw_norm.weight", 8);
  return file;
}

class Architectures : public testing::Test {
 protected:
  ModelConfig read(const GgufBytes& file) {
    load(file);
    return read_config(*gguf_);
  }
  ModelWeights load(const GgufBytes& file) {
    test::write_file(path_, file.build());
    gguf_ = Gguf::open(path_);
    return load_weights(*gguf_, read_config(*gguf_));
  }
  void expect_refused(const GgufBytes& file, std::vector<std::string> parts) {
    parts.push_back("m.gguf");
    expect_error([&] { load(file); }, parts);
  }
  test::TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_.path() / "m.gguf";
  std::shared_ptr<const Gguf> gguf_;
};

TEST_F(Architectures, MistralsWindowIsInEveryLayer) {
  GgufBytes file = test::small_llama();
  EXPECT_EQ(read(file).layer_attention(1).window, 0);
  file.u32("llama.attention.sliding_window", 0);
  EXPECT_EQ(read(file).layer_attention(1).window, 0);
  file.u32("llama.attention.sliding_window", 7);
  for (int layer = 0; layer < 2; ++layer) EXPECT_EQ(read(file).layer_attention(layer).window, 7);
  file.i32("llama.attention.sliding_window", -1);
  expect_refused(file, {"llama.attention.sliding_window", "-1"});
}

TEST_F(Architectures, Qwen2NeedsItsBiases) {
  GgufBytes file = small("qwen2");
  expect_refused(file, {"'blk.0.attn_q.bias' is missing"});
  add_layers(file, "attn_q.bias", 8);
  add_layers(file, "attn_k.bias", 4);
  add_layers(file, "attn_v.bias", 4);
  EXPECT_TRUE(load(file).layers[1].bv);
  EXPECT_FALSE(read(file).rope_interleaved);
  file.find("blk.1.attn_k.bias").shape = {8};
  file.find("blk.1.attn_k.bias").data = std::string(32, '\0');
  expect_refused(file, {"'blk.1.attn_k.bias'", "[8]", "[4]"});
}

TEST_F(Architectures, WhatWouldBeComputedWronglyIsRefused) {
  for (const char* architecture : {"qwen2", "qwen3"}) {
    GgufBytes file = small(architecture);
    file.u32(std::string(architecture) + ".attention.sliding_window", 4);
    expect_refused(file, {"attention.sliding_window' is 4"});
  }
  GgufBytes file = test::small_llama();
  file.f32("llama.attention.scale", 0.1f);
  expect_refused(file, {"'llama.attention.scale'"});
  file = small("qwen3");
  file.string("qwen3.rope.scaling.type", "yarn");
  expect_refused(file, {"'yarn'"});
  file = small_gemma3();
  file.f32("gemma3.attn_logit_softcapping", 50.0f);
  expect_refused(file, {"gemma3.attn_logit_softcapping"});
  file = small_gemma3();
  file.u32("gemma3.attention.sliding_window_pattern", 4);
  expect_refused(file, {"sliding_window_pattern' is 4", "only 6"});
  file = small_gemma2();
  file.f32_tensor("rope_freqs.weight", {2}, {1, 1});
  expect_refused(file, {"rope_freqs.weight", "no place"});
}

TEST_F(Architectures, Qwen3NormsHaveTheShapeOfAHead) {
  GgufBytes file = small("qwen3");
  expect_refused(file, {"'blk.0.attn_q_norm.weight' is missing"});
  add_layers(file, "attn_q_norm.weight", 4);
  add_layers(file, "attn_k_norm.weight", 4);
  EXPECT_EQ(load(file).layers[0].k_norm.n_cols, 4);
  file.find("blk.0.attn_q_norm.weight").shape = {8};  // of all heads at once
  file.find("blk.0.attn_q_norm.weight").data = std::string(32, '\0');
  expect_refused(file, {"'blk.0.attn_q_norm.weight'", "[8]", "[4]"});
}

TEST_F(Architectures, Gemma2AlternatesItsWindow) {
  const ModelConfig config = read(small_gemma2());
  EXPECT_EQ(config.layer_attention(0).window, 4);
  EXPECT_EQ(config.layer_attention(1).window, 0);
  EXPECT_EQ(config.layer_attention(2).window, 4);
  EXPECT_EQ(config.embedding_scale, std::sqrt(8.0));
  EXPECT_EQ(config.attention_softcap, 50.0);
  EXPECT_EQ(config.final_softcap, 30.0);
  EXPECT_EQ(config.attention_scale, 0.5);  // head_dim 4
  EXPECT_EQ(config.activation, Activation::gelu_tanh);
  EXPECT_TRUE(load(small_gemma2()).tied_head);
}

TEST_F(Architectures, Gemma2RefusesWhatItNeedsAndLacks) {
  for (const char* key : {"attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping"}) {
    GgufBytes file = small_gemma2();
    file.without(std::string("gemma2.") + key);
    expect_refused(file, {key, "is missing"});
  }
  GgufBytes file = small_gemma2();
  file.u32("gemma2.attention.sliding_window", 0);
  expect_refused(file, {"gemma2.attention.sliding_window", "0", "wanted 1 to"});
  file = small_gemma2();
  std::erase_if(file.tensors, [](const auto& tensor) { return tensor.name == "blk.1.post_ffw_norm.weight"; });
  expect_refused(file, {"'blk.1.post_ffw_norm.weight' is missing"});
  file = small_gemma2();
  file.f32_tensor("output.weight", {8, 5}, std::vector<float>(40, 1.0f));
  expect_refused(file, {"'output.weight'", "no place"});
  file = small_gemma2();
  file.u32("gemma2.attention.head_count", 3).u32("gemma2.attention.head_count_kv", 2).u32("gemma2.attention.key_length", 4);
  expect_refused(file, {"3 query heads", "2 KV heads"});
}

TEST_F(Architectures, Gemma3TurnsWindowedLayersByItsOwnTheta) {
  const ModelConfig config = read(small_gemma3());
  for (int layer = 0; layer < 14; ++layer) {
    const LayerAttention own = config.layer_attention(layer);
    const bool global = layer == 5 || layer == 11;
    EXPECT_EQ(own.window, global ? 0 : 4) << layer;
    EXPECT_EQ(own.rope_theta, global ? 1e6 : 1e4) << layer;
    EXPECT_EQ(own.rope_linear_scale, global ? 8.0 : 1.0) << layer;
  }
  EXPECT_EQ(config.attention_softcap, 0.0);
  GgufBytes file = small_gemma3();
  file.without("gemma3.rope.freq_base");
  expect_refused(file, {"gemma3.rope.freq_base", "missing"});
}

TEST_F(Architectures, The27bModelsScaleByWidth) {
  for (const auto& [architecture, layers] : {std::pair{"gemma2", 46}, {"gemma3", 62}}) {
    SynthSpec spec = synth_shape("tiny");
    set_architecture(spec, architecture);
    spec.n_layers = layers, spec.d_model = 64, spec.n_heads = 2, spec.n_kv_heads = 1, spec.head_dim = 16, spec.d_ff = 32;
    spec.vocab_size = 300;
    synthesize(spec, path_, true);
    EXPECT_EQ(Model::load(path_)->config.attention_scale, 1 / std::sqrt(32.0)) << architecture;
  }
}

TEST_F(Architectures, EverySyntheticArchitectureLoads) {
  for (const std::string& name : synth_architecture_names()) {
    SCOPED_TRACE(name);
    SynthSpec spec = synth_shape("tiny");
    set_architecture(spec, name);
    synthesize(spec, path_, true);
    const auto model = Model::load(path_);
    EXPECT_EQ(model->config.architecture, name == "mistral" ? "llama" : name);
    EXPECT_EQ(model->config.window, spec.window);
  }
  SynthSpec spec = synth_shape("tiny");
  expect_error([&] { set_architecture(spec, "gemma"); }, {"'gemma'", "gemma2", "mistral"});
  set_architecture(spec, "gemma2");
  spec.window = 0;
  expect_error([&] { synthesize(spec, path_, true); }, {"--window is 0", "gemma2"});
  set_architecture(spec, "qwen2");
  spec.window = 8;
  expect_error([&] { synthesize(spec, path_, true); }, {"--window is 8", "qwen2"});
}

}  // namespace
}  // namespace greta
