#include "model/synth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/blocks.h"
#include "model/model.h"
#include "tests/support/command.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

using test::expect_error;

class Synth : public testing::Test {
 protected:
  std::filesystem::path make(const SynthSpec& spec, const std::string& name = "s.gguf") {
    const auto path = directory_.path() / name;
    synthesize(spec, path, true);
    return path;
  }
  static SynthSpec tiny(DType dtype = DType::f32, std::uint64_t seed = 1) {
    SynthSpec spec = synth_shape("tiny");
    spec.dtype = dtype;
    spec.seed = seed;
    return spec;
  }
  test::TemporaryDirectory directory_;
};

std::vector<float> values(const WeightView& weight) {
  std::vector<float> out(static_cast<std::size_t>(weight.n_rows * weight.n_cols));
  dequantize_row(weight.dtype, weight.data, weight.n_rows * weight.n_cols, out.data());
  return out;
}

struct Moments {
  double mean = 0, deviation = 0, largest = 0;
};

Moments moments(const WeightView& weight) {
  Moments m;
  const auto all = values(weight);
  for (const float v : all) m.mean += static_cast<double>(v) / static_cast<double>(all.size());
  for (const float v : all) {
    m.deviation += std::pow(static_cast<double>(v) - m.mean, 2) / static_cast<double>(all.size());
    m.largest = std::max(m.largest, std::fabs(static_cast<double>(v)));
  }
  m.deviation = std::sqrt(m.deviation);
  return m;
}

TEST_F(Synth, EveryTypeLoadsAsAModel) {
  for (const DType dtype : weight_dtypes()) {
    SCOPED_TRACE(name(dtype));
    const auto model = Model::load(make(tiny(dtype)));
    EXPECT_EQ(model->config.n_layers, 4);
    EXPECT_EQ(model->config.d_model, 256);
    EXPECT_EQ(model->config.n_heads, 8);
    EXPECT_EQ(model->config.n_kv_heads, 4);
    EXPECT_EQ(model->config.d_ff, 768);
    EXPECT_EQ(model->config.vocab_size, 512);
    EXPECT_FALSE(model->weights.tied_head);
    EXPECT_EQ(model->weights.embedding.dtype, dtype);
    EXPECT_EQ(model->weights.layers[3].down.dtype, dtype);
    EXPECT_EQ(model->weights.layers[3].ffn_norm.dtype, DType::f32);
  }
}

TEST_F(Synth, WeightsHaveTheirMoments) {
  const auto model = Model::load(make(tiny()));
  const auto& layer = model->weights.layers[2];
  // Standard errors: about 0.2 % of the deviation for 200,000 weights, 0.3 % for 65,536.
  EXPECT_NEAR(moments(layer.wq).deviation * 16.0, 1.0, 0.02);  // 1/sqrt(256)
  EXPECT_NEAR(moments(layer.gate).deviation * 16.0, 1.0, 0.02);
  EXPECT_NEAR(moments(layer.wo).deviation * 16.0 * std::sqrt(8.0), 1.0, 0.02);  // and 1/sqrt(2 * 4 layers)
  EXPECT_NEAR(moments(layer.down).deviation * std::sqrt(768.0 * 8.0), 1.0, 0.02);
  EXPECT_NEAR(moments(model->weights.embedding).deviation, 1.0, 0.02);
  EXPECT_NEAR(moments(layer.wq).mean * 16.0, 0.0, 0.02);
  EXPECT_GT(moments(layer.wq).largest * 16.0, 3.0);  // a bell, not a box: its corners lie at 2 sqrt(3) = 3.46
  EXPECT_NEAR(moments(layer.attn_norm).mean, 1.0, 0.04);
  EXPECT_NEAR(moments(layer.attn_norm).deviation, 0.1, 0.02);
}

TEST_F(Synth, TensorsDoNotRepeatOneAnother) {
  const auto model = Model::load(make(tiny()));
  std::set<float> firsts;
  for (const auto& layer : model->weights.layers) {
    for (const WeightView* w : {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.gate, &layer.up, &layer.down}) {
      firsts.insert(values(*w)[0]);
    }
  }
  EXPECT_EQ(firsts.size(), 28u);
}

TEST_F(Synth, OneSeedOneFileAndFirstLayersOfAnyDepth) {
  const auto a = make(tiny(), "a"), b = make(tiny(), "b"), c = make(tiny(DType::f32, 2), "c");
  EXPECT_EQ(test::read_file(a), test::read_file(b));
  EXPECT_NE(test::read_file(a), test::read_file(c));
  SynthSpec shallow = tiny();
  shallow.n_layers = 1;
  const auto deep = Model::load(a), one = Model::load(make(shallow, "d"));
  EXPECT_EQ(values(deep->weights.layers[0].wq), values(one->weights.layers[0].wq));
  EXPECT_NE(values(deep->weights.layers[1].wq), values(deep->weights.layers[0].wq));
}

TEST_F(Synth, WeightsAreTheSameOnEveryMachine) {
  // By hand from the definition: SplitMix64's finaliser over key + i * golden ratio, four 16-bit uniforms.
  const auto mix = [](std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  };
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char ch : std::string_view("output.weight")) hash = (hash ^ static_cast<unsigned char>(ch)) * 0x100000001b3u;
  const std::uint64_t key = mix(mix(1 + 0x9e3779b97f4a7c15u) ^ hash);
  const auto model = Model::load(make(tiny()));
  const auto all = values(model->weights.lm_head);
  for (const std::uint64_t i : {std::uint64_t{0}, std::uint64_t{77777}, std::uint64_t{131071}}) {
    const std::uint64_t bits = mix(key + i * 0x9e3779b97f4a7c15u);
    double sum = -2.0 * 65535.0;
    for (int shift = 0; shift < 64; shift += 16) sum += static_cast<double>((bits >> shift) & 0xffff);
    EXPECT_NEAR(all[i], sum / 37837.2273 / 16.0, 1e-7);
  }
}

TEST_F(Synth, QuantisedFilesHoldTheSameWeights) {
  const auto exact = Model::load(make(tiny(), "f32"));
  const auto wanted = values(exact->weights.layers[1].up);
  const double deviation = moments(exact->weights.layers[1].up).deviation;
  struct Case {
    DType dtype;
    double relative_rms;  // about what the format's step allows
  };
  for (const auto& c : {Case{DType::f16, 3e-4}, Case{DType::bf16, 3e-3}, Case{DType::q8_0, 1e-2}, Case{DType::q4_0, 0.12},
                        Case{DType::q4_1, 0.1}, Case{DType::q5_0, 0.06}, Case{DType::q5_1, 0.05}, Case{DType::q2_k, 0.33},
                        Case{DType::q3_k, 0.19}, Case{DType::q4_k, 0.09}, Case{DType::q5_k, 0.045}, Case{DType::q6_k, 0.025},
                        Case{DType::iq4_nl, 0.1}, Case{DType::iq4_xs, 0.1}}) {
    const auto got = values(Model::load(make(tiny(c.dtype), "q"))->weights.layers[1].up);
    double square = 0;
    for (std::size_t i = 0; i < got.size(); ++i) square += std::pow(static_cast<double>(got[i]) - wanted[i], 2);
    const double rms = std::sqrt(square / static_cast<double>(got.size())) / deviation;
    EXPECT_LT(rms, c.relative_rms) << name(c.dtype);
    EXPECT_GT(rms, 0.0) << name(c.dtype);
  }
}

TEST_F(Synth, TiedAndUntied) {
  SynthSpec spec = tiny();
  spec.tied_head = true;
  const auto model = Model::load(make(spec));
  EXPECT_TRUE(model->weights.tied_head);
  EXPECT_NEAR(moments(model->weights.embedding).deviation * 16.0, 2.0, 0.04);
}

TEST_F(Synth, Llama3ShapesAreMeta) {
  // config.json of Llama-3.2-1B and Llama-3.1-8B.
  const SynthSpec one = synth_shape("llama3-1b"), eight = synth_shape("llama3-8b");
  EXPECT_EQ(std::tie(one.n_layers, one.d_model, one.n_heads, one.n_kv_heads, one.d_ff, one.vocab_size),
            std::make_tuple(16, 2048, 32, 8, 8192, 128256));
  EXPECT_TRUE(one.tied_head);
  EXPECT_EQ(std::tie(eight.n_layers, eight.d_model, eight.n_heads, eight.n_kv_heads, eight.d_ff, eight.vocab_size),
            std::make_tuple(32, 4096, 32, 8, 14336, 128256));
  EXPECT_FALSE(eight.tied_head);
  EXPECT_EQ(one.rope_theta, 500000.0);
  EXPECT_EQ(one.rope_factor, 32.0);
  EXPECT_EQ(eight.rope_factor, 8.0);
  EXPECT_EQ(one.context_length, 131072);
}

TEST_F(Synth, AThinLlama3KeepsVocabularyAndFactors) {
  SynthSpec spec = synth_shape("llama3-1b");
  spec.dtype = DType::q4_0;
  spec.n_layers = 1, spec.d_model = 64, spec.n_heads = 2, spec.n_kv_heads = 1, spec.d_ff = 64;
  const auto model = Model::load(make(spec));
  EXPECT_EQ(model->config.head_dim, 32);
  ASSERT_EQ(model->weights.rope_freq_factors.size(), 16u);
  EXPECT_EQ(model->weights.rope_freq_factors.front(), 1.0f);
  EXPECT_EQ(model->weights.rope_freq_factors.back(), 32.0f);
  EXPECT_EQ(model->tokenizer->vocab_size(), 128256);
  EXPECT_THAT(model->tokenizer->encode("<|start_header_id|>", false, true), testing::ElementsAre(128006));
}

TEST(RopeFactors, FollowLlama31) {
  // Llama-3.1-8B: head 128, theta 500000, factor 8. Wavelength 2 pi theta^(2i/128): pair 28 has 1956 (< 8192/4: 1),
  // pair 29 2400, pair 35 8216 (> 8192: 8).
  const auto factors = llama3_rope_factors(128, 500000.0, 8.0);
  ASSERT_EQ(factors.size(), 64u);
  for (std::size_t i = 0; i <= 28; ++i) EXPECT_EQ(factors[i], 1.0f) << i;
  for (std::size_t i = 35; i < 64; ++i) EXPECT_EQ(factors[i], 8.0f) << i;
  for (std::size_t i = 29; i < 35; ++i) {
    const double frequency = std::exp(-static_cast<double>(i) / 64.0 * std::log(500000.0));
    const double smooth = (8192.0 * frequency / 6.283185307179586 - 1.0) / 3.0;
    const double scaled = (1.0 - smooth) * frequency / 8.0 + smooth * frequency;  // as the model's authors write it
    EXPECT_NEAR(factors[i], frequency / scaled, 1e-5) << i;
  }
}

TEST(SynthVocabulary, IsACompleteByteLevelBpe) {
  for (const int size : {267, 512, 4095, 4096, 128256}) {
    SCOPED_TRACE(size);
    const auto vocabulary = synth_vocabulary(size);
    const int specials = size >= 4096 ? 256 : 11;
    ASSERT_EQ(std::ssize(vocabulary.tokens), size);
    ASSERT_EQ(std::ssize(vocabulary.types), size);
    ASSERT_EQ(std::ssize(vocabulary.merges), size - 256 - specials);
    const std::set<std::string> all(vocabulary.tokens.begin(), vocabulary.tokens.end());
    EXPECT_EQ(std::ssize(all), size) << "a token twice";
    std::set<std::string> made(vocabulary.tokens.begin(), vocabulary.tokens.begin() + 256);
    for (std::size_t i = 0; i < vocabulary.merges.size(); ++i) {
      const auto& merge = vocabulary.merges[i];
      const auto space = merge.find(' ');
      const std::string left = merge.substr(0, space), right = merge.substr(space + 1);
      ASSERT_TRUE(made.contains(left) && made.contains(right)) << merge;
      ASSERT_EQ(left + right, vocabulary.tokens[256 + i]);
      made.insert(left + right);
    }
    for (int id = 0; id < size; ++id) EXPECT_EQ(vocabulary.types[static_cast<std::size_t>(id)], id < size - specials ? 1 : 3);
    EXPECT_EQ(vocabulary.tokens[static_cast<std::size_t>(vocabulary.begin_of_text)], "<|begin_of_text|>");
    EXPECT_EQ(vocabulary.tokens[static_cast<std::size_t>(vocabulary.end_of_turn)], "<|eot_id|>");
  }
  // GPT-2's spelling of bytes: space, DEL, the soft hyphen and the bytes around them.
  const auto bytes = synth_vocabulary(267).tokens;
  const std::pair<std::size_t, const char*> spelled[] = {{0x00, "Ā"}, {0x20, "Ġ"}, {0x21, "!"}, {0x7e, "~"}, {0x7f, "ġ"},
                                                         {0xa0, "ł"}, {0xa1, "¡"}, {0xac, "¬"}, {0xad, "Ń"}, {0xff, "ÿ"}};
  for (const auto& [byte, spelling] : spelled) EXPECT_EQ(bytes[byte], spelling);
  // Llama 3's own places.
  const auto full = synth_vocabulary(128256);
  EXPECT_EQ(full.begin_of_text, 128000);
  EXPECT_EQ(full.end_of_text, 128001);
  EXPECT_EQ(full.end_of_turn, 128009);
  EXPECT_EQ(full.tokens[128007], "<|end_header_id|>");
  EXPECT_EQ(full.tokens[128255], "<|reserved_special_token_247|>");
}

TEST_F(Synth, TextSurvivesTheVocabulary) {
  const auto model = Model::load(make(tiny()));
  const std::string text = "The quick brown fox — ñandú, 你好, 🙂\n\ttabs & \"quotes\" 1234567";
  const auto ids = model->tokenizer->encode(text, true, true);
  EXPECT_EQ(ids.front(), model->tokenizer->bos());
  EXPECT_LT(ids.size(), text.size());  // merges happen
  EXPECT_EQ(model->tokenizer->decode(ids), text);
}

TEST_F(Synth, WhatCannotBeMadeIsRefusedBeforeAFileIsMade) {
  const auto refused = [this](auto change, std::vector<std::string> parts) {
    SynthSpec spec = tiny(DType::q8_0);
    change(spec);
    expect_error([&] { make(spec); }, parts);
    EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
  };
  refused([](SynthSpec& s) { s.n_layers = 0; }, {"--layers is 0", "1 to"});
  refused([](SynthSpec& s) { s.n_layers = -1; }, {"--layers is -1"});
  refused([](SynthSpec& s) { s.n_heads = 0; }, {"--heads is 0"});
  refused([](SynthSpec& s) { s.n_heads = 7; }, {"--d-model 256", "14"});
  refused([](SynthSpec& s) { s.n_heads = 256; }, {"--d-model 256", "512"});
  refused([](SynthSpec& s) { s.n_kv_heads = 3; }, {"--heads 8", "--kv-heads 3"});
  refused([](SynthSpec& s) { s.n_kv_heads = 16; }, {"--kv-heads is 16", "1 to 8"});
  refused([](SynthSpec& s) { s.d_model = 240, s.n_heads = 4; }, {"--d-model 240", "q8_0", "32"});
  refused([](SynthSpec& s) { s.d_ff = 100; }, {"--ffn 100", "q8_0", "32"});
  refused([](SynthSpec& s) { s.d_ff = 1 << 30; }, {"--ffn"});
  refused([](SynthSpec& s) { s.vocab_size = 266; }, {"266", "267"});
  refused([](SynthSpec& s) { s.vocab_size = 1 << 30; }, {"1073741824"});
  refused([](SynthSpec& s) { s.context_length = 0; }, {"--context"});
  expect_error([] { synth_shape("llama5"); }, {"'llama5'", "tiny, llama3-1b, llama3-8b"});
}

TEST_F(Synth, ProgressRisesToTheTotal) {
  std::uint64_t last = 0, total = 0;
  bool rising = true;
  synthesize(tiny(), directory_.path() / "p.gguf", false, [&](std::uint64_t done, std::uint64_t all) {
    rising = rising && done > last;
    last = done, total = all;
  });
  EXPECT_TRUE(rising);
  EXPECT_EQ(last, total);
  EXPECT_GT(total, 13000000u);
}

TEST_F(Synth, AFailureInAThreadIsTheCallersError) {
  expect_error(
      [&] { synthesize(tiny(), directory_.path() / "p.gguf", false, [](std::uint64_t, std::uint64_t) { fail("stop here"); }); },
      {"stop here"});
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
}

}  // namespace
}  // namespace greta
