#include "trace/capture_store.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <cstring>
#include <random>

#include "support.h"
#include "trace/file_io.h"

namespace greta {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::make_capture;
using test::slurp;
using test::spew;
using test::TempDir;

/// Replaces the hash at the end, as somebody who wants to be believed would.
std::string sealed(std::string bytes) {
  const std::uint64_t hash = XXH3_64bits(bytes.data(), bytes.size() - 8);
  std::memcpy(bytes.data() + bytes.size() - 8, &hash, 8);
  return bytes;
}

template <class T>
std::string with(std::string bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof(value));
  return sealed(std::move(bytes));
}

TEST(CaptureStore, GivesBackAllButSlicesSketchesAndOperands) {
  const TempDir dir;
  for (const char arm : {'a', 'b'}) {
    const Capture capture = make_capture(arm, 5);
    write_capture_dir(dir / "c", capture);
    const Capture read = read_capture_dir(dir / "c");
    test::expect_same(read, capture, false);
    for (const StageRecord& record : read.records)
      EXPECT_TRUE(record.print.sample.empty() && record.print.sketch.empty() && record.operands.empty());
  }
}

TEST(CaptureStore, KeepsWhatIsUnknown) {
  const TempDir dir;
  Capture capture;
  capture.prompt_id = "p";
  capture.foreign = true;
  StageRecord record;
  record.print.whole_row = false;
  record.print.mean = std::numeric_limits<double>::quiet_NaN();
  capture.records.push_back(record);
  LogitsRecord logits;
  logits.has_hash = false;
  logits.mean = std::numeric_limits<double>::quiet_NaN();
  capture.logits.push_back(logits);
  write_capture_dir(dir / "c", capture);
  test::expect_same(read_capture_dir(dir / "c"), capture);
  write_capture_dir(dir / "d", Capture{});
  test::expect_same(read_capture_dir(dir / "d"), Capture{});
}

// 400 positions of a model with 16 layers and 25 stages, both arms: megabytes, not gigabytes.
TEST(CaptureStore, IsSmall) {
  const TempDir dir;
  Capture capture = make_capture('a', 2);
  const StageRecord record = capture.records.front();
  capture.records.assign(400 * 16 * 25, record);
  write_capture_dir(dir / "c", capture);
  EXPECT_LT(fs::file_size(dir / "c/records.bin"), 17'000'000u);
  EXPECT_EQ(read_capture_dir(dir / "c").records.size(), 160'000u);
}

TEST(CaptureStore, TheHeaderIsAsDocumented) {
  const TempDir dir;
  write_capture_dir(dir / "c", make_capture('a', 2));
  const std::string bytes = slurp(dir / "c/records.bin");
  EXPECT_EQ(bytes.substr(0, 8), "GRETACAP");
  const auto word = [&](std::size_t at) {
    std::uint32_t value = 0;
    std::memcpy(&value, bytes.data() + at, 4);
    return value;
  };
  EXPECT_EQ(word(8), 2u);     // version
  EXPECT_EQ(word(12), 104u);  // bytes a record
  const std::uint32_t n_records = word(16), n_routes = word(24), route_bytes = word(28);
  EXPECT_EQ(n_records, make_capture('a', 2).records.size());
  EXPECT_EQ(n_routes, 1u);
  EXPECT_EQ(bytes.size(), 32 + route_bytes + n_records * 104 + 8);
  EXPECT_EQ(bytes.substr(34, route_bytes - 2), "reference");
  // The first record: x_in, layer 0, position 0.
  const std::size_t first = 32 + route_bytes;
  std::uint64_t hash_lo = 0;
  std::memcpy(&hash_lo, bytes.data() + first, 8);
  EXPECT_EQ(hash_lo, make_capture('a', 2).records.front().print.hash.lo);
  EXPECT_EQ(word(first + 64), 16u);   // count
  EXPECT_EQ(word(first + 88), 100u);  // token_id
}

TEST(CaptureStore, RefusesTornAndHostileFiles) {
  const TempDir dir;
  write_capture_dir(dir / "c", make_capture('a', 2));
  const fs::path records = dir / "c/records.bin", json = dir / "c/capture.json";
  const std::string good = slurp(records), good_json = slurp(json);
  const auto error = [&](const std::string& content) {
    spew(records, content);
    return error_of([&] { read_capture_dir(dir / "c"); });
  };
  EXPECT_EQ(error(good), "");
  EXPECT_NE(error("").find("records.bin"), std::string::npos);
  for (std::size_t cut = 0; cut < good.size(); cut += 97) EXPECT_NE(error(good.substr(0, cut)), "") << cut;
  EXPECT_NE(error(good + "x"), "");
  std::string flipped = good;
  flipped[1000] ^= 1;
  EXPECT_NE(error(flipped).find("altered"), std::string::npos);
  EXPECT_NE(error(with(good, 0, 'g')).find("wanted GRETACAP"), std::string::npos);
  EXPECT_NE(error(with(good, 8, std::uint32_t{1})).find("version 1"), std::string::npos);
  EXPECT_NE(error(with(good, 12, std::uint32_t{0})), "");
  EXPECT_NE(error(with(good, 16, std::uint64_t{1} << 62)).find("4611686018427387904 records"), std::string::npos);
  EXPECT_NE(error(with(good, 16, ~std::uint64_t{0})), "");
  EXPECT_NE(error(with(good, 24, std::uint32_t{2})), "");
  EXPECT_NE(error(with(good, 24, ~std::uint32_t{0})), "");
  EXPECT_NE(error(with(good, 28, ~std::uint32_t{0})), "");
  EXPECT_NE(error(with(good, 32, std::uint16_t{0xffff})), "");  // a route longer than the table
  const std::size_t first = 32 + 2 + 9;
  EXPECT_NE(error(with(good, first + 96, std::uint16_t{1})).find("route"), std::string::npos);
  EXPECT_NE(error(with(good, first + 98, std::uint8_t{200})).find("stage"), std::string::npos);
  EXPECT_NE(error(with(good, first + 99, std::uint8_t{77})).find("dtype"), std::string::npos);
  EXPECT_NE(error(with(good, first + 100, std::uint8_t{255})).find("flags"), std::string::npos);
  EXPECT_NE(error(with(good, first + 80, std::int32_t{-1})).find("layer"), std::string::npos);
  EXPECT_NE(error(with(good, first + 84, std::int32_t{-1})).find("position"), std::string::npos);
  EXPECT_EQ(error(good), "");

  const auto json_error = [&](const std::string& content) {
    spew(json, content);
    return error_of([&] { read_capture_dir(dir / "c"); });
  };
  for (std::size_t cut = 0; cut + 2 < good_json.size(); cut += 29) EXPECT_NE(json_error(good_json.substr(0, cut)), "") << cut;
  for (const char* text : {"{}", "[]", R"({"schema":2,"arm":"a"})", R"({"schema":1,"arm":"c"})",
                           R"({"schema":1,"arm":"a","n_prompt":-1})", R"({"schema":1,"arm":"a","tokens":[1e300]})",
                           R"({"schema":1,"arm":"a","tokens":"x"})", R"({"schema":1,"arm":"a","routes":[]})",
                           R"({"schema":1,"arm":"a","logits":[{"top1_id":"x"}]})", R"({"schema":1,"arm":"a","n_records":3})"})
    EXPECT_NE(json_error(text), "") << text;
  EXPECT_NE(json_error(R"({"schema":1,"arm":"a","n_records":3})").find("capture.json says 3"), std::string::npos);
  fs::remove(json);
  EXPECT_NE(error_of([&] { read_capture_dir(dir / "c"); }).find("capture.json"), std::string::npos);
}

TEST(CaptureStore, DamagedFilesNeverCrash) {
  const TempDir dir;
  write_capture_dir(dir / "c", make_capture('b', 2));
  const std::string good = slurp(dir / "c/records.bin");
  std::mt19937 random(8);
  for (int i = 0; i < 1000; ++i) {
    std::string bytes = good;
    for (auto n = random() % 5 + 1; n > 0; --n)
      bytes[random() % (random() % 2 == 0 ? 60 : bytes.size())] = static_cast<char>(random());
    spew(dir / "c/records.bin", sealed(bytes));
    error_of([&] { read_capture_dir(dir / "c"); });
  }
}

TEST(CaptureStore, RefusesWhatDoesNotFit) {
  const TempDir dir;
  Capture capture = make_capture('a', 2);
  capture.records[3].print.count = std::int64_t{1} << 40;
  EXPECT_NE(error_of([&] { write_capture_dir(dir / "c", capture); }).find("count"), std::string::npos);
}

}  // namespace
}  // namespace greta
