// --chat, from the command line: the demo model's own template, files with other templates, experiments with chats.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/command.h"
#include "tests/support/gguf_bytes.h"

namespace greta::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* kDemo = GRETA_SOURCE_DIR "/models/greta-demo.gguf";
// By hand, from the template in the demo model: what the user says, and after a system turn.
constexpr const char* kTurn =
    "<|start_header_id|>user<|end_header_id|>\n\nDefine love<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
constexpr const char* kSystem = "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>";

std::string ids_of(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"tokenize", "--model", kDemo, "--ids"});
  const CommandResult result = greta(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  return result.out;
}

void expect_refused(const CommandResult& result, const std::string& what) {
  EXPECT_EQ(result.exit_code, 2) << result.out;
  EXPECT_THAT(result.err, StartsWith("greta: error: "));
  EXPECT_THAT(result.err, HasSubstr(what));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

/// A vocabulary-only file: bytes from id 0, then `specials`.
std::string vocabulary(const std::vector<std::string>& specials, const std::string* jinja) {
  GgufBytes file;
  file.string("general.architecture", "llama").string("tokenizer.ggml.model", "llama");
  std::vector<std::string> tokens;
  for (const char high : std::string("0123456789ABCDEF"))
    for (const char low : std::string("0123456789ABCDEF")) tokens.push_back(std::string("<0x") + high + low + ">");
  std::vector<std::int32_t> types(256, 6);
  tokens.insert(tokens.end(), specials.begin(), specials.end());
  types.resize(tokens.size(), 3);
  file.strings("tokenizer.ggml.tokens", tokens).i32s("tokenizer.ggml.token_type", types);
  file.f32s("tokenizer.ggml.scores", std::vector<float>(tokens.size(), 0));
  file.boolean("tokenizer.ggml.add_space_prefix", 0);
  if (jinja != nullptr) file.string("tokenizer.chat_template", *jinja);
  return file.build();
}

TEST(Chat, TokenizeWritesTheDemoModelsTemplate) {
  EXPECT_EQ(ids_of({"--chat", "--prompt", "Define love"}), ids_of({"--prompt", kTurn}));
  EXPECT_EQ(ids_of({"--chat", "--prompt", " Define love\n", "--system", "Be brief."}),
            ids_of({"--prompt", std::string(kSystem) + kTurn}));
  EXPECT_THAT(ids_of({"--chat", "--prompt", "Define love"}), StartsWith("4091 4093 "));  // BOS once
}

TEST(Chat, RunAnswersAndStopsAtTheEndOfTheTurn) {
  const auto run = [](std::vector<std::string> extra) {
    extra.insert(extra.begin(), {"run", "--model", kDemo, "--greedy", "--max-tokens", "48", "--json"});
    const CommandResult result = greta(extra);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return nlohmann::json::parse(result.out);
  };
  const auto chat = run({"--chat", "--prompt", "Define love"}), by_hand = run({"--prompt", kTurn});
  EXPECT_EQ(chat["tokens"], by_hand["tokens"]);
  EXPECT_EQ(chat["prompt_tokens"], by_hand["prompt_tokens"]);
  EXPECT_FALSE(chat["tokens"].empty());
  for (const auto& token : chat["tokens"]) EXPECT_NE(token, 4095);  // <|eot_id|> ends, and is not part of the answer
}

TEST(Chat, IsolateTakesChatsFromTheCommandLineAndFromExperiments) {
  const TemporaryDirectory directory;
  const std::string experiment = directory.path() / "x.toml";
  write_file(
      experiment,
      "id = \"x\"\nlayers = [0]\n[[prompts]]\nid = \"prompt\"\ntext = \"Define love\"\nchat = true\nsystem = \"Be brief.\"\n");
  const auto tokens = [&](std::vector<std::string> arguments, const std::string& out) {
    arguments.insert(arguments.begin(), {"isolate"});
    arguments.insert(arguments.end(), {"--model", kDemo, "--out", directory.path() / out});
    const CommandResult result = greta(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory.path() / out)) {
      if (entry.path().extension() != ".jsonl") continue;
      std::istringstream in(read_file(entry.path()));
      std::string line;
      std::getline(in, line);
      const auto header = nlohmann::json::parse(line);
      std::string ids;
      for (int i = 0; i < header["n_prompt"].get<int>(); ++i) ids += (i > 0 ? " " : "") + header["tokens"][i].dump();
      return ids + "\n";
    }
    return std::string("no trace");
  };
  EXPECT_EQ(tokens({"--prompt", "Define love", "--chat", "--system", "Be brief.", "--layers", "0"}, "a"),
            ids_of({"--prompt", std::string(kSystem) + kTurn}));
  EXPECT_EQ(tokens({experiment}, "b"), ids_of({"--prompt", std::string(kSystem) + kTurn}));
}

TEST(Chat, OtherFiles) {
  const TemporaryDirectory directory;
  const auto tokenize = [&](const std::string& bytes, std::vector<std::string> extra) {
    write_file(directory.path() / "m.gguf", bytes);
    extra.insert(extra.begin(), {"tokenize", "--model", directory.path() / "m.gguf", "--ids", "--prompt", "a"});
    return greta(extra);
  };
  const std::vector<std::string> gemma{"<start_of_turn>", "<end_of_turn>"};
  const std::string turn = "256 117 115 101 114 10 97 257 10 256 109 111 100 101 108 10\n";  // user\na, model\n
  const CommandResult by_vocabulary = tokenize(vocabulary(gemma, nullptr), {"--chat"});
  EXPECT_EQ(by_vocabulary.out, turn);
  EXPECT_THAT(by_vocabulary.err, HasSubstr("has no chat template; its special tokens are those of gemma"));

  const std::string refuses = "<start_of_turn><end_of_turn>{{ raise_exception('System role not supported') }}";
  const CommandResult refused = tokenize(vocabulary(gemma, &refuses), {"--chat", "--system", "b"});
  EXPECT_EQ(refused.out, "256 117 115 101 114 10 98 10 10 97 257 10 256 109 111 100 101 108 10\n");
  EXPECT_THAT(refused.err, HasSubstr("takes no system turn"));

  const std::string unknown = "[INST]\xFF\n";
  expect_refused(tokenize(vocabulary(gemma, &unknown), {"--chat"}),
                 "m.gguf: chat template \"[INST]\\xff\\n\" is not known; known: llama3, chatml, gemma");
  EXPECT_EQ(tokenize(vocabulary(gemma, &unknown), {"--chat", "--chat-template", "gemma"}).out, turn);
  expect_refused(tokenize(vocabulary({}, nullptr), {"--chat"}), "has no chat template");
  const CommandResult text = tokenize(vocabulary({}, nullptr), {"--chat", "--chat-template", "chatml"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.err, HasSubstr("plain text to this vocabulary: <|im_start|> <|im_end|>\n"));
}

TEST(ChatBadInput, OptionsThatDoNotGoTogether) {
  const auto tokenize = [](std::vector<std::string> extra) {
    extra.insert(extra.begin(), {"tokenize", "--model", kDemo});
    return greta(extra);
  };
  expect_refused(tokenize({"--prompt", "a", "--system", "b"}), "add --chat");
  expect_refused(tokenize({"--prompt", "a", "--chat-template", "gemma"}), "needs --chat");
  expect_refused(tokenize({"--prompt", "a", "--chat", "--chat-template", "Gemma"}),
                 "'Gemma' is not known; known: llama3, chatml, gemma");
  expect_refused(tokenize({"--prompt", "a", "--chat", "--system", "\xFF"}), "not UTF-8 at byte 0");
  expect_refused(tokenize({"--decode", "1", "--chat"}), "leave out --decode");
  expect_refused(tokenize({"--prompt", "a", "--chat", "--no-parse-special"}), "--no-parse-special");
  expect_refused(greta({"run", "--model", kDemo, "--prompt", "a", "--system", "b"}), "add --chat");
  expect_refused(greta({"isolate", "--model", kDemo, "--chat"}), "write chat = true");
}

TEST(ChatBadInput, AHundredMegabytesOfTemplate) {
  const TemporaryDirectory directory;
  const std::string jinja = "<start_of_turn><end_of_turn>" + std::string(100 << 20, '<');
  write_file(directory.path() / "m.gguf", vocabulary({"<start_of_turn>", "<end_of_turn>"}, &jinja));
  const CommandResult result = greta({"tokenize", "--model", directory.path() / "m.gguf", "--chat", "--prompt", "a"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1);
  EXPECT_LT(result.err.size(), 600u);
}

TEST(Chat, ModelsInfoNamesWhatIsRecognised) {
  const CommandResult demo = greta({"models", "info", kDemo});
  EXPECT_THAT(demo.out, HasSubstr("tokenizer 'gpt2', pre-tokeniser 'llama-bpe' (llama-bpe), chat template llama3\n"));
  const auto json = nlohmann::json::parse(greta({"models", "info", kDemo, "--json"}).out);
  EXPECT_EQ(json["tokenizer"]["pretokenizer"], "llama-bpe");
  EXPECT_EQ(json["tokenizer"]["chat_template"], "llama3");
  const TemporaryDirectory directory;
  const std::string unknown = "[INST]";
  write_file(directory.path() / "m.gguf", vocabulary({}, &unknown));
  EXPECT_THAT(greta({"models", "info", directory.path() / "m.gguf"}).out,
              HasSubstr("tokenizer 'llama', chat template not known: \"[INST]\"\n"));
}

}  // namespace
}  // namespace greta::test
