#include "model/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "model/gguf.h"
#include "tests/support/command.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

using test::expect_error;
using test::GgufBytes;

class Config : public testing::Test {
 protected:
  ModelConfig read() {
    test::write_file(path_, file_.build());
    return read_config(*Gguf::open(path_));
  }
  void expect_refused(std::vector<std::string> parts) {
    parts.push_back("m.gguf");
    expect_error([&] { read(); }, parts);
  }
  test::TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_.path() / "m.gguf";
  GgufBytes file_ = test::small_llama();
};

TEST_F(Config, EveryKeyIsRead) {
  file_.u32("llama.attention.key_length", 6).u32("llama.attention.value_length", 6).u32("llama.rope.dimension_count", 4);
  file_.f32("llama.rope.freq_base", 500000.0f).u32("llama.vocab_size", 5);
  const ModelConfig config = read();
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.name, "small");
  EXPECT_EQ(config.n_layers, 2);
  EXPECT_EQ(config.d_model, 8);
  EXPECT_EQ(config.n_heads, 2);
  EXPECT_EQ(config.n_kv_heads, 1);
  EXPECT_EQ(config.head_dim, 6);
  EXPECT_EQ(config.d_ff, 12);
  EXPECT_EQ(config.vocab_size, 5);
  EXPECT_EQ(config.context_length, 16);
  EXPECT_EQ(config.rms_eps, static_cast<double>(1e-5f));
  EXPECT_EQ(config.rope_theta, 500000.0);
  EXPECT_EQ(config.rope_dim, 4);
  EXPECT_EQ(config.rope_linear_scale, 1.0);
  EXPECT_TRUE(config.rope_interleaved);
}

TEST_F(Config, Defaults) {
  file_.without("llama.attention.head_count_kv").without("general.name");
  const ModelConfig config = read();
  EXPECT_EQ(config.n_kv_heads, 2);  // as many as query heads
  EXPECT_EQ(config.head_dim, 4);
  EXPECT_EQ(config.rope_dim, 4);
  EXPECT_EQ(config.rope_theta, 10000.0);
  EXPECT_EQ(config.name, "");
}

TEST_F(Config, AnUnknownArchitectureListsTheKnown) {
  file_.string("general.architecture", "mamba");
  expect_refused({"'mamba'", "known: gemma2"});
  file_.without("general.architecture");
  expect_refused({"general.architecture", "is missing"});
}

TEST_F(Config, EveryRequiredKeyIsNamed) {
  for (const std::string key : {"block_count", "embedding_length", "context_length", "feed_forward_length",
                                "attention.head_count", "attention.layer_norm_rms_epsilon"}) {
    file_ = test::small_llama();
    file_.without("llama." + key);
    expect_refused({"'llama." + key + "'", "is missing"});
  }
}

TEST_F(Config, SizesOutOfBounds) {
  for (const std::string key :
       {"block_count", "embedding_length", "context_length", "feed_forward_length", "attention.head_count",
        "attention.head_count_kv", "rope.dimension_count", "attention.key_length", "attention.value_length"}) {
    for (const std::uint32_t bad : {0u, 0x7fffffffu, 0xffffffffu}) {
      file_ = test::small_llama();
      file_.u32("llama." + key, bad);
      expect_refused({"llama." + key, std::to_string(bad), "wanted 1 to"});
    }
    file_.i32("llama." + key, -1);
    expect_refused({"llama." + key, "-1", "wanted 1 to"});
    file_.u64("llama." + key, std::uint64_t{1} << 62);
    expect_refused({"llama." + key, "4611686018427387904"});
    file_.f32("llama." + key, 8.0f);
    expect_refused({"llama." + key, "f32", "integer"});
  }
}

TEST_F(Config, HeadsThatDoNotDivide) {
  file_.u32("llama.attention.head_count", 3).u32("llama.attention.head_count_kv", 3);
  expect_refused({"llama.embedding_length of 8", "3 heads", "llama.attention.key_length"});
  file_.u32("llama.attention.key_length", 4);  // says the size of a head, so nothing need divide
  EXPECT_EQ(read().head_dim, 4);
  file_ = test::small_llama();
  file_.u32("llama.attention.head_count", 4).u32("llama.attention.head_count_kv", 3);
  expect_refused({"4 query heads", "3 KV heads"});
  file_.u32("llama.attention.head_count", 2).u32("llama.attention.head_count_kv", 4);
  expect_refused({"2 query heads", "4 KV heads"});
}

TEST_F(Config, HeadsOfTwoSizes) {
  file_.u32("llama.attention.key_length", 4).u32("llama.attention.value_length", 6);
  expect_refused({"llama.attention.value_length", "6", "4"});
}

TEST_F(Config, ProductsOfHeadsAndSizeAreBounded) {
  file_.u32("llama.attention.head_count", 16384).u32("llama.attention.head_count_kv", 1);
  file_.u32("llama.attention.key_length", 16384);
  expect_refused({"16384 heads of 16384"});
}

TEST_F(Config, ArraysOneNumberALayer) {
  file_.i32s("llama.attention.head_count_kv", {1, 1}).i32s("llama.feed_forward_length", {12, 12});
  EXPECT_EQ(read().n_kv_heads, 1);
  EXPECT_EQ(read().d_ff, 12);
  file_.i32s("llama.attention.head_count_kv", {1, 2});
  expect_refused({"llama.attention.head_count_kv", "1 for layer 0", "2 for layer 1"});
  file_.i32s("llama.attention.head_count_kv", {1, 1, 1});
  expect_refused({"llama.attention.head_count_kv", "3 entries", "2 layers"});
  file_.i32s("llama.attention.head_count_kv", {0, 0});
  expect_refused({"llama.attention.head_count_kv", "is 0"});
  file_.f32s("llama.attention.head_count_kv", {1, 1});
  expect_refused({"llama.attention.head_count_kv", "array of f32", "integers"});
}

TEST_F(Config, RopeDimensions) {
  file_.u32("llama.rope.dimension_count", 3);
  expect_refused({"llama.rope.dimension_count", "3", "even"});
  file_.u32("llama.rope.dimension_count", 6);
  expect_refused({"llama.rope.dimension_count", "6", "head_dim 4"});
}

TEST_F(Config, LinearScaling) {
  file_.f32("llama.rope.scaling.factor", 4.0f);
  EXPECT_EQ(read().rope_linear_scale, 4.0);
  file_.string("llama.rope.scaling.type", "linear");
  EXPECT_EQ(read().rope_linear_scale, 4.0);
  file_.string("llama.rope.scaling.type", "none");
  EXPECT_EQ(read().rope_linear_scale, 1.0);
  file_.without("llama.rope.scaling.type").f32("llama.rope.scaling.factor", 0.0f);
  EXPECT_EQ(read().rope_linear_scale, 1.0);
  file_.without("llama.rope.scaling.factor").f32("llama.rope.scale_linear", 2.0f);
  EXPECT_EQ(read().rope_linear_scale, 2.0);
  file_.f32("llama.rope.scaling.factor", 8.0f);  // the newer key counts
  EXPECT_EQ(read().rope_linear_scale, 8.0);
}

TEST_F(Config, ScalingsNotFollowedAreRefused) {
  file_.string("llama.rope.scaling.type", "yarn");
  expect_refused({"llama.rope.scaling.type", "'yarn'", "none, linear"});
  file_.string("llama.rope.scaling.type", "linear").f32("llama.rope.scaling.attn_factor", 1.2f);
  expect_refused({"llama.rope.scaling.attn_factor", "only 1"});
  file_.f32("llama.rope.scaling.attn_factor", 1.0f);
  read();
}

TEST_F(Config, NumbersThatAreNone) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const std::string key : {"attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.scaling.factor"}) {
    for (const float bad : {nan, inf, -1.0f}) {
      file_ = test::small_llama();
      file_.f32("llama." + key, bad);
      expect_refused({"llama." + key, "finite"});
    }
  }
  file_ = test::small_llama();
  file_.f32("llama.rope.freq_base", 0.0f);
  expect_refused({"llama.rope.freq_base", "above 0"});
}

TEST_F(Config, VocabularySizes) {
  file_.u32("llama.vocab_size", 6);
  expect_refused({"llama.vocab_size", "is 6", "5 entries"});
  file_.without("llama.vocab_size").strings("tokenizer.ggml.tokens", {});
  expect_refused({"tokenizer.ggml.tokens", "0 entries"});
  file_.without("tokenizer.ggml.tokens");
  expect_refused({"tokenizer.ggml.tokens", "llama.vocab_size"});
  file_.u32("llama.vocab_size", 5);
  EXPECT_EQ(read().vocab_size, 5);
}

TEST_F(Config, FeaturesThatWouldBeComputedWrongly) {
  file_.u32("llama.expert_count", 0).boolean("llama.attention.causal", 1).boolean("llama.use_parallel_residual", 0);
  read();
  file_.u32("llama.expert_count", 8);
  expect_refused({"llama.expert_count", "8", "experts"});
  file_.without("llama.expert_count").boolean("llama.attention.causal", 0);
  expect_refused({"llama.attention.causal", "causal"});
  file_.without("llama.attention.causal").boolean("llama.use_parallel_residual", 1);
  expect_refused({"llama.use_parallel_residual"});
}

}  // namespace
}  // namespace greta
