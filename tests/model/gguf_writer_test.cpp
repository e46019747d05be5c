#include "model/gguf_writer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "tests/support/command.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

using test::expect_error;

class Writer : public testing::Test {
 protected:
  static std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }
  test::TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_.path() / "w.gguf";
  std::filesystem::path incomplete_ = directory_.path() / "w.gguf.incomplete";
};

TEST_F(Writer, BytesAreThoseOfTheFormat) {
  // The same file by the tests' own byte-builder.
  test::GgufBytes expected;
  expected.u32("u", 7).f32("f", 0.5f).boolean("b", 1).string("s", "text").strings("ss", {"a", ""}).i32s("is", {-1, 2});
  expected.f32_tensor("first", {3}, {1, 2, 3});
  expected.tensor("second", {32, 2}, 8, std::string(68, 'q'));
  expected.tensor("third", {2}, 1, "abcd");
  GgufWriter writer(path_, false);
  writer.set("u", 7u);
  writer.set("f", 0.5f);
  writer.set("b", true);
  writer.set("s", "text");
  const std::vector<std::string> strings{"a", ""};
  writer.set("ss", std::span<const std::string>(strings));
  const std::vector<std::int32_t> integers{-1, 2};
  writer.set("is", std::span<const std::int32_t>(integers));
  const auto first = writer.add_tensor("first", DType::f32, {3});
  const auto second = writer.add_tensor("second", DType::q8_0, {32, 2});
  const auto third = writer.add_tensor("third", DType::f16, {2});
  EXPECT_EQ(writer.data_bytes(), 32u + 96u + 32u);
  writer.begin_data();
  writer.write(third, 0, bytes_of("abcd"));  // in any order, in pieces
  writer.write(second, 34, bytes_of(std::string(34, 'q')));
  writer.write(second, 0, bytes_of(std::string(34, 'q')));
  writer.write(first, 0, bytes_of(test::raw_values<float>({1, 2, 3})));
  EXPECT_FALSE(std::filesystem::exists(path_));
  writer.finish();
  EXPECT_EQ(test::read_file(path_), expected.build());
  EXPECT_FALSE(std::filesystem::exists(incomplete_));
}

TEST_F(Writer, AnUnfinishedFileLeavesNothing) {
  {
    GgufWriter writer(path_, false);
    writer.add_tensor("t", DType::f32, {1});
    writer.begin_data();
    EXPECT_TRUE(std::filesystem::exists(incomplete_));
    expect_error([&] { writer.finish(); }, {"0 bytes", "wanted 4"});
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
}

TEST_F(Writer, AnExistingFileIsReplacedOnlyWhenTold) {
  test::write_file(path_, "old");
  expect_error([&] { GgufWriter(path_, false); }, {"w.gguf", "exists already", "--force"});
  EXPECT_EQ(test::read_file(path_), "old");
  { GgufWriter abandoned(path_, true); }
  EXPECT_EQ(test::read_file(path_), "old");
  GgufWriter writer(path_, true);
  writer.finish();
  EXPECT_EQ(test::read_file(path_), test::GgufBytes().build() + std::string(8, '\0'));
}

TEST_F(Writer, AFileThatAppearsMeanwhileIsKept) {
  GgufWriter writer(path_, false);
  test::write_file(path_, "other");
  expect_error([&] { writer.finish(); }, {"exists by now"});
  EXPECT_EQ(test::read_file(path_), "other");
}

TEST_F(Writer, TwoWritersOfOneFile) {
  GgufWriter writer(path_, false);
  expect_error([&] { GgufWriter(path_, false); }, {"w.gguf", "another process"});
  writer.finish();
  EXPECT_EQ(Gguf::open(path_)->version(), 3u);
}

TEST_F(Writer, ARemainderOfAKilledWriterIsNoObstacle) {
  test::write_file(incomplete_, std::string(5000, 'x'));
  GgufWriter writer(path_, false);
  const auto t = writer.add_tensor("t", DType::f32, {1});
  writer.begin_data();
  writer.write(t, 0, bytes_of("abcd"));
  writer.finish();
  test::GgufBytes expected;
  expected.tensor("t", {1}, 0, "abcd");
  EXPECT_EQ(test::read_file(path_), expected.build());  // nothing of it in the padding either
}

TEST_F(Writer, PlacesThatCannotBeWritten) {
  expect_error([&] { GgufWriter(directory_.path() / "absent" / "w.gguf", false); }, {"absent", "cannot be created"});
  expect_error([&] { GgufWriter(directory_.path(), true); }, {"is a directory"});
}

TEST_F(Writer, MisuseIsAnError) {
  GgufWriter writer(path_, false);
  expect_error([&] { writer.add_tensor("t", DType::q8_0, {33}); }, {"'t'", "33", "multiple of 32"});
  const auto t = writer.add_tensor("t", DType::f32, {2});
  writer.begin_data();
  expect_error([&] { writer.write(t, 4, bytes_of("12345678")); }, {"'t'", "8 bytes at 4", "end at 8"});
  expect_error([&] { writer.set("late", 1u); }, {"'late'", "after the tensor table"});
  expect_error([&] { writer.add_tensor("late", DType::f32, {2}); }, {"'late'", "after the tensor table"});
}

/// A limit on the size of files stands for a full disk: the same calls fail, with another errno.
TEST_F(Writer, NoSpaceIsAnErrorAndLeavesNothing) {
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1 << 16, old.rlim_max};
  {
    GgufWriter writer(path_, false);
    writer.add_tensor("t", DType::f32, {1 << 20});
    setrlimit(RLIMIT_FSIZE, &small);
    expect_error([&] { writer.begin_data(); }, {"w.gguf.incomplete", "bytes", "too large"});
    setrlimit(RLIMIT_FSIZE, &old);
  }
  std::signal(SIGXFSZ, old_handler);
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
}

}  // namespace
}  // namespace greta
