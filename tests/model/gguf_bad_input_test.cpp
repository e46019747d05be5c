// Hostile GGUF files, each by its name: one line that says where, nothing allocated on a file's word.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <limits>
#include <random>
#include <tuple>

#include "model/gguf_parse.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

using test::expect_error;
using test::GgufBytes;
using test::raw;
using test::raw_string;

constexpr std::uint64_t kHuge = std::uint64_t{1} << 62;

GgufPart parse(const std::string& bytes) {
  // A copy of exactly the file's size, so that AddressSanitizer sees a read past its end.
  std::vector<char> exact(bytes.begin(), bytes.end());
  return parse_gguf({reinterpret_cast<const std::byte*>(exact.data()), exact.size()}, "f.gguf", 0);
}

void expect_refused(const std::string& bytes, std::vector<std::string> parts) {
  parts.push_back("f.gguf: offset ");
  expect_error([&] { parse(bytes); }, parts);
}

GgufBytes one_tensor() {
  GgufBytes file;
  file.u32("n", 1);
  file.f32_tensor("w", {4, 2}, std::vector<float>(8, 1.0f));
  return file;
}

TEST(GgufBadInput, TheGoodFileIsGood) { EXPECT_EQ(parse(one_tensor().build()).tensors.size(), 1u); }

TEST(GgufBadInput, TruncatedAnywhere) {
  GgufBytes file = one_tensor();
  file.strings("s", {"abc", "de"}).i32s("i", {1, 2, 3});
  const std::string bytes = file.build();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    SCOPED_TRACE(size);
    expect_refused(bytes.substr(0, size), {});
  }
}

TEST(GgufBadInput, TruncatedSaysWhere) {
  const std::string bytes = one_tensor().build();
  expect_refused(bytes.substr(0, 3), {"offset 0", "magic", "truncated"});
  expect_refused(bytes.substr(0, 20), {"offset 16", "8 bytes", "ends after 4"});
  expect_refused(bytes.substr(0, bytes.size() - 1), {"'w'", "passes the end", "32 bytes", "31 bytes"});
}

TEST(GgufBadInput, WrongMagic) {
  GgufBytes file = one_tensor();
  file.magic = "GGML";
  expect_refused(file.build(), {"offset 0", "'GGML'", "wanted 'GGUF'"});
  file.magic = "\x1b[2J";  // a terminal's control sequence must not reach the terminal
  expect_refused(file.build(), {"'\\x1b[2J'"});
}

TEST(GgufBadInput, BigEndian) {
  GgufBytes file = one_tensor();
  file.version = 0x03000000;
  expect_refused(file.build(), {"offset 4", "big-endian"});
}

TEST(GgufBadInput, VersionsThatAreNotKnown) {
  for (const std::uint32_t version : {1u, 4u, 99u}) {
    GgufBytes file = one_tensor();
    file.version = version;
    expect_refused(file.build(), {"offset 4", fmt::format("version {}", version), "2 or 3"});
  }
}

TEST(GgufBadInput, CountsOf2To62) {
  for (const std::uint64_t count : {kHuge, std::numeric_limits<std::uint64_t>::max(), std::uint64_t{1000}}) {
    GgufBytes tensors = one_tensor(), values = one_tensor();
    tensors.n_tensors = count;
    values.n_values = count;
    expect_refused(tensors.build(), {"offset 8", std::to_string(count), "tensors cannot fit"});
    expect_refused(values.build(), {"offset 16", std::to_string(count), "metadata entries cannot fit"});
  }
}

TEST(GgufBadInput, CountsSlightlyTooHighOrLow) {
  GgufBytes file = one_tensor();
  file.n_values = 2;
  EXPECT_THROW(parse(file.build()), Error);
  file.n_values = 0;
  EXPECT_THROW(parse(file.build()), Error);
  file.n_values.reset();
  file.n_tensors = 2;
  EXPECT_THROW(parse(file.build()), Error);
}

TEST(GgufBadInput, KeyLengthPastTheEnd) {
  for (const std::uint64_t length : {kHuge, std::numeric_limits<std::uint64_t>::max(), std::uint64_t{65536}}) {
    GgufBytes file = one_tensor();
    std::string bytes = file.build();
    bytes.replace(24, 8, raw(length));
    expect_refused(bytes, {"offset 24", "key 0", std::to_string(length), "at most 65535"});
    bytes.replace(24, 8, raw(std::uint64_t{60000}));
    expect_refused(bytes, {"offset 32", "key 0", "60000", "truncated"});
  }
}

TEST(GgufBadInput, StringLengthPastTheEnd) {
  for (const std::uint64_t length : {kHuge, std::numeric_limits<std::uint64_t>::max(), std::uint64_t{500}}) {
    GgufBytes file = one_tensor();
    file.value("s", raw<std::uint32_t>(8) + raw(length) + "abc");
    expect_refused(file.build(), {"key 's'", std::to_string(length), "truncated"});
    file.array("s", 8, 2, raw_string("abc") + raw(length));
    expect_refused(file.build(), {"key 's'", std::to_string(length), "truncated"});
  }
}

TEST(GgufBadInput, ArrayCountsPastTheEnd) {
  for (std::uint32_t element = 0; element <= 12; ++element) {
    if (element == 9) continue;
    for (const std::uint64_t count : {kHuge, std::numeric_limits<std::uint64_t>::max(), std::uint64_t{5000}}) {
      GgufBytes file = one_tensor();
      file.array("a", element, count, "12345678");
      expect_refused(file.build(), {"key 'a'", std::to_string(count)});
    }
  }
}

TEST(GgufBadInput, ArraysThatAreTooLong) {
  GgufBytes file;
  file.array("a", 0, (1u << 24) + 1, std::string((1u << 24) + 1, 'x'));
  expect_refused(file.build(), {"key 'a'", "16777217", "at most 16777216"});
}

TEST(GgufBadInput, NestedArrays) {
  GgufBytes file;
  file.array("a", 9, 1, raw<std::uint32_t>(0) + raw<std::uint64_t>(1) + "x");
  expect_refused(file.build(), {"key 'a'", "array of arrays"});
}

TEST(GgufBadInput, ValueTypesThatDoNotExist) {
  GgufBytes file;
  file.value("v", raw<std::uint32_t>(13) + raw<std::uint64_t>(0));
  expect_refused(file.build(), {"key 'v'", "value type 13", "0 to 12"});
  file.array("v", 4000000000u, 1, "xxxxxxxx");
  expect_refused(file.build(), {"key 'v'", "value type 4000000000"});
}

TEST(GgufBadInput, BooleansThatAreNeither) {
  GgufBytes file;
  file.boolean("b", 2);
  expect_refused(file.build(), {"key 'b'", "value 2", "0 or 1"});
  file.array("b", 7, 2, "\x01\xff");
  expect_refused(file.build(), {"key 'b'", "value 255"});
}

TEST(GgufBadInput, IntegersOfAnArrayAbove2To63) {
  GgufBytes file;
  file.array("a", 10, 2, raw<std::uint64_t>(1) + raw<std::uint64_t>(std::uint64_t{1} << 63));
  expect_refused(file.build(), {"key 'a'", "element 1", "9223372036854775808"});
}

TEST(GgufBadInput, EmptyAndDuplicateKeys) {
  GgufBytes file;
  file.values = {{"", raw<std::uint32_t>(4) + raw(1u)}};
  expect_refused(file.build(), {"key 0", "empty"});
  file.values = {
      {"k", raw<std::uint32_t>(4) + raw(1u)}, {"l", raw<std::uint32_t>(4) + raw(1u)}, {"k", raw<std::uint32_t>(4) + raw(2u)}};
  expect_refused(file.build(), {"'k'", "twice"});
}

TEST(GgufBadInput, KeysCannotBreakTheLine) {
  GgufBytes file;
  file.value("bad\nkey\x1b", raw<std::uint32_t>(99));
  expect_refused(file.build(), {"'bad\\x0akey\\x1b'"});
  file.values.clear();
  file.value(std::string(3000, 'k'), raw<std::uint32_t>(99));
  const std::string line = expect_error([&] { parse(file.build()); }, {"3000 bytes"});
  EXPECT_LT(line.size(), 400u);
}

TEST(GgufBadInput, Alignment) {
  for (const std::uint32_t alignment : {0u, 1u, 4u, 24u, 33u, 0xffffffffu}) {
    GgufBytes file = one_tensor();
    file.u32("general.alignment", alignment);
    expect_refused(file.build(), {"general.alignment", std::to_string(alignment), "power of two"});
  }
  GgufBytes file = one_tensor();
  file.u32("general.alignment", 0x80000000u);
  expect_refused(file.build(), {"2147483648", "past the end"});
  file.string("general.alignment", "32");
  expect_refused(file.build(), {"general.alignment", "string", "u32"});
}

TEST(GgufBadInput, TensorNames) {
  GgufBytes file = one_tensor();
  file.tensors[0].name = "";
  expect_refused(file.build(), {"name of tensor 0", "empty"});
  file = one_tensor();
  file.f32_tensor("w", {1}, {1.0f});
  expect_refused(file.build(), {"tensor 'w'", "twice"});
}

TEST(GgufBadInput, Dimensions) {
  for (const std::uint32_t dimensions : {0u, 5u, 0x7fffffffu, 0xffffffffu}) {
    GgufBytes file = one_tensor();
    file.tensors[0].dimensions = dimensions;
    expect_refused(file.build(), {"tensor 'w'", fmt::format("{} dimensions", dimensions), "1 to 4"});
  }
  for (const std::uint64_t extent : {std::uint64_t{0}, std::uint64_t{1} << 63, std::numeric_limits<std::uint64_t>::max()}) {
    GgufBytes file = one_tensor();
    file.tensors[0].shape = {4, extent};
    expect_refused(file.build(), {"tensor 'w'", "dimension 1", std::to_string(extent)});
  }
}

TEST(GgufBadInput, ShapesThatOverflow) {
  GgufBytes file = one_tensor();
  file.tensors[0].shape = {std::uint64_t{1} << 32, std::uint64_t{1} << 32};
  expect_refused(file.build(), {"tensor 'w'", "more than 2^63 elements"});
  file.tensors[0].shape = {std::uint64_t{1} << 62, 2, 2, 2};
  expect_refused(file.build(), {"tensor 'w'", "more than 2^63 elements"});
  file.tensors[0].shape = {std::uint64_t{1} << 62};  // 2^64 bytes
  expect_refused(file.build(), {"tensor 'w'", "more than 2^63 bytes"});
  file.tensors[0].shape = {kHuge / 8};  // fits in 64 bits, not in the file
  expect_refused(file.build(), {"tensor 'w'", "passes the end"});
  file.tensors[0].shape = {std::uint64_t{1} << 32, std::uint64_t{1} << 32};
  file.tensors[0].type = 77;  // of unknown size: the shape is checked all the same
  expect_refused(file.build(), {"tensor 'w'", "more than 2^63 elements"});
}

TEST(GgufBadInput, RowsThatAreNoWholeBlocks) {
  GgufBytes file;
  file.tensor("w", {48, 2}, 8, std::string(102, 'x'));
  expect_refused(file.build(), {"tensor 'w'", "rows of 48", "multiple of 32", "Q8_0"});
  file.tensors[0].shape = {128};
  file.tensors[0].type = 12;
  expect_refused(file.build(), {"tensor 'w'", "rows of 128", "multiple of 256", "Q4_K"});
  // Ids, blocks and names by the format's list.
  const std::tuple<std::uint32_t, const char*, const char*> types[]{
      {3, "Q4_1", "32"},   {6, "Q5_0", "32"},   {7, "Q5_1", "32"},    {10, "Q2_K", "256"},  {11, "Q3_K", "256"},
      {13, "Q5_K", "256"}, {14, "Q6_K", "256"}, {20, "IQ4_NL", "32"}, {23, "IQ4_XS", "256"}};
  for (const auto& [id, type, block] : types) {
    file.tensors[0].shape = {272 + 1};
    file.tensors[0].type = id;
    expect_refused(file.build(), {"tensor 'w'", "rows of 273", std::string("multiple of ") + block, type});
    // A row of whole blocks in too few bytes.
    file.tensors[0].shape = {256, 9};
    expect_refused(file.build(), {"tensor 'w'", "passes the end"});
  }
}

TEST(GgufBadInput, TensorOffsets) {
  GgufBytes file = one_tensor();
  file.tensors[0].offset = 4;
  expect_refused(file.build(), {"tensor 'w'", "data offset 4", "alignment 32"});
  for (const std::uint64_t offset : {kHuge, std::numeric_limits<std::uint64_t>::max() - 31, std::uint64_t{32}}) {
    file.tensors[0].offset = offset;
    expect_refused(file.build(), {"tensor 'w'", std::to_string(offset), "passes the end"});
  }
  file.tensors[0].type = 77;  // of unknown size: still inside the file
  file.tensors[0].offset = 1024;
  expect_refused(file.build(), {"tensor 'w'", "1024", "passes the end"});
}

TEST(GgufBadInput, TensorsThatOverlap) {
  GgufBytes file;
  file.f32_tensor("a", {16}, std::vector<float>(16, 1.0f));
  file.f32_tensor("b", {16}, std::vector<float>(16, 1.0f)).offset = 32;
  expect_refused(file.build(), {"'a'", "'b'", "overlap"});
}

/// Files damaged at random: opened or refused in one line, never a crash, a hang or memory beyond a few times the file.
TEST(GgufBadInput, RandomDamageNeverCrashes) {
  GgufBytes small = test::small_llama();
  small.array("flags", 7, 3, std::string("\1\0\1", 3)).u64("u", 7).f64("d", 0.5);
  const std::string good = small.build();
  const std::size_t head = small.head().size();
  std::mt19937_64 random(3041);
  const auto below = [&random](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  int refused = 0;
  constexpr int kRounds = 20000;
  for (int round = 0; round < kRounds; ++round) {
    std::string bytes = good;
    const std::size_t damages = 1 + below(4);
    for (std::size_t i = 0; i < damages; ++i) {
      switch (below(4)) {
        case 0:
          bytes[below(head)] ^= static_cast<char>(1u << below(8));
          break;
        case 1: {  // a length, count or offset somewhere
          const std::uint64_t values[] = {
              0,       1, 255, std::uint64_t{1} << 31, std::uint64_t{1} << 32, kHuge, std::uint64_t{1} << 63, ~std::uint64_t{0},
              random()};
          bytes.replace(below(head), 8, raw(values[below(9)]));
          break;
        }
        case 2:
          bytes.resize(std::max<std::size_t>(1, below(bytes.size() + 1)));
          bytes.resize(std::max(bytes.size(), head + 8), static_cast<char>(below(256)));
          break;
        default: {  // a piece moved
          const std::size_t size = below(64), from = below(head - 64);
          bytes.replace(below(head - 64), size, bytes.substr(from, size));
        }
      }
    }
    try {
      parse(bytes);
    } catch (const Error& error) {
      ++refused;
      ASSERT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "round " << round;
    }
  }
  EXPECT_GT(refused, kRounds / 2);  // most damage is seen
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  EXPECT_LT(usage.ru_maxrss, 1 << 20) << "KiB at the peak";
}

}  // namespace
}  // namespace greta
