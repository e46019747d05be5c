#include "model/tokenizer.h"

#include "core/error.h"
#include "core/quote.h"
#include "core/utf8.h"
#include "model/gguf.h"
#include "model/tokenizer_bpe.h"
#include "model/tokenizer_data.h"
#include "model/tokenizer_spm.h"

namespace greta {
namespace {

std::optional<std::string> copy(const std::string* text) { return text != nullptr ? std::optional(*text) : std::nullopt; }

}  // namespace

std::unique_ptr<const Tokenizer> make_tokenizer(const TokenizerData& data) {
  if (!data.model) {
    fail("{}: key 'tokenizer.ggml.model' is missing: the file has no tokenizer; convert the model again with it", data.source);
  }
  if (*data.model == "llama") return std::make_unique<SpmTokenizer>(data);
  if (*data.model == "gpt2") return std::make_unique<BpeTokenizer>(data);
  fail("{}: tokenizer {} is not known; known: llama, gpt2", data.source, quote(*data.model));
}

std::unique_ptr<const Tokenizer> Tokenizer::from_gguf(const Gguf& file) {
  TokenizerData data;
  data.source = file.path().string();
  data.model = copy(file.optional_string("tokenizer.ggml.model"));
  data.pre = copy(file.optional_string("tokenizer.ggml.pre"));
  data.tokens = file.optional_strings("tokenizer.ggml.tokens");
  data.scores = file.optional_floats("tokenizer.ggml.scores");
  data.token_types = file.optional_ints("tokenizer.ggml.token_type");
  data.merges = file.optional_strings("tokenizer.ggml.merges");
  data.bos = file.optional_int("tokenizer.ggml.bos_token_id");
  data.eos = file.optional_int("tokenizer.ggml.eos_token_id");
  data.unknown = file.optional_int("tokenizer.ggml.unknown_token_id");
  data.eot = file.optional_int("tokenizer.ggml.eot_token_id");
  data.eom = file.optional_int("tokenizer.ggml.eom_token_id");
  data.add_bos = file.optional_bool("tokenizer.ggml.add_bos_token");
  data.add_eos = file.optional_bool("tokenizer.ggml.add_eos_token");
  data.add_space_prefix = file.optional_bool("tokenizer.ggml.add_space_prefix");
  return make_tokenizer(data);
}

std::string Tokenizer::decode(const std::vector<TokenId>& ids, bool special) const {
  StreamDecoder decoder(*this, /*continues=*/false, special);
  std::string text;
  for (const TokenId id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

std::string StreamDecoder::push(TokenId id) {
  const std::string piece = tokenizer_.token_bytes(id, special_);
  std::string_view bytes = piece;
  if (tokenizer_.is_special(id)) {
    after_special_ = true;
  } else {
    if (after_special_ && tokenizer_.adds_space_prefix() && bytes.starts_with(' ')) bytes.remove_prefix(1);
    after_special_ = false;
  }
  pending_ += bytes;

  std::string out;
  std::size_t done = 0;
  while (done < pending_.size()) {
    const Utf8Step step = utf8_step(std::string_view(pending_).substr(done));
    if (step.kind == Utf8Step::Kind::incomplete) break;
    out += step.kind == Utf8Step::Kind::valid ? std::string_view(pending_).substr(done, step.bytes) : kReplacementCharacter;
    done += step.bytes;
  }
  pending_.erase(0, done);
  return out;
}

std::string StreamDecoder::finish() {
  const bool waits = !pending_.empty();
  pending_.clear();
  return waits ? std::string(kReplacementCharacter) : std::string();
}

}  // namespace greta
