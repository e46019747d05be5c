// Real vocabularies against published cases and another engine's token ids (optional external fixtures).
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/utf8.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "tests/model/tokenizer_support.h"

namespace greta {
namespace {

namespace fs = std::filesystem;
const fs::path kFixtures = GRETA_FIXTURES;

bool is_there(const fs::path& path) {
  if (fs::exists(path)) return true;
  std::printf("no fixture %s: passed over\n", path.c_str());
  return false;
}

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find(separator, begin)) != std::string::npos; begin = end + separator.size()) {
    parts.push_back(text.substr(begin, end - begin));
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::unique_ptr<const Tokenizer> open(const fs::path& path) { return Tokenizer::from_gguf(*Gguf::open(path)); }

class VocabularyFixture : public testing::TestWithParam<const char*> {
 protected:
  fs::path path() const { return kFixtures / "tokenizers" / GetParam(); }
};

TEST_P(VocabularyFixture, PublishedCases) {
  if (!is_there(path())) return;
  const auto tokenizer = open(path());
  std::vector<std::string> cases = split(read(path().string() + ".inp"), "\n__ggml_vocab_test__\n");
  ASSERT_EQ(cases.back(), "");  // the separator ends every case
  cases.pop_back();
  const std::vector<std::string> lines = split(read(path().string() + ".out"), "\n");
  ASSERT_GE(lines.size(), cases.size());
  ASSERT_EQ(cases.size(), 46u);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    std::istringstream in(lines[i]);
    const std::vector<TokenId> want{std::istream_iterator<TokenId>(in), {}};
    const std::vector<TokenId> ids = tokenizer->encode(cases[i], false, false);
    EXPECT_EQ(ids, want) << "case " << i << ": " << cases[i];
    EXPECT_EQ(tokenizer->decode(ids), cases[i]);
  }
}

TEST_P(VocabularyFixture, RandomTextsComeBackWhole) {
  if (!is_there(path())) return;
  const auto tokenizer = open(path());
  EXPECT_TRUE(rc::check("decode(encode(text)) == text", [&](bool parse_special) {
    // U+2581 is how the SentencePiece vocabularies write a space: it comes back as one.
    const std::string text = *utf8_text({U'\u2581'});
    RC_ASSERT(tokenizer->decode(tokenizer->encode(text, true, parse_special)) == text);
  }));
}

TEST_P(VocabularyFixture, StreamedTextIsTheWholeText) {
  if (!is_there(path())) return;
  const auto tokenizer = open(path());
  EXPECT_TRUE(rc::check("pushed parts are UTF-8 and add up", [&] {
    const auto ids = *rc::gen::container<std::vector<TokenId>>(rc::gen::inRange<TokenId>(0, tokenizer->vocab_size()));
    StreamDecoder decoder(*tokenizer);
    std::string text;
    for (const TokenId id : ids) {
      const std::string part = decoder.push(id);
      RC_ASSERT(!first_invalid_utf8(part));
      text += part;
    }
    text += decoder.finish();
    RC_ASSERT(text == tokenizer->decode(ids));
    RC_ASSERT(!first_invalid_utf8(text));
  }));
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, VocabularyFixture,
                         testing::Values("ggml-vocab-llama-bpe.gguf", "ggml-vocab-llama-spm.gguf"), [](const auto& chosen) {
                           return std::string(chosen.param).find("bpe") != std::string::npos ? "bpe" : "spm";
                         });

TEST(TokenizerFixtures, PromptsOfTheReferenceRuns) {
  const fs::path list = kFixtures / "reference" / "logits.json";
  if (!is_there(list)) return;
  std::map<std::string, std::unique_ptr<const Tokenizer>> tokenizers;
  int checked = 0;
  for (const auto& run : nlohmann::json::parse(read(list))) {
    const auto model = run["model"].get<std::string>();
    if (!tokenizers.contains(model)) tokenizers[model] = open(kFixtures / "models" / model);
    EXPECT_EQ(tokenizers[model]->encode(run["prompt"].get<std::string>(), true, true),
              run["tokens"].get<std::vector<TokenId>>())
        << model << " " << run["prompt_id"];
    ++checked;
  }
  EXPECT_EQ(checked, 12);
}

TEST(TokenizerFixtures, Llama3ChatTemplate) {
  const fs::path path = kFixtures / "tokenizers" / "ggml-vocab-llama-bpe.gguf";
  if (!is_there(path)) return;
  const auto tokenizer = open(path);
  EXPECT_EQ(tokenizer->bos(), 128000);
  EXPECT_EQ(tokenizer->eos(), 128001);
  EXPECT_TRUE(tokenizer->add_bos());
  EXPECT_TRUE(tokenizer->ends_generation(128001));  // <|end_of_text|>
  EXPECT_TRUE(tokenizer->ends_generation(128009));  // <|eot_id|>, by its name
  EXPECT_FALSE(tokenizer->ends_generation(128006));
  const std::string chat = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHello world<|eot_id|>";
  const std::vector<TokenId> ids{128000, 128006, 882, 128007, 271, 9906, 1917, 128009};
  EXPECT_EQ(tokenizer->encode(chat, true, true), ids);  // BOS once
  EXPECT_EQ(tokenizer->decode(ids, true), chat);
  EXPECT_EQ(tokenizer->decode(ids), "user\n\nHello world");
  const std::vector<TokenId> plain = tokenizer->encode("<|eot_id|>", false, false);
  EXPECT_GT(plain.size(), 1u);
  EXPECT_EQ(tokenizer->decode(plain), "<|eot_id|>");
}

}  // namespace
}  // namespace greta
