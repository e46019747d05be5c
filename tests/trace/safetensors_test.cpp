#include "trace/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "core/half.h"
#include "support.h"

namespace greta {
namespace {

using test::error_of;
using test::slurp;
using test::spew;
using test::TempDir;

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

/// A file by hand: 8 bytes of length, header, data.
std::string file_of(const std::string& header, const std::string& data) {
  const auto length = static_cast<std::uint64_t>(header.size());
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out + header + data;
}

TEST(Safetensors, RoundTripsEveryType) {
  const TempDir dir;
  const std::vector<double> f64{1.5, -2, 1e-300};
  const std::vector<float> f32{0.25f, -1};
  const std::vector<std::uint16_t> f16{f32_to_f16(3.0f)}, bf16{f32_to_bf16(-0.5f), 0x7f80};
  const std::vector<std::int64_t> i64{-1, std::int64_t{1} << 53};
  SafetensorsWriter writer(dir / "t",
                           {{"a", TensorType::f64, {3}},
                            {"b.\"x\"", TensorType::f32, {2, 1}},
                            {"c", TensorType::f16, {}},
                            {"d", TensorType::bf16, {1, 2}},
                            {"e", TensorType::i64, {2}},
                            {"none", TensorType::f32, {0, 7}}},
                           {{"made by", "greta"}});
  writer.append(bytes_of(f64).first(5));  // cut anywhere
  writer.append(bytes_of(f64).subspan(5));
  writer.append(bytes_of(f32));
  writer.append(bytes_of(f16));
  writer.append(bytes_of(bf16));
  EXPECT_FALSE(std::filesystem::exists(dir / "t"));
  writer.append(bytes_of(i64));
  writer.finish();
  const SafetensorsFile file(dir / "t");
  ASSERT_EQ(file.tensors().size(), 6u);
  EXPECT_EQ(file.read_f64(*file.find("a")), f64);
  EXPECT_EQ(file.find("b.\"x\"")->shape, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(file.read_f64(*file.find("b.\"x\"")), (std::vector<double>{0.25, -1}));
  EXPECT_EQ(file.read_f64(*file.find("c")), std::vector<double>{3});
  EXPECT_EQ(file.read_f64(*file.find("d")), (std::vector<double>{-0.5, std::numeric_limits<double>::infinity()}));
  EXPECT_EQ(file.read_f64(*file.find("e")), (std::vector<double>{-1, 0x1p53}));
  EXPECT_TRUE(file.read(*file.find("none")).empty());
  EXPECT_EQ(file.metadata(), (std::vector<std::pair<std::string, std::string>>{{"made by", "greta"}}));
  EXPECT_EQ(file.find("z"), nullptr);
}

// The bytes themselves: what any other program reads.
TEST(Safetensors, WritesTheFormat) {
  const TempDir dir;
  SafetensorsWriter writer(dir / "t", {{"logits", TensorType::f32, {1, 2}}, {"tokens", TensorType::i64, {1}}});
  writer.append(bytes_of(std::vector<float>{1, 2}));
  writer.append(bytes_of(std::vector<std::int64_t>{7}));
  writer.finish();
  const std::string text = slurp(dir / "t");
  std::uint64_t length = 0;
  std::memcpy(&length, text.data(), 8);
  EXPECT_EQ((8 + length) % 8, 0u);
  EXPECT_EQ(text.size(), 8 + length + 16);
  const auto header = nlohmann::json::parse(text.substr(8, length));
  EXPECT_EQ(header["logits"]["dtype"], "F32");
  EXPECT_EQ(header["logits"]["shape"], (std::vector<int>{1, 2}));
  EXPECT_EQ(header["logits"]["data_offsets"], (std::vector<int>{0, 8}));
  EXPECT_EQ(header["tokens"]["dtype"], "I64");
  EXPECT_EQ(header["tokens"]["data_offsets"], (std::vector<int>{8, 16}));
  float second = 0;
  std::memcpy(&second, text.data() + 8 + length + 4, 4);
  EXPECT_EQ(second, 2.0f);
}

TEST(Safetensors, NothingAppearsUnlessAllAnnouncedBytesCame) {
  const TempDir dir;
  {
    SafetensorsWriter writer(dir / "t", {{"a", TensorType::f32, {2}}});
    writer.append(bytes_of(std::vector<float>{1}));
    EXPECT_NE(error_of([&] { writer.finish(); }).find("4 bytes of tensors, 8 were announced"), std::string::npos);
  }
  {
    SafetensorsWriter writer(dir / "t", {{"a", TensorType::f32, {1}}});
    EXPECT_NE(error_of([&] { writer.append(bytes_of(std::vector<float>{1, 2})); }), "");
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  EXPECT_NE(error_of([&] { SafetensorsWriter(dir / "t", {{"a", TensorType::f32, {1}}, {"a", TensorType::f32, {1}}}); }), "");
  EXPECT_NE(error_of([&] { SafetensorsWriter(dir / "t", {{"__metadata__", TensorType::f32, {1}}}); }), "");
  EXPECT_NE(error_of([&] { SafetensorsWriter(dir / "t", {{"a", TensorType::f32, {-1}}}); }), "");
  EXPECT_NE(error_of([&] {
              SafetensorsWriter(dir / "t", {{"a", TensorType::f32, {std::int64_t{1} << 40, std::int64_t{1} << 40}}});
            }),
            "");
  EXPECT_NE(error_of([&] { SafetensorsWriter(dir / "no" / "t", {}); }), "");
  EXPECT_NE(error_of([&] { tensor_type(DType::q8_0); }), "");
}

TEST(Safetensors, RefusesHostileFiles) {
  const TempDir dir;
  const auto error = [&](const std::string& content) {
    spew(dir / "t", content);
    return error_of([&] { SafetensorsFile file(dir / "t"); });
  };
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(error(file_of(good, std::string(8, 'x'))), "");
  EXPECT_NE(error(""), "");
  EXPECT_NE(error("1234567"), "");
  EXPECT_NE(error(file_of(good, std::string(7, 'x'))), "");  // cut
  EXPECT_NE(error(file_of(good, std::string(9, 'x'))), "");  // longer than its tensors
  EXPECT_NE(error(std::string(8, '\xff') + good).find("header"), std::string::npos);
  EXPECT_NE(error(std::string("\0\0\0\0\0\0\0\x40", 8) + good).find("header"), std::string::npos);  // 2^62
  for (const char* header :
       {"[]", "1", "{", R"({"a":1})", R"({"a":{"dtype":"F32","shape":[2]}})",
        R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", R"({"a":{"dtype":4,"shape":[2],"data_offsets":[0,8]}})",
        R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
        R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
        R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})",
        R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,16]}})",
        R"({"a":{"dtype":"F32","shape":[1e300],"data_offsets":[0,8]}})",
        R"({"a":{"dtype":"F32","shape":"2","data_offsets":[0,8]}})",
        R"({"a":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,8]}})",
        R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
        R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
        R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})"})
    EXPECT_NE(error(file_of(header, std::string(8, 'x'))).find("not a whole safetensors file"), std::string::npos) << header;
  EXPECT_NE(error(file_of(std::string(1'000'000, '['), "")), "");
  EXPECT_NE(error_of([&] { SafetensorsFile file(dir / "none"); }).find("cannot be opened"), std::string::npos);
  EXPECT_NE(error_of([&] { SafetensorsFile file(dir.path()); }), "");
}

TEST(Safetensors, DamagedFilesNeverCrash) {
  const TempDir dir;
  std::mt19937 random(3);
  const std::string good = file_of(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I64","shape":[1,1],"data_offsets":[8,16]}})",
      std::string(16, 'x'));
  for (int i = 0; i < 2000; ++i) {
    std::string text = good.substr(0, random() % 4 == 0 ? random() % good.size() : good.size());
    for (auto n = random() % 4; n > 0 && !text.empty(); --n) text[random() % text.size()] = static_cast<char>(random());
    spew(dir / "t", text);
    error_of([&] {
      const SafetensorsFile file(dir / "t");
      for (const TensorEntry& entry : file.tensors()) file.read_f64(entry);
    });
  }
}

TEST(Safetensors, ReadsTheReferenceFiles) {
  const std::filesystem::path fixture =
      std::filesystem::path(GRETA_FIXTURES) / "reference64/stories260K.F32.p_lily.stages.safetensors";
  if (!std::filesystem::exists(fixture)) {
    std::printf("%s: not there, passed over\n", fixture.c_str());
    return;
  }
  const SafetensorsFile file(fixture);
  EXPECT_EQ(file.tensors().size(), 88u);
  EXPECT_EQ(file.find("0.x_in")->shape, (std::vector<std::int64_t>{16, 64}));
  EXPECT_EQ(file.find("logits")->shape, (std::vector<std::int64_t>{16, 512}));
  // Rows of probabilities sum to 1 and see no later key: what they must be, whoever wrote them.
  const std::vector<double> probs = file.read_f64(*file.find("3.attn_probs"));
  for (std::size_t row = 0; row < 16; ++row)
    for (std::size_t head = 0; head < 8; ++head) {
      double sum = 0;
      for (std::size_t key = 0; key < 16; ++key) {
        const double p = probs[(row * 8 + head) * 16 + key];
        sum += p;
        EXPECT_TRUE(key <= row || p == 0);
      }
      EXPECT_NEAR(sum, 1, 1e-12);
    }
}

TEST(StageTensors, HaveTheNamesAndShapesOfTheReference) {
  const TempDir dir;
  constexpr int n = 3, heads = 2;
  const std::vector<float> wide{1, 2, 3, 4, 5, 6};
  std::vector<std::vector<float>> probs;
  for (int p = 0; p < n; ++p) {  // [heads, p + 1]: head h, key k holds 10 p + h + k/10
    probs.emplace_back();
    for (int h = 0; h < heads; ++h)
      for (int k = 0; k <= p; ++k) probs.back().push_back(static_cast<float>(10 * p + h) + static_cast<float>(k) / 10);
  }
  const auto row = [&](int p) { return std::as_bytes(std::span(wide).subspan(static_cast<std::size_t>(2 * p), 2)); };
  std::vector<StageTensor> tensors{
      {0, Stage::x_in, DType::f32, {0, 1, 2}, {row(0), row(1), row(2)}},
      {0, Stage::attn_scores, DType::f32, {0, 1, 2}, {bytes_of(probs[0]), bytes_of(probs[1]), bytes_of(probs[2])}},
      {0, Stage::attn_probs, DType::f32, {0, 1, 2}, {bytes_of(probs[0]), bytes_of(probs[1]), bytes_of(probs[2])}},
      {4, Stage::logits, DType::f32, {2}, {row(2)}}};
  write_stage_tensors(dir / "t", tensors, heads, std::vector<std::int32_t>{5, 6, 7});
  const SafetensorsFile file(dir / "t");
  EXPECT_EQ(file.find("0.x_in")->shape, (std::vector<std::int64_t>{3, 2}));
  EXPECT_EQ(file.read_f64(*file.find("0.x_in")), (std::vector<double>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(file.find("0.attn_probs")->shape, (std::vector<std::int64_t>{3, 2, 3}));
  const std::vector<double> padded = file.read_f64(*file.find("0.attn_probs")),
                            scores = file.read_f64(*file.find("0.attn_scores"));
  for (std::size_t p = 0; p < n; ++p)
    for (std::size_t h = 0; h < heads; ++h)
      for (std::size_t k = 0; k < n; ++k) {
        const std::size_t at = (p * heads + h) * n + k;
        const double value = k <= p ? static_cast<double>(probs[p][h * (p + 1) + k]) : 0;
        EXPECT_EQ(padded[at], value);
        EXPECT_EQ(scores[at], k <= p ? value : -std::numeric_limits<double>::infinity());
      }
  EXPECT_EQ(file.find("logits")->shape, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(file.read_f64(*file.find("logits.positions")), std::vector<double>{2});
  EXPECT_EQ(file.find("0.x_in.positions"), nullptr);
  EXPECT_EQ(file.read_f64(*file.find("tokens")), (std::vector<double>{5, 6, 7}));

  tensors[0].rows[1] = std::as_bytes(std::span(wide).subspan(0, 1));
  EXPECT_NE(error_of([&] { write_stage_tensors(dir / "u", tensors, heads, {}); }).find("0.x_in"), std::string::npos);
  tensors[0].rows.pop_back();
  EXPECT_NE(error_of([&] { write_stage_tensors(dir / "u", tensors, heads, {}); }), "");
  EXPECT_FALSE(std::filesystem::exists(dir / "u"));
}

}  // namespace
}  // namespace greta
