// Quantising files: what becomes of every tensor and key, what is refused, and that nothing depends on the threads.
#include "model/quantize.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <vector>

#include "core/blocks.h"
#include "core/quantize.h"
#include "model/ggml_types.h"
#include "model/gguf.h"
#include "tests/support/command.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

using test::expect_error;
using test::raw;

std::vector<float> values_of(const GgufTensor& tensor) {
  std::int64_t count = 1;
  for (const auto extent : tensor.shape) count *= extent;
  std::vector<float> out(static_cast<std::size_t>(count));
  dequantize_row(*tensor.dtype, tensor.data, count, out.data());
  return out;
}

class QuantizeFile : public testing::Test {
 protected:
  std::shared_ptr<const Gguf> input() {
    test::write_file(in_, file_.build());
    return Gguf::open(in_);
  }
  std::shared_ptr<const Gguf> quantized(DType dtype, int threads = 0) {
    report_ = quantize(*input(), out_, {{dtype}, threads, true}, {});
    return Gguf::open(out_);
  }
  static std::vector<float> ramp(std::size_t n) {
    std::vector<float> x(n);
    for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) / 64.0f;
    return x;
  }

  test::TemporaryDirectory directory_;
  std::filesystem::path in_ = directory_.path() / "in.gguf", out_ = directory_.path() / "out.gguf";
  test::GgufBytes file_;
  QuantizeReport report_;
};

TEST_F(QuantizeFile, MatricesAloneChangeTheirType) {
  file_.string("general.architecture", "llama");
  file_.f32_tensor("token_embd.weight", {512, 3}, ramp(1536));
  file_.f32_tensor("blk.0.attn_norm.weight", {512}, ramp(512));
  file_.f32_tensor("blk.0.attn_q.bias", {512}, ramp(512));
  file_.f32_tensor("blk.0.some_norm.weight", {512, 2}, ramp(1024));
  file_.tensor(
      "blk.0.ffn_norm.weight", {4}, 1,
      raw<std::uint16_t>(0x3c00) + raw<std::uint16_t>(0x4000) + raw<std::uint16_t>(0xbc00) + raw<std::uint16_t>(0x0001));
  const auto made = quantized(DType::q4_k);
  EXPECT_EQ(made->find_tensor("token_embd.weight")->dtype, DType::q4_k);
  for (const char* kept : {"blk.0.attn_norm.weight", "blk.0.attn_q.bias", "blk.0.some_norm.weight"}) {
    EXPECT_EQ(made->find_tensor(kept)->dtype, DType::f32) << kept;
    EXPECT_EQ(values_of(*made->find_tensor(kept)), values_of(*input()->find_tensor(kept))) << kept;
  }
  // Norms in binary16 become F32, exactly.
  EXPECT_EQ(made->find_tensor("blk.0.ffn_norm.weight")->dtype, DType::f32);
  EXPECT_EQ(values_of(*made->find_tensor("blk.0.ffn_norm.weight")), (std::vector<float>{1, 2, -1, 0x1p-24f}));
  // The matrix holds what quantize_row makes of its values.
  std::vector<std::byte> expected(3 * 288);
  quantize_row(DType::q4_k, ramp(1536).data(), 1536, expected.data());
  EXPECT_EQ(std::memcmp(made->find_tensor("token_embd.weight")->data, expected.data(), expected.size()), 0);
  EXPECT_TRUE(report_.fallbacks.empty());
  EXPECT_EQ(report_.types.size(), 2u);
}

TEST_F(QuantizeFile, MetadataIsCopiedAsItWas) {
  file_.string("general.architecture", "llama").u32("general.file_type", 0).u32("general.alignment", 64).u16("split.no", 0);
  file_.alignment = 64;
  file_.u8("a", 255).i8("b", -128).u16("c", 65535).i16("d", -32768).u32("e", 4294967295u).i32("f", -7).f32("g", 0.1f);
  file_.boolean("h", 1).string("i", std::string("a\0b", 3)).u64("j", ~std::uint64_t{0}).i64("k", -1).f64("l", 0.1);
  file_.strings("m", {"", "x"}).i32s("n", {-1, 2}).f32s("o", {0.1f, -3e38f}).array("p", 7, 2, std::string("\1\0", 2));
  file_.array("q", 10, 1, raw<std::uint64_t>(5)).array("r", 12, 1, raw(0.3)).array("s", 0, 0, "");
  file_.f32_tensor("w.weight", {32, 2}, ramp(64));
  quantized(DType::q5_1);
  // The same file by the tests' own byte-builder.
  test::GgufBytes expected = file_;
  expected.alignment = 32;
  expected.without("general.alignment").without("split.no").u32("general.file_type", 9).u32("general.quantization_version", 2);
  std::string blocks(2 * 24, '\0');
  quantize_row(DType::q5_1, ramp(64).data(), 64, reinterpret_cast<std::byte*>(blocks.data()));
  expected.find("w.weight").type = 7;
  expected.find("w.weight").data = blocks;
  EXPECT_EQ(test::read_file(out_), expected.build());
}

TEST_F(QuantizeFile, EveryTypeFromEveryTypeAndAnyThreads) {
  file_.f32_tensor("w.weight", {512, 700}, ramp(512 * 700));  // two pieces
  const auto source_path = directory_.path() / "source.gguf";
  for (const DType from : weight_dtypes()) {
    quantized(from);
    std::filesystem::copy_file(out_, source_path, std::filesystem::copy_options::overwrite_existing);
    const auto source = Gguf::open(source_path);
    const auto before = values_of(*source->find_tensor("w.weight"));
    for (const DType to : {DType::f32, DType::q8_0, DType::q4_k}) {
      quantize(*source, out_, {{to}, 1, true}, {});
      const std::string one = test::read_file(out_);
      quantize(*source, out_, {{to}, 3, true}, {});
      EXPECT_EQ(test::read_file(out_), one) << name(from) << " to " << name(to);
      if (to == DType::f32) {
        EXPECT_EQ(values_of(*Gguf::open(out_)->find_tensor("w.weight")), before) << name(from);
      }
    }
  }
}

/// The layers that llama.cpp (src/llama-quant.cpp, use_more_bits) gives more bits, worked out by hand.
TEST_F(QuantizeFile, MixesGiveMoreBitsToTheHeadAndToSomeLayers) {
  for (const int n_layers : {16, 6}) {
    file_ = {};
    for (int l = 0; l < n_layers; ++l)
      for (const char* part : {"attn_q", "attn_v", "ffn_down"})
        file_.f32_tensor(fmt::format("blk.{}.{}.weight", l, part), {256, 2}, ramp(512));
    file_.f32_tensor("token_embd.weight", {256, 2}, ramp(512));
    if (n_layers == 16) file_.f32_tensor("output.weight", {256, 2}, ramp(512));
    const std::set<int> more = n_layers == 16 ? std::set<int>{0, 1, 4, 7, 10, 13, 14, 15} : std::set<int>{2, 5};
    for (const auto& [text, base, number] : {std::tuple{"Q4_K_M", DType::q4_k, 15u}, {"q5_k_m", DType::q5_k, 17u}}) {
      const auto type = quantize_type_from_name(text);
      ASSERT_TRUE(type) << text;
      quantize(*input(), out_, {*type, 0, true}, {});
      const auto made = Gguf::open(out_);
      for (int l = 0; l < n_layers; ++l) {
        const DType expected = more.contains(l) ? DType::q6_k : base;
        EXPECT_EQ(made->find_tensor(fmt::format("blk.{}.attn_v.weight", l))->dtype, expected) << l;
        EXPECT_EQ(made->find_tensor(fmt::format("blk.{}.ffn_down.weight", l))->dtype, expected) << l;
        EXPECT_EQ(made->find_tensor(fmt::format("blk.{}.attn_q.weight", l))->dtype, base) << l;
      }
      EXPECT_EQ(made->find_tensor("token_embd.weight")->dtype, n_layers == 16 ? base : DType::q6_k);
      if (n_layers == 16) {
        EXPECT_EQ(made->find_tensor("output.weight")->dtype, DType::q6_k);
      }
      EXPECT_EQ(file_type_of(*type), number);
    }
  }
  EXPECT_FALSE(quantize_type_from_name("q8_0_m"));
  EXPECT_FALSE(quantize_type_from_name("f64"));
}

TEST_F(QuantizeFile, RowsThatAreNoWholeBlocksFallBack) {
  EXPECT_EQ(fallback_dtype(DType::q4_k, 512), DType::q4_k);
  const std::tuple<DType, std::int64_t, DType> cases[]{
      {DType::q4_k, 288, DType::q5_0},   {DType::q5_k, 288, DType::q5_1},   {DType::q6_k, 288, DType::q8_0},
      {DType::q2_k, 288, DType::iq4_nl}, {DType::q3_k, 288, DType::iq4_nl}, {DType::iq4_xs, 288, DType::iq4_nl},
      {DType::q8_0, 48, DType::f16},     {DType::q6_k, 48, DType::f16},     {DType::q4_1, 33, DType::f16},
      {DType::f16, 7, DType::f16},       {DType::bf16, 7, DType::bf16}};
  for (const auto& [wanted, row, expected] : cases) EXPECT_EQ(fallback_dtype(wanted, row), expected) << name(wanted) << row;
  file_.f32_tensor("a.weight", {288, 2}, ramp(576));
  file_.f32_tensor("b.weight", {256, 2}, ramp(512));
  file_.f32_tensor("c.weight", {288, 3}, ramp(864));
  file_.f32_tensor("d.weight", {33, 3}, ramp(99));
  const auto made = quantized(DType::q6_k);
  EXPECT_EQ(made->find_tensor("a.weight")->dtype, DType::q8_0);
  EXPECT_EQ(made->find_tensor("b.weight")->dtype, DType::q6_k);
  EXPECT_EQ(made->find_tensor("d.weight")->dtype, DType::f16);
  ASSERT_EQ(report_.fallbacks.size(), 2u);
  EXPECT_EQ(report_.fallbacks[0].first_tensor, "a.weight");
  EXPECT_EQ(report_.fallbacks[0].tensors, 2);
  EXPECT_EQ(report_.fallbacks[0].row, 288);
  EXPECT_EQ(report_.fallbacks[1].first_tensor, "d.weight");
}

TEST_F(QuantizeFile, WhatIsRefused) {
  const auto refused = [&](DType dtype, const std::vector<std::string>& parts) {
    expect_error([&] { quantized(dtype); }, parts);
    EXPECT_FALSE(std::filesystem::exists(out_));
    EXPECT_FALSE(std::filesystem::exists(out_.string() + ".incomplete"));
  };
  refused(DType::q8_0, {"holds no tensors"});
  std::vector<float> x = ramp(512);
  file_.f32_tensor("a.weight", {256, 2}, x);
  x[300] = -1e9f;
  file_.f32_tensor("b.weight", {256, 2}, x);
  for (const DType dtype : weight_dtypes()) {
    if (dtype == DType::f32 || dtype == DType::bf16) continue;
    refused(dtype, {"'b.weight'", "element 300 is -1000000000", std::string(name(dtype)), "bf16"});
  }
  x[300] = std::numeric_limits<float>::quiet_NaN();
  file_.find("b.weight").data = test::raw_values(x);
  refused(DType::f32, {"'b.weight'", "element 300 is nan"});
  file_.find("b.weight").type = 24;  // I8
  file_.find("b.weight").data = std::string(512, '\0');
  refused(DType::f32, {"'b.weight'", "I8", "F32, F16"});
  file_.without_tensor("b.weight");
  test::write_file(out_, "mine");
  expect_error([&] { quantize(*input(), out_, {{DType::q8_0}, 0, false}, {}); }, {"exists already", "--force"});
  EXPECT_EQ(test::read_file(out_), "mine");
}

TEST_F(QuantizeFile, ItsOwnInputMayBeReplaced) {
  file_.f32_tensor("w.weight", {256, 2}, ramp(512));
  const auto file = input();
  quantize(*file, in_, {{DType::q8_0}, 0, true}, {});
  EXPECT_EQ(Gguf::open(in_)->find_tensor("w.weight")->dtype, DType::q8_0);
}

/// Errors against the F32 source, beside those of another program's files of the same type: at most 2 % more.
TEST(QuantizeFixtures, ErrorsAreNoLargerThanAnotherPrograms) {
  const auto index_path = test::fixture("quants/index.json");
  if (index_path.empty()) return;
  const auto index = nlohmann::json::parse(test::read_file(index_path));
  const auto source = Gguf::open(index_path.parent_path() / "fixture.F32.gguf");
  for (const auto& [type, entry] : index.items()) {
    if (type == "F32") continue;
    const auto file = Gguf::open(index_path.parent_path() / entry.at("file").get<std::string>());
    double worst = 0;
    for (const auto& [tensor_name, expected] : entry.at("tensors").items()) {
      const DType dtype = *file->find_tensor(tensor_name)->dtype;
      const auto x = values_of(*source->find_tensor(tensor_name));
      const auto n = static_cast<std::int64_t>(x.size());
      std::vector<std::byte> bytes(static_cast<std::size_t>(row_bytes(dtype, n)));
      quantize_row(dtype, x.data(), n, bytes.data());
      std::vector<float> got(x.size());
      dequantize_row(dtype, bytes.data(), n, got.data());
      double square = 0;
      for (std::size_t i = 0; i < x.size(); ++i) square += std::pow(static_cast<double>(got[i]) - static_cast<double>(x[i]), 2);
      const double ratio = std::sqrt(square / static_cast<double>(n)) / expected.at("rmse_vs_f32").get<double>();
      worst = std::max(worst, ratio);
      EXPECT_LE(ratio, 1.02) << type << ' ' << tensor_name;
      EXPECT_GE(ratio, 0.8) << type << ' ' << tensor_name;
    }
    std::cout << type << ": RMSE at most " << worst << " of the other program's\n";
  }
}

}  // namespace
}  // namespace greta
