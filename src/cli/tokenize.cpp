// `greta tokenize`: what a model's tokenizer makes of a text, or of ids. Reads the vocabulary only, no weights.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cli/chat_flags.h"
#include "cli/defaults.h"
#include "cli/prompts.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "core/escape.h"
#include "core/quote.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

namespace greta::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string model;
  std::vector<std::string> prompts, files;  // one in all
  std::string decode;
  bool ids = false, json = false, no_special = false, no_parse_special = false;
  ChatFlags chat;
};

/// Ids between commas or blanks.
std::vector<TokenId> parse_ids(std::string_view text) {
  constexpr std::string_view kBetween = ", \t\r\n";
  std::vector<TokenId> ids;
  for (std::size_t i = text.find_first_not_of(kBetween); i != text.npos; i = text.find_first_not_of(kBetween, i)) {
    const std::string_view word = text.substr(i, std::min(text.find_first_of(kBetween, i), text.size()) - i);
    TokenId id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size()) {
      fail("--decode: {} is not a token id; write ids as in --decode 1,2,3", quote(word));
    }
    ids.push_back(id);
    i += word.size();
  }
  if (ids.empty()) fail("--decode: no ids in {}; write them as in --decode 1,2,3", quote(text));
  return ids;
}

void print(const Json& json) { std::cout << json.dump(2, ' ', false, Json::error_handler_t::replace) << '\n'; }

void decode(const Options& options, const Tokenizer& tokenizer) {
  const std::vector<TokenId> ids = parse_ids(options.decode);
  const std::string text = tokenizer.decode(ids, !options.no_special);
  if (options.json) {
    print({{"tokens", ids}, {"text", text}});
  } else {
    std::cout << text << '\n';
  }
}

std::vector<TokenId> ids_of(const Options& options, const Gguf& file, const Tokenizer& tokenizer, const Prompt& prompt) {
  if (options.chat.chat) return ChatEncoder(file, tokenizer, options.chat).encode(prompt.text, options.chat.system);
  return tokenizer.encode(prompt.text, !options.no_special, !options.no_parse_special);
}

void encode(const Options& options, const Gguf& file, const Tokenizer& tokenizer, const Prompt& prompt) {
  const std::vector<TokenId> ids = ids_of(options, file, tokenizer, prompt);
  if (options.json) {
    Json pieces = Json::array();
    for (const TokenId id : ids) pieces.push_back(tokenizer.token_bytes(id, true));
    print({{"prompt_id", prompt.id}, {"n_tokens", ids.size()}, {"tokens", ids}, {"pieces", pieces}});
  } else if (options.ids) {
    std::cout << fmt::format("{}\n", fmt::join(ids, " "));
  } else {
    for (const TokenId id : ids) std::cout << fmt::format("{:>6}  {}\n", id, escaped(tokenizer.token_bytes(id, true)));
  }
}

int tokenize(const Options& options) {
  const bool decodes = !options.decode.empty();
  if (options.prompts.size() + options.files.size() + (decodes ? 1 : 0) != 1) {
    fail("tokenize needs one of --prompt TEXT, --prompt-file F and --decode IDS");
  }
  options.chat.check();
  if (options.chat.chat && (decodes || options.no_special || options.no_parse_special))
    fail("--chat writes special tokens around a prompt; leave out --decode, --no-special and --no-parse-special");
  const std::vector<Prompt> prompts = read_prompts(options.prompts, options.files);
  const auto file = Gguf::open(options.model.empty() ? default_model_path() : std::filesystem::path(options.model));
  const auto tokenizer = Tokenizer::from_gguf(*file);
  if (decodes) {
    decode(options, *tokenizer);
  } else {
    encode(options, *file, *tokenizer, prompts.front());
  }
  std::cout.flush();
  if (!std::cout) fail("standard output: cannot write");
  return static_cast<int>(ExitCode::ok);
}

}  // namespace

void add_tokenize(CLI::App& app, Program& program) {
  auto* verb = app.add_subcommand("tokenize", "A text's tokens, or the text of token ids (vocabulary-only files too)");
  auto options = std::make_shared<Options>();
  verb->add_option("--model", options->model, "GGUF file (default: the demo model)");
  verb->add_option("--prompt", options->prompts, "The text itself")->take_all();
  verb->add_option("--prompt-file", options->files, "File that holds the text, taken whole")->take_all();
  verb->add_option("--decode", options->decode, "Token ids, \"1,2,3\": print their text");
  verb->add_flag("--ids", options->ids, "Print the ids only, in one line");
  verb->add_flag("--json", options->json, "Print JSON");
  verb->add_flag("--no-special", options->no_special, "Add no BOS or EOS; with --decode, print no control tokens");
  verb->add_flag("--no-parse-special", options->no_parse_special, "Control tokens in the text are plain text");
  options->chat.add_to(*verb);
  verb->callback([&program, options] { program.action = [options] { return tokenize(*options); }; });
}

}  // namespace greta::cli
