#include <xxhash.h>

#include <memory>
#include <new>

#include "model/gguf.h"
#include "model/tokenizer.h"

namespace greta {

std::uint64_t vocabulary_hash(const Gguf& file) {
  const GgufValue::Strings* tokens = file.optional_strings("tokenizer.ggml.tokens");
  if (tokens == nullptr) return 0;
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
  if (state == nullptr) throw std::bad_alloc();
  XXH3_64bits_reset(state.get());
  for (const std::string& token : *tokens) {
    const auto size = static_cast<std::uint64_t>(token.size());
    XXH3_64bits_update(state.get(), &size, sizeof size);
    XXH3_64bits_update(state.get(), token.data(), token.size());
  }
  return XXH3_64bits_digest(state.get());
}

}  // namespace greta
