// A vocabulary and a text: encoding, decoding, streaming. The input is lines of "KEY REST" (see Input::take) up to a line
// "text", and all that follows is the text; bytes that lines cannot hold are written \xNN.
#include <charconv>
#include <optional>
#include <vector>

#include "core/utf8.h"
#include "fuzz/fuzz.h"
#include "model/tokenizer_bpe.h"
#include "model/tokenizer_data.h"

namespace greta::fuzz {
namespace {

constexpr std::string_view kSpmSpace = "\xE2\x96\x81";
constexpr std::size_t kMaxPieces = 4096;

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string unescape(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    if (text.size() >= 4 && text.starts_with("\\x") && hex(text[2]) >= 0 && hex(text[3]) >= 0) {
      out += static_cast<char>(hex(text[2]) * 16 + hex(text[3]));
      text.remove_prefix(4);
    } else {
      out += text.front();
      text.remove_prefix(1);
    }
  }
  return out;
}

template <class T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  return read.ec == std::errc{} ? std::optional(value) : std::nullopt;
}

/// The word before the next space, taken from `rest`.
std::string_view word(std::string_view& rest) {
  const std::size_t end = std::min(rest.find(' '), rest.size());
  const std::string_view out = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return out;
}

struct Input {
  TokenizerData data;
  std::vector<std::string> tokens, merges;
  std::vector<double> scores;
  std::vector<std::int64_t> types;
  std::string text;

  explicit Input(std::string_view in) {
    data.source = "input.gguf";
    while (!in.empty()) {
      const std::size_t end = std::min(in.find('\n'), in.size());
      const std::string_view line = in.substr(0, end);
      in.remove_prefix(std::min(end + 1, in.size()));
      if (line == "text") break;
      take(line);
    }
    text = in;
    data.tokens = &tokens;
    data.scores = &scores;
    data.token_types = &types;
    data.merges = &merges;
  }

 private:
  void add(std::string token, double score, std::int64_t type) {
    tokens.push_back(std::move(token));
    scores.push_back(score);
    types.push_back(type);
  }
  void take(std::string_view rest) {
    const std::string_view key = word(rest);
    if (key == "t") {  // TYPE SCORE TOKEN
      const auto type = number<std::int64_t>(word(rest));
      const auto score = number<double>(word(rest));
      add(unescape(rest), score.value_or(0), type.value_or(1));
    } else if (key == "bytes") {  // the 256 byte tokens of "llama"
      for (int byte = 0; byte < 256; ++byte) add(fmt::format("<0x{:02X}>", byte), 0, 6);
    } else if (key == "alphabet") {  // the 256 bytes as "gpt2" spells them
      for (const std::string& letter : byte_level_alphabet()) add(letter, 0, 1);
    } else if (key == "merge") {
      merges.push_back(unescape(rest));
    } else if (key == "model") {
      data.model = rest;
    } else if (key == "pre") {
      data.pre = rest;
    } else if (key == "drop_score") {
      if (!scores.empty()) scores.pop_back();
    } else if (key == "add_bos") {
      data.add_bos = rest == "1";
    } else if (key == "add_eos") {
      data.add_eos = rest == "1";
    } else if (key == "space_prefix") {
      data.add_space_prefix = rest == "1";
    } else {
      for (const auto& [name, id] : {std::pair("bos", &data.bos), std::pair("eos", &data.eos), std::pair("unk", &data.unknown),
                                     std::pair("eot", &data.eot), std::pair("eom", &data.eom)})
        if (key == name) *id = number<std::int64_t>(rest);
    }
  }
};

/// Streams `ids` and requires whole characters of every return; the text.
std::string stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool continues, bool special) {
  StreamDecoder decoder(tokenizer, continues, special);
  std::string out, raw;
  for (const TokenId id : ids) {
    const std::string piece = decoder.push(id);
    require(!first_invalid_utf8(piece), "streamed text of whole characters", piece);
    out += piece;
    raw += tokenizer.token_bytes(id, special);
  }
  const std::string rest = decoder.finish();
  require(rest.empty() || rest == kReplacementCharacter, "at most one unfinished character at the end", rest);
  out += rest;
  const bool verbatim = !tokenizer.adds_space_prefix() && !first_invalid_utf8(raw);
  require(!verbatim || out == raw, "the tokens' own bytes where they are UTF-8", out);
  return out;
}

bool may_round_trip(const Input& in, const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  for (const TokenId id : ids)
    if (tokenizer.is_special(id) || in.data.unknown == id) return false;  // they stand for themselves, or for any byte
  if (in.data.model != "llama") return true;
  if (in.text.find(kSpmSpace) != std::string::npos) return false;  // it decodes to the space that it stands for
  for (std::size_t i = 0; i < in.tokens.size(); ++i)
    if (in.tokens[i] == kSpmSpace && in.types[i] != 2 && in.types[i] != 3 && in.types[i] != 6) return true;
  return false;  // spaces go into byte tokens as U+2581
}

void run(const Input& in) {
  const auto tokenizer = make_tokenizer(in.data);
  const int size = tokenizer->vocab_size();
  require(size == static_cast<int>(in.tokens.size()), "as many ids as tokens");
  for (const bool add_special : {false, true}) {
    for (const bool parse_special : {false, true}) {
      std::vector<TokenId> ids;
      if (!accepts([&] { ids = tokenizer->encode(in.text, add_special, parse_special); })) continue;
      require(!first_invalid_utf8(in.text), "a refusal of text that is no UTF-8", in.text);
      for (const TokenId id : ids) require(id >= 0 && id < size, "ids of the vocabulary");
      const std::string text = stream(*tokenizer, ids, false, add_special);
      require(text == tokenizer->decode(ids, add_special), "the same text streamed and at once", text);
      if (!add_special && !parse_special && may_round_trip(in, *tokenizer, ids))
        require(text == in.text, "the text again after encoding and decoding", text);
    }
  }
  // Any ids in any order: what a model may generate.
  std::vector<TokenId> any;
  for (const char c : in.text.substr(0, kMaxPieces)) any.push_back(static_cast<unsigned char>(c) % size);
  for (TokenId id = 0; id < std::min<int>(size, kMaxPieces); ++id) any.push_back(id);
  for (const bool special : {false, true})
    for (const bool continues : {false, true}) stream(*tokenizer, any, continues, special);
  require(!accepts([&] { static_cast<void>(tokenizer->token_bytes(size)); }), "a refusal of ids beyond the vocabulary");
}

}  // namespace
}  // namespace greta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace greta::fuzz;
  const Input in(text_of(data, size));
  accepts([&] { run(in); });
  return 0;
}
