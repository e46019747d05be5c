// Vocabularies that nobody should trust: every inconsistency is one line that names file and key.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "tests/model/tokenizer_support.h"

namespace greta {
namespace {

std::string error_of(const TokenizerData& data) {
  try {
    make_tokenizer(data);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TestVocabulary spm() {
  TestVocabulary v;
  v.add("<unk>", 0, kUnknown);
  v.add("<s>", 0, kControl);
  v.add("</s>", 0, kControl);
  v.add("<0x41>", 0, kByte);
  v.add("a");
  return v;
}

TestVocabulary gpt2() {
  TestVocabulary v;
  v.data.model = "gpt2";
  v.add("a"), v.add("b"), v.add("ab");
  v.merges = {"a b"};
  return v;
}

TEST(VocabularyErrors, TheHealthyOnesLoad) {
  EXPECT_EQ(error_of(spm().view()), "no error");
  EXPECT_EQ(error_of(gpt2().view()), "no error");
  EXPECT_EQ(spm().make()->vocab_size(), 5);
  EXPECT_EQ(spm().make()->bos(), 1);
  EXPECT_EQ(gpt2().make()->bos(), -1);
  EXPECT_FALSE(gpt2().make()->add_bos());
}

TEST(VocabularyErrors, UnknownModels) {
  auto v = spm();
  v.data.model = "bert\n";
  EXPECT_EQ(error_of(v.view()), "test.gguf: tokenizer 'bert\\x0a' is not known; known: llama, gpt2");
  auto data = spm().view();
  data.model.reset();
  EXPECT_EQ(error_of(data),
            "test.gguf: key 'tokenizer.ggml.model' is missing: the file has no tokenizer; convert the model again with it");
}

TEST(VocabularyErrors, MissingArrays) {
  auto v = spm();
  auto data = v.view();
  data.tokens = nullptr;
  EXPECT_EQ(error_of(data),
            "test.gguf: key 'tokenizer.ggml.tokens' is missing: the file has no vocabulary; convert the model again with it");
  data = v.view();
  data.scores = nullptr;
  EXPECT_EQ(error_of(data),
            "test.gguf: key 'tokenizer.ggml.scores' is missing: tokenizer 'llama' merges by scores; convert the model again");
  data = v.view();
  data.token_types = nullptr;
  EXPECT_EQ(error_of(data),
            "test.gguf: key 'tokenizer.ggml.token_type' is missing: special tokens cannot be told from text; "
            "convert the model again");
  auto g = gpt2();
  data = g.view();
  data.merges = nullptr;
  EXPECT_EQ(error_of(data),
            "test.gguf: key 'tokenizer.ggml.merges' is missing: tokenizer 'gpt2' merges by it; convert the model again");
  data = g.view();
  data.scores = nullptr;  // no use for them
  EXPECT_EQ(error_of(data), "no error");
  data = g.view();
  data.pre.reset();
  EXPECT_EQ(error_of(data),
            "test.gguf: key 'tokenizer.ggml.pre' is missing: how the text is cut into words is not known; "
            "convert the model again");
}

TEST(VocabularyErrors, LengthsThatDiffer) {
  auto v = spm();
  v.scores.pop_back();
  EXPECT_EQ(error_of(v.view()), "test.gguf: 'tokenizer.ggml.scores' has 4 entries, 'tokenizer.ggml.tokens' 5");
  v = spm();
  v.types.push_back(1);
  EXPECT_EQ(error_of(v.view()), "test.gguf: 'tokenizer.ggml.token_type' has 6 entries, 'tokenizer.ggml.tokens' 5");
  v = TestVocabulary();
  EXPECT_EQ(error_of(v.view()), "test.gguf: 'tokenizer.ggml.tokens' has 0 entries, wanted 1 to 16777216");
}

TEST(VocabularyErrors, ImpossibleEntries) {
  auto v = spm();
  v.add("a");
  EXPECT_EQ(error_of(v.view()), "test.gguf: tokens 4 and 5 have the same text 'a'");
  v = spm();
  v.scores[4] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(error_of(v.view()), "test.gguf: 'tokenizer.ggml.scores' of token 4 is NaN, wanted a number");
  for (const std::int64_t type : {std::int64_t{-1}, std::int64_t{7}, std::int64_t{1} << 62}) {
    v = spm();
    v.types[4] = type;
    EXPECT_EQ(error_of(v.view()), fmt::format("test.gguf: 'tokenizer.ggml.token_type' of token 4 is {}, wanted 0 to 6", type));
  }
  v = spm();
  v.tokens[3] = "<0xG1>";
  EXPECT_EQ(error_of(v.view()), "test.gguf: token 3 is a byte token with text '<0xG1>', wanted '<0x00>' to '<0xFF>'");
  v = spm();
  v.add("<0x4a>", 0, kByte);
  v.add("<0x4A>", 0, kByte);
  EXPECT_EQ(error_of(v.view()), "test.gguf: tokens 5 and 6 stand for the same byte '<0x4A>'");
  v = spm();
  v.add(std::string(1 << 20, 'x'));
  EXPECT_EQ(error_of(v.view()), "test.gguf: token 5 has 1048576 bytes, wanted at most 65536; the file is damaged");
}

TEST(VocabularyErrors, TokensWithoutTextAreNeverFound) {
  auto v = spm();
  v.add(""), v.add("", 0, kControl), v.add("", 0, kUserDefined);
  v.data.add_space_prefix = false;
  const auto t = v.make();
  EXPECT_EQ(t->encode("aa", false, true), (std::vector<TokenId>{4, 4}));
  EXPECT_EQ(t->decode({4, 5, 4}), "aa");
}

TEST(VocabularyErrors, IdsPastTheEnd) {
  const auto with = [](auto set) {
    auto v = spm();
    set(v.data);
    return error_of(v.view());
  };
  EXPECT_EQ(with([](auto& d) { d.bos = 5; }), "test.gguf: 'tokenizer.ggml.bos_token_id' is 5, wanted 0 to 4");
  EXPECT_EQ(with([](auto& d) { d.eos = -1; }), "test.gguf: 'tokenizer.ggml.eos_token_id' is -1, wanted 0 to 4");
  EXPECT_EQ(with([](auto& d) { d.unknown = std::int64_t{1} << 32; }),
            "test.gguf: 'tokenizer.ggml.unknown_token_id' is 4294967296, wanted 0 to 4");
  EXPECT_EQ(with([](auto& d) { d.eot = 99; }), "test.gguf: 'tokenizer.ggml.eot_token_id' is 99, wanted 0 to 4");
  EXPECT_EQ(with([](auto& d) { d.eom = 99; }), "test.gguf: 'tokenizer.ggml.eom_token_id' is 99, wanted 0 to 4");
}

TEST(VocabularyErrors, BosOrEosToAddButNotThere) {
  auto v = gpt2();
  v.data.add_bos = true;
  EXPECT_EQ(error_of(v.view()),
            "test.gguf: 'tokenizer.ggml.add_bos_token' is true, but 'tokenizer.ggml.bos_token_id' is missing");
  v.data.add_bos = false;
  v.data.add_eos = true;
  EXPECT_EQ(error_of(v.view()),
            "test.gguf: 'tokenizer.ggml.add_eos_token' is true, but 'tokenizer.ggml.eos_token_id' is missing");
}

TEST(VocabularyErrors, MalformedMerges) {
  for (const char* merge : {"", "ab", " b", "a ", "a  b", "a b c"}) {
    auto v = gpt2();
    v.merges.emplace_back(merge);
    EXPECT_EQ(
        error_of(v.view()),
        fmt::format("test.gguf: 'tokenizer.ggml.merges' entry 1 is '{}', wanted two symbols with one space between", merge));
  }
}

TEST(VocabularyErrors, MergesOfWhatIsNoToken) {
  for (const auto& [merge, missing] : {std::pair("a zz", "zz"), std::pair("zz a", "zz"), std::pair("a a", "aa")}) {
    auto v = gpt2();
    v.merges.emplace_back(merge);
    EXPECT_EQ(error_of(v.view()), fmt::format("test.gguf: 'tokenizer.ggml.merges' entry 1 is '{}', but '{}' is not a token; "
                                              "the file is damaged", merge, missing));
  }
}

}  // namespace
}  // namespace greta
