#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/config.h"
#include "model/gguf.h"
#include "model/weights.h"
#include "tests/support/command.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

using test::expect_error;
using test::GgufBytes;

/// `small_llama` in three parts: metadata in the first alone, tensors dealt in turn.
class GgufSplit : public testing::Test {
 protected:
  GgufSplit() : parts_(3) {
    GgufBytes whole = test::small_llama();
    parts_[0].values = whole.values;
    for (std::size_t i = 0; i < whole.tensors.size(); ++i) parts_[i % 3].tensors.push_back(whole.tensors[i]);
    for (std::uint16_t i = 0; i < 3; ++i) {
      parts_[i].u16("split.no", i).u16("split.count", 3);
      parts_[i].i32("split.tensors.count", static_cast<std::int32_t>(whole.tensors.size()));
    }
  }
  std::filesystem::path part(int i) const { return directory_.path() / fmt::format("small-0000{}-of-00003.gguf", i + 1); }
  void write() const {
    for (int i = 0; i < 3; ++i) test::write_file(part(i), parts_[static_cast<std::size_t>(i)].build());
  }
  test::TemporaryDirectory directory_;
  std::vector<GgufBytes> parts_;
};

TEST_F(GgufSplit, PartsMakeOneModel) {
  write();
  const auto split = Gguf::open(part(0));
  const auto whole_path = directory_.path() / "whole.gguf";
  test::write_file(whole_path, test::small_llama().build());
  const auto whole = Gguf::open(whole_path);
  ASSERT_EQ(split->tensors().size(), whole->tensors().size());
  for (const auto& tensor : whole->tensors()) {
    const GgufTensor* same = split->find_tensor(tensor.name);
    ASSERT_NE(same, nullptr) << tensor.name;
    EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(same->data), same->bytes),
              std::string_view(reinterpret_cast<const char*>(tensor.data), tensor.bytes));
  }
  EXPECT_EQ(split->find_tensor("blk.0.attn_q.weight")->part, 2);
  const ModelConfig config = read_config(*split);
  EXPECT_EQ(config.d_model, 8);
  EXPECT_EQ(load_weights(*split, config).layers.size(), 2u);
}

TEST_F(GgufSplit, HashCoversEveryPart) {
  write();
  const auto hash = Gguf::open(part(0))->content_hash();
  parts_[2].tensors.back().data[0] ^= 1;
  write();
  EXPECT_NE(Gguf::open(part(0))->content_hash(), hash);
}

TEST_F(GgufSplit, PartsMayDifferInAlignment) {
  parts_[1].alignment = 256;
  parts_[1].u32("general.alignment", 256);
  write();
  EXPECT_EQ(load_weights(*Gguf::open(part(0)), read_config(*Gguf::open(part(0)))).layers.size(), 2u);
}

TEST_F(GgufSplit, OneOfOneIsASingleFile) {
  GgufBytes file = test::small_llama();
  file.u16("split.no", 0).u16("split.count", 1);
  test::write_file(directory_.path() / "any-name.gguf", file.build());
  EXPECT_EQ(Gguf::open(directory_.path() / "any-name.gguf")->tensors().size(), file.tensors.size());
}

TEST_F(GgufSplit, AnotherPartThanTheFirstNamesTheFirst) {
  write();
  expect_error([&] { Gguf::open(part(1)); }, {"part 2 of 3", "'small-00001-of-00003.gguf'"});
}

TEST_F(GgufSplit, AMissingPartIsNamed) {
  write();
  std::filesystem::remove(part(2));
  expect_error([&] { Gguf::open(part(0)); }, {"small-00003-of-00003.gguf", "No such file"});
}

TEST_F(GgufSplit, ADamagedPartIsNamed) {
  write();
  test::write_file(part(1), parts_[1].build().substr(0, 100));
  expect_error([&] { Gguf::open(part(0)); }, {"small-00002-of-00003.gguf: offset"});
}

TEST_F(GgufSplit, ARenamedFirstPartIsRefused) {
  write();
  const auto renamed = directory_.path() / "model.gguf";
  std::filesystem::rename(part(0), renamed);
  expect_error([&] { Gguf::open(renamed); }, {"model.gguf", "'-00001-of-00003.gguf'"});
}

TEST_F(GgufSplit, PartsInWrongPlaces) {
  std::swap(parts_[1], parts_[2]);
  write();
  expect_error([&] { Gguf::open(part(0)); }, {"small-00002-of-00003.gguf", "split.no 2", "wanted 1 and 3"});
}

TEST_F(GgufSplit, PartsOfAnotherModel) {
  parts_[1].u16("split.count", 4);
  write();
  expect_error([&] { Gguf::open(part(0)); }, {"small-00002-of-00003.gguf", "split.count 4", "wanted 1 and 3"});
  parts_[1].without("split.no").without("split.count");
  write();
  expect_error([&] { Gguf::open(part(0)); }, {"small-00002-of-00003.gguf", "split.no -1"});
}

TEST_F(GgufSplit, ATensorInTwoParts) {
  parts_[1].tensors.push_back(parts_[0].tensors[0]);
  parts_[0].without("split.tensors.count");
  write();
  expect_error([&] { Gguf::open(part(0)); }, {"'token_embd.weight'", "parts 1 and 2"});
}

TEST_F(GgufSplit, TensorsThatAreMissing) {
  parts_[1].tensors.pop_back();
  write();
  expect_error([&] { Gguf::open(part(0)); }, {"hold 20 tensors", "wants 21"});
}

TEST_F(GgufSplit, CountsThatAreImpossible) {
  parts_[0].u32("split.count", 70000);
  write();
  expect_error([&] { Gguf::open(part(0)); }, {"split.count is 70000", "at most 65535"});
  parts_[0].i32("split.count", -3);
  write();
  expect_error([&] { Gguf::open(part(0)); }, {"'split.count'", "not an integer of 0 to"});
  parts_[0].u64("split.count", std::uint64_t{1} << 62);
  write();
  expect_error([&] { Gguf::open(part(0)); }, {"'split.count'", "not an integer of 0 to"});
  parts_[0].string("split.count", "3");
  write();
  expect_error([&] { Gguf::open(part(0)); }, {"'split.count'", "not an integer of 0 to"});
}

}  // namespace
}  // namespace greta
