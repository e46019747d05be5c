// What a tokenizer is made of, still unchecked: GGUF's tokenizer.ggml.* without the file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/tokenizer.h"

namespace greta {

/// Views; they must live until make_tokenizer returns. nullptr or nullopt: the key is missing.
struct TokenizerData {
  std::string source;  // the file, for messages
  std::optional<std::string> model;
  std::optional<std::string> pre;
  const std::vector<std::string>* tokens = nullptr;
  const std::vector<double>* scores = nullptr;
  const std::vector<std::int64_t>* token_types = nullptr;
  const std::vector<std::string>* merges = nullptr;
  std::optional<std::int64_t> bos, eos, unknown, eot, eom;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
};

/// Checks everything. Throws Error, one line: source, key, what was found and what was wanted.
std::unique_ptr<const Tokenizer> make_tokenizer(const TokenizerData& data);

}  // namespace greta
