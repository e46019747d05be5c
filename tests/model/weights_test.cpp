#include "model/weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/half.h"
#include "model/config.h"
#include "model/finite.h"
#include "model/gguf.h"
#include "model/model.h"
#include "tests/support/command.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

using test::expect_error;
using test::GgufBytes;
using test::raw;

class Weights : public testing::Test {
 protected:
  ModelWeights load() {
    test::write_file(path_, file_.build());
    gguf_ = Gguf::open(path_);
    return load_weights(*gguf_, read_config(*gguf_));
  }
  void expect_refused(std::vector<std::string> parts) {
    parts.push_back("m.gguf");
    expect_error([&] { load(); }, parts);
  }
  test::TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_.path() / "m.gguf";
  GgufBytes file_ = test::small_llama();
  std::shared_ptr<const Gguf> gguf_;
};

TEST_F(Weights, EveryTensorIsFoundWithItsShape) {
  const ModelWeights w = load();
  const auto expect = [](const WeightView& view, std::string_view name, std::int64_t rows, std::int64_t cols) {
    EXPECT_EQ(view.name, name);
    EXPECT_EQ(view.n_rows, rows) << name;
    EXPECT_EQ(view.n_cols, cols) << name;
    EXPECT_EQ(view.dtype, DType::f32);
    EXPECT_EQ(reinterpret_cast<const float*>(view.row(rows - 1))[0], 0.5f + static_cast<float>((rows - 1) * cols) / 1024.0f);
  };
  expect(w.embedding, "token_embd.weight", 5, 8);
  expect(w.lm_head, "output.weight", 5, 8);
  expect(w.final_norm, "output_norm.weight", 1, 8);
  ASSERT_EQ(w.layers.size(), 2u);
  const LayerWeights& layer = w.layers[1];
  expect(layer.attn_norm, "blk.1.attn_norm.weight", 1, 8);
  expect(layer.wq, "blk.1.attn_q.weight", 8, 8);
  expect(layer.wk, "blk.1.attn_k.weight", 4, 8);
  expect(layer.wv, "blk.1.attn_v.weight", 4, 8);
  expect(layer.wo, "blk.1.attn_output.weight", 8, 8);
  expect(layer.ffn_norm, "blk.1.ffn_norm.weight", 1, 8);
  expect(layer.gate, "blk.1.ffn_gate.weight", 12, 8);
  expect(layer.up, "blk.1.ffn_up.weight", 12, 8);
  expect(layer.down, "blk.1.ffn_down.weight", 8, 12);
  for (const WeightView* bias : {&layer.bq, &layer.bk, &layer.bv, &layer.bo, &layer.bgate, &layer.bup, &layer.bdown}) {
    EXPECT_FALSE(*bias);
  }
  EXPECT_FALSE(w.tied_head);
  EXPECT_TRUE(w.rope_freq_factors.empty());
}

TEST_F(Weights, ATiedHeadIsTheEmbedding) {
  file_.without_tensor("output.weight");
  const ModelWeights w = load();
  EXPECT_TRUE(w.tied_head);
  EXPECT_EQ(w.lm_head.data, w.embedding.data);
  EXPECT_EQ(w.lm_head.n_rows, 5);
}

TEST_F(Weights, BiasesWherePresent) {
  const auto add = [this](const std::string& name, std::uint64_t size, float value) {
    file_.f32_tensor(name, {size}, std::vector<float>(size, value));
  };
  add("blk.0.attn_q.bias", 8, 1);
  add("blk.0.attn_k.bias", 4, 2);
  add("blk.0.attn_v.bias", 4, 3);
  add("blk.0.attn_output.bias", 8, 4);
  add("blk.0.ffn_gate.bias", 12, 5);
  add("blk.0.ffn_up.bias", 12, 6);
  add("blk.0.ffn_down.bias", 8, 7);
  const LayerWeights layer = load().layers[0];
  float expected = 1;
  for (const WeightView* bias : {&layer.bq, &layer.bk, &layer.bv, &layer.bo, &layer.bgate, &layer.bup, &layer.bdown}) {
    ASSERT_TRUE(*bias);
    EXPECT_EQ(bias->n_rows, 1);
    EXPECT_EQ(reinterpret_cast<const float*>(bias->data)[bias->n_cols - 1], expected);
    expected += 1;
  }
  EXPECT_FALSE(load().layers[1].bq);
}

TEST_F(Weights, RopeFactors) {
  file_.f32_tensor("rope_freqs.weight", {2}, {1.0f, 8.0f});
  EXPECT_EQ(load().rope_freq_factors, (std::vector<float>{1.0f, 8.0f}));
  file_.find("rope_freqs.weight").data = test::raw_values<float>({1.0f, 0.0f});
  expect_refused({"'rope_freqs.weight'", "element 1 is 0"});
  file_.find("rope_freqs.weight").data = test::raw_values<float>({std::numeric_limits<float>::quiet_NaN(), 1.0f});
  expect_refused({"'rope_freqs.weight'", "element 0 is nan"});
  file_.find("rope_freqs.weight").shape = {4};
  file_.find("rope_freqs.weight").data = std::string(16, '\1');
  expect_refused({"'rope_freqs.weight'", "[4]", "wanted [2]"});
}

TEST_F(Weights, EveryMissingTensorIsNamed) {
  for (const std::string name :
       {"token_embd.weight", "blk.1.attn_norm.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight",
        "blk.0.attn_output.weight", "blk.0.ffn_norm.weight", "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight",
        "blk.1.ffn_down.weight", "output_norm.weight"}) {
    file_ = test::small_llama();
    file_.without_tensor(name);
    expect_refused({"'" + name + "'", "is missing"});
  }
}

TEST_F(Weights, ALayerCountBeyondTheFileIsAMissingTensor) {
  file_.u32("llama.block_count", 16384);
  expect_refused({"'blk.2.attn_norm.weight'", "is missing"});
}

TEST_F(Weights, AFileWithoutTensorsIsAVocabulary) {
  file_.tensors.clear();
  expect_refused({"no tensors"});
}

TEST_F(Weights, ShapesAreChecked) {
  file_.find("blk.0.ffn_down.weight").shape = {8, 12};  // transposed
  expect_refused({"'blk.0.ffn_down.weight'", "[8, 12]", "wanted [12, 8]"});
  file_ = test::small_llama();
  file_.find("blk.0.ffn_down.weight").shape = {96};
  expect_refused({"'blk.0.ffn_down.weight'", "[96]", "wanted [12, 8]"});
  file_ = test::small_llama();
  file_.find("blk.0.ffn_down.weight").shape = {12};  // its first row alone
  expect_refused({"'blk.0.ffn_down.weight'", "[12]", "wanted [12, 8]"});
  file_ = test::small_llama();
  file_.find("blk.0.ffn_down.weight").shape = {12, 8, 2};  // two of them
  file_.find("blk.0.ffn_down.weight").data = std::string(std::size_t{12 * 8 * 2 * 4}, '\0');
  expect_refused({"'blk.0.ffn_down.weight'", "[12, 8, 2]", "wanted [12, 8]"});
  file_ = test::small_llama();
  file_.strings("tokenizer.ggml.tokens", {"a", "b"});
  expect_refused({"'token_embd.weight'", "[8, 5]", "wanted [8, 2]"});
  file_ = test::small_llama();
  file_.find("blk.0.ffn_down.weight").shape = {12, 8, 1, 1};  // the same matrix
  load();
}

TEST_F(Weights, TypesNotComputedWithNameTensorTypeAndTheSupported) {
  auto& tensor = file_.find("blk.1.ffn_up.weight");
  tensor.type = 28;  // F64
  tensor.data = std::string(96 * 8, '\0');
  expect_refused({"'blk.1.ffn_up.weight'", "F64",
                  "F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, BF16"});
  tensor.type = 77;
  expect_refused({"'blk.1.ffn_up.weight'", "unknown (id 77)",
                  "F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, BF16"});
}

TEST_F(Weights, TensorsOfNoPlaceAreRefused) {
  file_.f32_tensor("blk.0.attn_q_norm.weight", {4}, {1, 1, 1, 1});
  expect_refused({"'blk.0.attn_q_norm.weight'", "no place", "'llama'"});
  file_ = test::small_llama();
  file_.f32_tensor("output.bias", {5}, {1, 1, 1, 1, 1});
  expect_refused({"'output.bias'", "no place"});
  file_ = test::small_llama();
  file_.u32("llama.block_count", 1);
  expect_refused({"'blk.1.attn_norm.weight'", "no place"});
  file_ = test::small_llama();  // derived RoPE tables, and what belongs to no text model, of whatever type
  file_.f32_tensor("blk.0.attn_rot_embd.weight", {2}, {1, 1});
  file_.tensor("v.patch.weight", {100}, 77, std::string(64, 'x'));
  load();
}

TEST_F(Weights, NaNAndInfinityAreNamedByTensorAndElement) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const auto poison = [this](const std::string& name, std::size_t element, float value) {
    file_ = test::small_llama();
    file_.find(name).data.replace(element * 4, 4, raw(value));
  };
  poison("blk.1.ffn_up.weight", 37, nan);
  expect_refused({"'blk.1.ffn_up.weight'", "element 37 is nan"});
  poison("blk.0.attn_norm.weight", 7, -inf);
  expect_refused({"'blk.0.attn_norm.weight'", "element 7 is -inf"});
  poison("output.weight", 39, inf);
  expect_refused({"'output.weight'", "element 39 is inf"});
  poison("token_embd.weight", 0, nan);
  expect_refused({"'token_embd.weight'", "element 0 is nan"});
  poison("token_embd.weight", 0, std::numeric_limits<float>::max());
  load();
}

TEST_F(Weights, ModelLoadChecksTheTokenizerToo) {
  test::write_file(path_, file_.build());
  const auto model = Model::load(path_);
  EXPECT_EQ(model->config.d_model, 8);
  EXPECT_EQ(model->tokenizer->vocab_size(), 5);
  EXPECT_EQ(model->weights.layers.size(), 2u);
  file_.string("tokenizer.ggml.model", "wordpiece");
  test::write_file(path_, file_.build());
  expect_error([&] { Model::load(path_); }, {"m.gguf", "wordpiece"});
}

/// A tensor of `dtype` over `bytes`, for the scan alone.
GgufTensor scanned(DType dtype, const std::string& bytes) {
  GgufTensor tensor;
  tensor.name = "t";
  tensor.dtype = dtype;
  tensor.data = reinterpret_cast<const std::byte*>(bytes.data());
  tensor.bytes = bytes.size();
  return tensor;
}

std::optional<NonFinite> scan(DType dtype, const std::string& bytes, int threads) {
  const GgufTensor tensor = scanned(dtype, bytes);
  const GgufTensor* list[] = {&tensor};
  auto found = find_non_finite(list, threads);
  if (found) found->tensor = nullptr;  // ends here
  return found;
}

struct ScanCase {
  DType dtype;
  std::size_t unit_bytes;  // of an element or block
  std::int64_t unit_elems;
  std::vector<std::size_t> places;   // in a unit, of what must be finite
  std::vector<std::string> bad;      // what must be found there
  std::vector<std::string> healthy;  // and what must not
};

void expect_found(const ScanCase& c, std::string& bytes, std::size_t units, std::size_t place, const std::string& value) {
  const auto put = [&](std::size_t at, const std::string& put_value) {
    bytes.replace(at * c.unit_bytes + place, put_value.size(), put_value);
  };
  const std::string zero(value.size(), '\0');
  for (const std::size_t at : {std::size_t{0}, std::size_t{4095}, std::size_t{4096}, std::size_t{300000}, units - 1}) {
    put(at, value);
    if (at != units - 1) put(units - 1, value);  // a later one must not be named
    for (const int threads : {1, 3}) {
      const auto found = scan(c.dtype, bytes, threads);
      ASSERT_TRUE(found);
      EXPECT_EQ(found->element, static_cast<std::int64_t>(at) * c.unit_elems);
      EXPECT_EQ(found->block_scale, c.unit_elems > 1);
      EXPECT_FALSE(std::isfinite(found->value));
    }
    put(at, zero);
    put(units - 1, zero);
  }
}

TEST(FiniteScan, FindsTheFirstInEveryTypeWhateverTheThreads) {
  const std::vector<std::string> bad{raw<std::uint16_t>(0x7c00), raw<std::uint16_t>(0xfe00)}, fine{raw<std::uint16_t>(0xfbff)};
  const ScanCase cases[] = {
      {DType::f32, 4, 1, {0}, {raw(0x7f800000u), raw(0xff800000u), raw(0x7fc00000u), raw(0x7f800001u)}, {raw(0x7f7fffffu)}},
      {DType::f16, 2, 1, {0}, {raw<std::uint16_t>(0x7c00), raw<std::uint16_t>(0xfc01)}, {raw<std::uint16_t>(0x7bff)}},
      {DType::bf16, 2, 1, {0}, {raw<std::uint16_t>(0x7f80), raw<std::uint16_t>(0xffc0)}, {raw<std::uint16_t>(0x7f7f)}},
      {DType::q8_0, 34, 32, {0}, bad, fine},
      {DType::q4_0, 18, 32, {0}, bad, fine},
      {DType::q4_1, 20, 32, {0, 2}, bad, fine},
      {DType::q5_0, 22, 32, {0}, bad, fine},
      {DType::q5_1, 24, 32, {0, 2}, bad, fine},
      {DType::q2_k, 84, 256, {80, 82}, bad, fine},
      {DType::q3_k, 110, 256, {108}, bad, fine},
      {DType::q4_k, 144, 256, {0, 2}, bad, fine},
      {DType::q5_k, 176, 256, {0, 2}, bad, fine},
      {DType::q6_k, 210, 256, {208}, bad, fine},
      {DType::iq4_nl, 18, 32, {0}, bad, fine},
      {DType::iq4_xs, 136, 256, {0}, bad, fine}};
  static_assert(std::size(cases) == kDTypeCount - 2);
  for (const auto& c : cases) {
    SCOPED_TRACE(name(c.dtype));
    const std::size_t units = (std::size_t{1} << (c.unit_elems > 32 ? 18 : 19)) + 45003;  // several pieces and a ragged end
    // Quants may be any bytes, all ones too: only the scales are looked at.
    std::string unit(c.unit_bytes, c.unit_elems > 1 ? '\xff' : '\0');
    for (const std::size_t place : c.places) unit.replace(place, 2, std::string(2, '\0'));
    std::string bytes;
    bytes.reserve(units * c.unit_bytes);
    for (std::size_t i = 0; i < units; ++i) bytes += unit;
    EXPECT_FALSE(scan(c.dtype, bytes, 3));
    for (const std::size_t place : c.places) {
      for (const auto& value : c.healthy) {
        bytes.replace(17 * c.unit_bytes + place, value.size(), value);
        EXPECT_FALSE(scan(c.dtype, bytes, 1));
        bytes.replace(17 * c.unit_bytes + place, value.size(), value.size(), '\0');
      }
      for (const auto& value : c.bad) expect_found(c, bytes, units, place, value);
    }
  }
}

TEST(FiniteScan, TheFirstTensorOfTheListIsNamed) {
  const std::string bad = raw(0x7fc00000u), good = raw(0u);
  const GgufTensor a = scanned(DType::f32, good), b = scanned(DType::f32, bad), c = scanned(DType::f32, bad);
  const GgufTensor* list[] = {&a, &b, &c};
  EXPECT_EQ(find_non_finite(list)->tensor, &b);
  EXPECT_FALSE(find_non_finite({}));
}

}  // namespace
}  // namespace greta
