// The optional external fixtures: model files and quantised weights that other programs wrote.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "core/blocks.h"
#include "core/quantize.h"
#include "model/config.h"
#include "model/ggml_types.h"
#include "model/gguf.h"
#include "model/model.h"
#include "tests/support/command.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

std::vector<float> dequantized(const GgufTensor& tensor) {
  std::int64_t count = 1;
  for (const auto extent : tensor.shape) count *= extent;
  std::vector<float> out(static_cast<std::size_t>(count));
  dequantize_row(*tensor.dtype, tensor.data, count, out.data());
  return out;
}

/// The values another program dequantised; equality also forbids the last place that operation order could move.
TEST(Fixtures, DequantisedWeightsAreBitEqual) {
  const auto index_path = test::fixture("quants/index.json");
  if (index_path.empty()) return;
  const auto index = nlohmann::json::parse(test::read_file(index_path));
  int matrices = 0;
  for (const auto& [type, entry] : index.items()) {
    const auto file = Gguf::open(index_path.parent_path() / entry.at("file").get<std::string>());
    for (const auto& [tensor_name, expected] : entry.at("tensors").items()) {
      SCOPED_TRACE(type + " " + tensor_name);
      const GgufTensor* tensor = file->find_tensor(tensor_name);
      ASSERT_NE(tensor, nullptr);
      const auto values = dequantized(*tensor);
      const auto& samples = expected.at("values");
      const auto step = expected.at("index_step").get<std::size_t>();
      for (std::size_t i = 0; i < samples.size(); ++i) {
        ASSERT_EQ(values.at(i * step), static_cast<float>(samples[i].get<double>())) << "element " << i * step;
      }
      ++matrices;
    }
  }
  EXPECT_GE(matrices, 13 * 16);
}

/// The files were quantised from the F32 one: quantising it again must give the same bytes.
TEST(Fixtures, QuantisingGivesTheSameBytes) {
  const auto source_path = test::fixture("quants/fixture.F32.gguf");
  if (source_path.empty()) return;
  const auto source = Gguf::open(source_path);
  for (const std::string type : {"BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"}) {
    const auto file = Gguf::open(source_path.parent_path() / ("fixture." + type + ".gguf"));
    int matrices = 0;
    for (const auto& tensor : file->tensors()) {
      if (ggml_type_name(tensor.ggml_type) != type) continue;
      const auto values = dequantized(*source->find_tensor(tensor.name));
      std::vector<std::byte> bytes(tensor.bytes);
      quantize_row(*tensor.dtype, values.data(), static_cast<std::int64_t>(values.size()), bytes.data());
      EXPECT_EQ(std::memcmp(bytes.data(), tensor.data, bytes.size()), 0) << type << " " << tensor.name;
      ++matrices;
    }
    EXPECT_GE(matrices, 15) << type;
  }
}

TEST(Fixtures, ModelsLoad) {
  struct Expected {
    const char* file;
    int layers, d, heads, kv_heads, ff, vocab, context;
    DType dtype;
  };
  const Expected models[] = {{"stories15M.F16.gguf", 6, 288, 6, 6, 768, 32000, 256, DType::f16},
                             {"stories15M.Q8_0.gguf", 6, 288, 6, 6, 768, 32000, 256, DType::q8_0},
                             {"stories15M.Q4_0.gguf", 6, 288, 6, 6, 768, 32000, 256, DType::q4_0},
                             {"stories260K.F32.gguf", 5, 64, 8, 4, 172, 512, 512, DType::f32}};
  for (const auto& expected : models) {
    const auto path = test::fixture(std::string("models/") + expected.file);
    if (path.empty()) continue;
    const auto model = Model::load(path);
    EXPECT_EQ(model->config.n_layers, expected.layers);
    EXPECT_EQ(model->config.d_model, expected.d);
    EXPECT_EQ(model->config.n_heads, expected.heads);
    EXPECT_EQ(model->config.n_kv_heads, expected.kv_heads);
    EXPECT_EQ(model->config.d_ff, expected.ff);
    EXPECT_EQ(model->config.vocab_size, expected.vocab);
    EXPECT_EQ(model->config.context_length, expected.context);
    EXPECT_EQ(model->weights.layers[0].wq.dtype, expected.dtype);
    EXPECT_TRUE(model->weights.tied_head);
  }
}

}  // namespace
}  // namespace greta
