#include "model/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "model/ggml_types.h"
#include "tests/support/command.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

using test::expect_error;
using test::GgufBytes;
using testing::ElementsAre;

class GgufFile : public testing::Test {
 protected:
  std::shared_ptr<const Gguf> open(const std::string& bytes, const std::string& name = "m.gguf") {
    test::write_file(directory_.path() / name, bytes);
    return Gguf::open(directory_.path() / name);
  }
  test::TemporaryDirectory directory_;
};

TEST_F(GgufFile, EveryMetadataTypeIsReadWithItsOwnWidth) {
  GgufBytes file;
  file.u8("u8", 200).i8("i8", -100).u16("u16", 60000).i16("i16", -30000).u32("u32", 4000000000u).i32("i32", -2000000000);
  file.f32("f32", 0.1f).boolean("t", 1).boolean("f", 0).string("s", std::string_view("a\0b", 3));
  file.u64("u64", 1ull << 62).i64("i64", std::numeric_limits<std::int64_t>::min()).f64("f64", 0.1);
  const auto gguf = open(file.build());
  EXPECT_EQ(gguf->optional_int("u8"), 200);
  EXPECT_EQ(gguf->optional_int("i8"), -100);
  EXPECT_EQ(gguf->optional_int("u16"), 60000);
  EXPECT_EQ(gguf->optional_int("i16"), -30000);
  EXPECT_EQ(gguf->optional_int("u32"), 4000000000);
  EXPECT_EQ(gguf->optional_int("i32"), -2000000000);
  EXPECT_EQ(gguf->optional_float("f32"), static_cast<double>(0.1f));
  EXPECT_EQ(gguf->optional_bool("t"), true);
  EXPECT_EQ(gguf->optional_bool("f"), false);
  EXPECT_EQ(*gguf->optional_string("s"), std::string("a\0b", 3));
  EXPECT_EQ(gguf->optional_int("u64"), std::int64_t{1} << 62);
  EXPECT_EQ(gguf->optional_int("i64"), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(gguf->optional_float("f64"), 0.1);
  EXPECT_EQ(gguf->find("u8")->type, GgufType::u8);
  ASSERT_EQ(gguf->metadata().size(), 13u);
  EXPECT_EQ(gguf->metadata()[2].first, "u16");  // in file order
}

TEST_F(GgufFile, EveryArrayTypeIsRead) {
  GgufBytes file;
  using test::raw_values;
  file.array("u8", 0, 2, raw_values<std::uint8_t>({1, 255})).array("i8", 1, 2, raw_values<std::int8_t>({-1, 127}));
  file.array("u16", 2, 2, raw_values<std::uint16_t>({1, 65535})).array("i16", 3, 1, raw_values<std::int16_t>({-7}));
  file.array("u32", 4, 1, raw_values<std::uint32_t>({4294967295u})).array("i32", 5, 2, raw_values<std::int32_t>({-1, 2}));
  file.array("f32", 6, 2, raw_values<float>({0.5f, -2.0f})).array("bool", 7, 3, raw_values<std::uint8_t>({1, 0, 1}));
  file.strings("string", {"x", "", "yz"}).array("u64", 10, 1, raw_values<std::uint64_t>({1ull << 40}));
  file.array("i64", 11, 1, raw_values<std::int64_t>({-5})).array("f64", 12, 1, raw_values<double>({1e300}));
  file.array("empty", 8, 0, "");
  const auto gguf = open(file.build());
  EXPECT_THAT(*gguf->optional_ints("u8"), ElementsAre(1, 255));
  EXPECT_THAT(*gguf->optional_ints("i8"), ElementsAre(-1, 127));
  EXPECT_THAT(*gguf->optional_ints("u16"), ElementsAre(1, 65535));
  EXPECT_THAT(*gguf->optional_ints("i16"), ElementsAre(-7));
  EXPECT_THAT(*gguf->optional_ints("u32"), ElementsAre(4294967295));
  EXPECT_THAT(*gguf->optional_ints("i32"), ElementsAre(-1, 2));
  EXPECT_THAT(*gguf->optional_floats("f32"), ElementsAre(0.5, -2.0));
  EXPECT_THAT(*gguf->optional_ints("bool"), ElementsAre(1, 0, 1));
  EXPECT_THAT(*gguf->optional_strings("string"), ElementsAre("x", "", "yz"));
  EXPECT_THAT(*gguf->optional_ints("u64"), ElementsAre(std::int64_t{1} << 40));
  EXPECT_THAT(*gguf->optional_ints("i64"), ElementsAre(-5));
  EXPECT_THAT(*gguf->optional_floats("f64"), ElementsAre(1e300));
  EXPECT_TRUE(gguf->optional_strings("empty")->empty());
  EXPECT_EQ(gguf->find("bool")->element, GgufType::boolean);
}

TEST_F(GgufFile, TensorsPointAtTheirBytes) {
  GgufBytes file;
  file.f32_tensor("a", {3}, {1.0f, 2.0f, 3.0f});
  file.tensor("b", {32, 2}, 8, std::string(68, 'q'));  // Q8_0
  file.f32_tensor("c", {2, 1, 2, 1}, {4.0f, 5.0f, 6.0f, 7.0f});
  for (const std::uint32_t version : {2u, 3u}) {
    file.version = version;
    const std::string bytes = file.build();
    const auto gguf = open(bytes);
    EXPECT_EQ(gguf->version(), version);
    ASSERT_EQ(gguf->tensors().size(), 3u);
    const GgufTensor* a = gguf->find_tensor("a");
    ASSERT_NE(a, nullptr);
    EXPECT_EQ(a->dtype, DType::f32);
    EXPECT_EQ(reinterpret_cast<const float*>(a->data)[2], 3.0f);
    EXPECT_EQ(a->bytes, 12u);
    const GgufTensor* b = gguf->find_tensor("b");
    EXPECT_THAT(b->shape, ElementsAre(32, 2));
    EXPECT_EQ(b->bytes, 68u);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(b->data), b->bytes), std::string(68, 'q'));
    EXPECT_EQ(bytes.substr(b->file_offset, 4), "qqqq");
    EXPECT_EQ(reinterpret_cast<const float*>(gguf->find_tensor("c")->data)[3], 7.0f);
    EXPECT_EQ(gguf->find_tensor("d"), nullptr);
  }
}

TEST_F(GgufFile, AlignmentOfTheFileIsFollowed) {
  GgufBytes file;
  file.alignment = 1024;
  file.u32("general.alignment", 1024);
  file.f32_tensor("a", {1}, {1.5f});
  file.f32_tensor("b", {1}, {2.5f});
  const auto gguf = open(file.build());
  EXPECT_EQ(gguf->alignment(), 1024u);
  EXPECT_EQ(gguf->find_tensor("a")->file_offset, 1024u);
  EXPECT_EQ(gguf->find_tensor("b")->file_offset, 2048u);
  EXPECT_EQ(reinterpret_cast<const float*>(gguf->find_tensor("b")->data)[0], 2.5f);
}

TEST_F(GgufFile, VocabularyOnlyFilesNeedNoPadding) {
  GgufBytes file;
  file.strings("tokenizer.ggml.tokens", {"a"});
  EXPECT_TRUE(open(file.build())->tensors().empty());
  EXPECT_TRUE(open(GgufBytes().build())->metadata().empty());
}

TEST_F(GgufFile, TensorsOfTypesNotComputedWithAreKept) {
  GgufBytes file;
  file.tensor("k", {256}, 16, std::string(66, 'k'));  // IQ2_XXS
  file.tensor("future", {100}, 77, std::string(64, 'x'));
  const auto gguf = open(file.build());
  EXPECT_EQ(gguf->find_tensor("k")->bytes, 66u);
  EXPECT_EQ(gguf->find_tensor("k")->dtype, std::nullopt);
  EXPECT_EQ(gguf->find_tensor("future")->dtype, std::nullopt);
  EXPECT_EQ(gguf->find_tensor("future")->ggml_type, 77u);
}

TEST_F(GgufFile, TypedAccessNamesKeyAndTypes) {
  GgufBytes file;
  file.u32("n", 7).string("s", "x").f32("x", 1.0f).u64("big", 1ull << 63).strings("list", {"a"});
  const auto gguf = open(file.build());
  EXPECT_EQ(gguf->required_int("n", 7, 7), 7);
  EXPECT_EQ(gguf->optional_int("missing"), std::nullopt);
  EXPECT_EQ(gguf->optional_string("missing"), nullptr);
  EXPECT_EQ(gguf->optional_ints("missing"), nullptr);
  expect_error([&] { gguf->optional_int("s"); }, {"m.gguf", "'s'", "string", "integer"});
  expect_error([&] { gguf->optional_int("x"); }, {"'x'", "f32", "integer"});
  expect_error([&] { gguf->optional_float("n"); }, {"'n'", "u32", "f32"});
  expect_error([&] { gguf->optional_bool("n"); }, {"'n'", "u32", "boolean"});
  expect_error([&] { gguf->optional_string("list"); }, {"'list'", "array of string", "wanted string"});
  expect_error([&] { gguf->optional_ints("list"); }, {"'list'", "array of string", "array of integers"});
  expect_error([&] { gguf->optional_strings("n"); }, {"'n'", "u32", "array of string"});
  expect_error([&] { gguf->optional_int("big"); }, {"'big'", "9223372036854775808", "2^63-1"});
  expect_error([&] { gguf->required_int("missing", 1, 9); }, {"m.gguf", "'missing'", "is missing", "1 to 9"});
  expect_error([&] { gguf->required_int("n", 8, 9); }, {"'n'", "is 7", "8 to 9"});
  expect_error([&] { gguf->required_int("n", 1, 6); }, {"'n'", "is 7", "1 to 6"});
  expect_error([&] { gguf->required_string("missing"); }, {"'missing'", "is missing"});
}

TEST_F(GgufFile, ContentHashIsOfTheWholeFile) {
  // XXH3-64 of nothing but these bytes: equal for equal files, another for one byte more or changed.
  GgufBytes file;
  file.f32_tensor("a", {1}, {1.0f});
  const std::string bytes = file.build();
  std::string changed = bytes;
  changed.back() = 'x';  // padding
  const std::uint64_t hash = open(bytes, "a.gguf")->content_hash();
  EXPECT_EQ(open(bytes, "b.gguf")->content_hash(), hash);
  EXPECT_NE(open(changed, "c.gguf")->content_hash(), hash);
  EXPECT_NE(open(bytes + '\0', "d.gguf")->content_hash(), hash);
}

TEST_F(GgufFile, FilesThatAreNoFilesAreNamed) {
  const auto path = directory_.path();
  expect_error([&] { Gguf::open(path / "absent.gguf"); }, {"absent.gguf", "No such file"});
  expect_error([&] { Gguf::open(path); }, {path.string(), "a directory"});
  expect_error([&] { Gguf::open("/dev/null"); }, {"/dev/null", "regular file"});
  expect_error([&] { open(""); }, {"m.gguf", "offset 0", "magic", "truncated"});
}

TEST(GgmlTypes, NamesAndSizesOfTheFormat) {
  struct Row {
    std::uint32_t id;
    std::string_view name;
    std::int64_t elems, bytes;
  };
  // From the format's description: what a block of each type holds (scales, minima, high bits, quants).
  const Row rows[] = {{0, "F32", 1, 4},
                      {1, "F16", 1, 2},
                      {2, "Q4_0", 32, 2 + 16},
                      {3, "Q4_1", 32, 2 + 2 + 16},
                      {6, "Q5_0", 32, 2 + 4 + 16},
                      {7, "Q5_1", 32, 2 + 2 + 4 + 16},
                      {8, "Q8_0", 32, 2 + 32},
                      {9, "Q8_1", 32, 2 + 2 + 32},
                      {10, "Q2_K", 256, 16 + 64 + 2 + 2},
                      {11, "Q3_K", 256, 32 + 64 + 12 + 2},
                      {12, "Q4_K", 256, 2 + 2 + 12 + 128},
                      {13, "Q5_K", 256, 2 + 2 + 12 + 32 + 128},
                      {14, "Q6_K", 256, 128 + 64 + 16 + 2},
                      {15, "Q8_K", 256, 4 + 256 + 32},
                      {16, "IQ2_XXS", 256, 2 + 64},
                      {17, "IQ2_XS", 256, 2 + 64 + 8},
                      {18, "IQ3_XXS", 256, 2 + 96},
                      {19, "IQ1_S", 256, 2 + 32 + 16},
                      {20, "IQ4_NL", 32, 2 + 16},
                      {21, "IQ3_S", 256, 2 + 64 + 8 + 32 + 4},
                      {22, "IQ2_S", 256, 2 + 64 + 8 + 8},
                      {23, "IQ4_XS", 256, 2 + 2 + 4 + 128},
                      {24, "I8", 1, 1},
                      {25, "I16", 1, 2},
                      {26, "I32", 1, 4},
                      {27, "I64", 1, 8},
                      {28, "F64", 1, 8},
                      {29, "IQ1_M", 256, 32 + 16 + 8},
                      {30, "BF16", 1, 2},
                      {34, "TQ1_0", 256, 48 + 4 + 2},
                      {35, "TQ2_0", 256, 64 + 2},
                      {39, "MXFP4", 32, 1 + 16}};
  for (const auto& row : rows) {
    EXPECT_EQ(ggml_type_name(row.id), row.name);
    const GgmlType* type = find_ggml_type(row.id);
    ASSERT_NE(type, nullptr) << row.name;
    EXPECT_EQ(type->block_elems, row.elems) << row.name;
    EXPECT_EQ(type->block_bytes, row.bytes) << row.name;
    if (type->dtype) {
      EXPECT_EQ(dtype_info(*type->dtype).block_elems, row.elems) << row.name;
      EXPECT_EQ(dtype_info(*type->dtype).block_bytes, row.bytes) << row.name;
      EXPECT_EQ(ggml_type_of(*type->dtype), row.id);
    }
  }
  for (const std::uint32_t retired : {4u, 5u, 31u, 32u, 33u, 36u, 37u, 38u, 4000000000u}) {
    EXPECT_EQ(ggml_type_name(retired), "unknown");
    EXPECT_EQ(find_ggml_type(retired), nullptr);
  }
}

}  // namespace
}  // namespace greta
