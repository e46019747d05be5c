// greta tokenize, from the command line, on a vocabulary-only file written here byte by byte.
#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/command.h"

namespace greta {
namespace {

using test::CommandResult;

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put_string(std::string& out, const std::string& text) {
  put<std::uint64_t>(out, text.size());
  out += text;
}

/// GGUF v3 without tensors: <unk> <s> </s>, bytes <0x00> to <0xFF> (ids 3 to 258), "a" 259, "_" 260, "_a" 261.
std::string vocabulary_file() {
  std::vector<std::string> tokens{"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> types{2, 3, 3};
  for (const char high : std::string("0123456789ABCDEF")) {
    for (const char low : std::string("0123456789ABCDEF")) {
      tokens.push_back(std::string("<0x") + high + low + ">");
      types.push_back(6);
    }
  }
  for (const char* text : {"a", "\u2581", "\u2581a"}) {
    tokens.emplace_back(text);
    types.push_back(1);
  }
  enum : std::uint32_t { kUint32 = 4, kInt32 = 5, kFloat32 = 6, kString = 8, kArray = 9 };
  std::string out = "GGUF";
  put<std::uint32_t>(out, 3);
  put<std::uint64_t>(out, 0);  // tensors
  put<std::uint64_t>(out, 5);  // keys
  const auto array = [&](const char* key, std::uint32_t type) {
    put_string(out, key);
    put<std::uint32_t>(out, kArray);
    put<std::uint32_t>(out, type);
    put<std::uint64_t>(out, tokens.size());
  };
  put_string(out, "tokenizer.ggml.model");
  put<std::uint32_t>(out, kString);
  put_string(out, "llama");
  array("tokenizer.ggml.tokens", kString);
  for (const std::string& token : tokens) put_string(out, token);
  array("tokenizer.ggml.scores", kFloat32);
  for (std::size_t i = 0; i < tokens.size(); ++i) put<float>(out, -static_cast<float>(i));
  array("tokenizer.ggml.token_type", kInt32);
  for (const std::int32_t type : types) put(out, type);
  put_string(out, "tokenizer.ggml.bos_token_id");
  put<std::uint32_t>(out, kUint32);
  put<std::uint32_t>(out, 1);
  return out;
}

class Tokenize : public testing::Test {
 protected:
  Tokenize() { test::write_file(model(), vocabulary_file()); }
  std::string model() const { return directory_.path() / "vocabulary.gguf"; }
  std::string file(const std::string& name, const std::string& bytes) const {
    test::write_file(directory_.path() / name, bytes);
    return directory_.path() / name;
  }
  CommandResult run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"tokenize", "--model", model()});
    return test::greta(arguments);
  }
  std::string stdout_of(const std::vector<std::string>& arguments) const {
    const CommandResult result = run(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return result.out;
  }
  /// One line on stderr, nothing on stdout, exit 2.
  static void expect_error(const CommandResult& result, const std::string& part) {
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    EXPECT_TRUE(result.err.starts_with("greta: error: ")) << result.err;
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
  }
  test::TemporaryDirectory directory_;
};

TEST_F(Tokenize, ATokenALine) {
  EXPECT_EQ(stdout_of({"--prompt", "a\n\u00E9"}),
            "     1  \"<s>\"\n   261  \" a\"\n    13  \"\\n\"\n   198  \"\\xc3\"\n   172  \"\\xa9\"\n");
}

TEST_F(Tokenize, IdsInALine) {
  EXPECT_EQ(stdout_of({"--prompt", "a a", "--ids"}), "1 261 261\n");
  EXPECT_EQ(stdout_of({"--prompt", "a a", "--ids", "--no-special"}), "261 261\n");
  EXPECT_EQ(stdout_of({"--prompt", "a</s>", "--ids"}), "1 261 2\n");
  EXPECT_EQ(stdout_of({"--prompt", "a</s>", "--ids", "--no-parse-special"}), "1 261 63 50 118 65\n");
}

TEST_F(Tokenize, Json) {
  const auto json = nlohmann::json::parse(stdout_of({"--prompt", "a\u00E9", "--json"}));
  EXPECT_EQ(json["prompt_id"], "prompt");
  EXPECT_EQ(json["n_tokens"], 4);
  EXPECT_EQ(json["tokens"], (std::vector<int>{1, 261, 198, 172}));
  EXPECT_EQ(json["pieces"], (std::vector<std::string>{"<s>", " a", "\uFFFD", "\uFFFD"}));
}

TEST_F(Tokenize, PromptFilesAreTakenWhole) {
  EXPECT_EQ(stdout_of({"--prompt-file", file("p0.txt", std::string("a\0a\n", 4)), "--ids"}), "1 261 3 259 13\n");
  const auto json = nlohmann::json::parse(stdout_of({"--prompt-file", file("p4_sys.txt", "a"), "--json"}));
  EXPECT_EQ(json["prompt_id"], "p4_sys");
}

TEST_F(Tokenize, Decode) {
  EXPECT_EQ(stdout_of({"--decode", "1,261, 261,2"}), "<s>a a</s>\n");
  EXPECT_EQ(stdout_of({"--decode", "1 261 261 2", "--no-special"}), "a a\n");
  EXPECT_EQ(stdout_of({"--decode", "198"}), "\uFFFD\n");
  EXPECT_EQ(nlohmann::json::parse(stdout_of({"--decode", "261", "--json"}))["text"], "a");
}

TEST_F(Tokenize, BadInputIsOneLine) {
  expect_error(run({}), "tokenize needs one of --prompt TEXT, --prompt-file F and --decode IDS");
  expect_error(run({"--prompt", "a", "--decode", "1"}), "tokenize needs one of");
  expect_error(run({"--prompt", ""}), "empty");
  expect_error(run({"--prompt", "a\xFF"}), "at byte 1");
  expect_error(run({"--prompt-file", file("empty.txt", "")}), "empty");
  expect_error(run({"--prompt-file", file("bad.txt", "ab\xC3")}), "at byte 2");
  expect_error(run({"--prompt-file", directory_.path() / "none.txt"}), "none.txt");
  expect_error(run({"--prompt-file", directory_.path()}), directory_.path().filename());
  expect_error(run({"--decode", "1,x"}), "'x' is not a token id");
  expect_error(run({"--decode", ","}), "no ids");
  expect_error(run({"--decode", "262"}), "token id 262 is not in the vocabulary, wanted 0 to 261");
  expect_error(run({"--decode", "-1"}), "token id -1");
  expect_error(run({"--decode", "99999999999"}), "'99999999999' is not a token id");
  expect_error(test::greta({"tokenize", "--model", file("torn.gguf", vocabulary_file().substr(0, 999)), "--prompt", "a"}),
               "torn.gguf");
  expect_error(test::greta({"tokenize", "--model", directory_.path() / "none.gguf", "--prompt", "a"}), "none.gguf");
}

TEST_F(Tokenize, WithoutAModelTheDemoModelOfItsDirectory) {
  file("greta-demo.gguf", vocabulary_file());
  const CommandResult result =
      test::greta({"tokenize", "--prompt", "a", "--ids"}, {"GRETA_MODEL_DIR=" + directory_.path().string()});
  EXPECT_EQ(result.out, "1 261\n") << result.err;
}

}  // namespace
}  // namespace greta
