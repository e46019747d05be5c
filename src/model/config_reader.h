// Reads `<architecture>.*` keys with their limits: what the architectures' files share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "model/config.h"
#include "model/gguf.h"

namespace greta {

class ConfigReader {
 public:
  ConfigReader(const Gguf& file, std::string_view architecture) : file_(file), prefix_(std::string(architecture) + ".") {}

  /// The full key: "llama.block_count".
  std::string key(std::string_view suffix) const { return prefix_ + std::string(suffix); }
  int required(std::string_view suffix, int max) const;                 // 1..max
  std::optional<int> optional(std::string_view suffix, int max) const;  // 1..max
  /// A number, or an array of one number a layer that are all equal (throws where they differ).
  std::optional<int> uniform(std::string_view suffix, int n_layers, int max) const;
  /// Finite and above `low` (or equal to it where `or_equal`).
  std::optional<double> number(std::string_view suffix, double low, bool or_equal) const;
  /// `attention.sliding_window`; 0 where it is absent or 0.
  int window_or_none() const;
  /// The same, for architectures that need one.
  int required_window() const;
  /// For architectures without one: throws Error where the file has one.
  void refuse_window() const;
  /// Throws Error where `attention.sliding_window_pattern` says another alternation than every `period`-th layer unwindowed.
  void require_window_period(int period) const;
  /// A cap on scores or logits; 0 where it is absent or 0.
  double cap(std::string_view suffix) const;
  double required_cap(std::string_view suffix) const;
  const Gguf& file() const { return file_; }

 private:
  int checked(std::string_view suffix, std::int64_t value, int max) const;
  const Gguf& file_;
  std::string prefix_;
};

/// Sizes, heads, RoPE and vocabulary as every Llama-like architecture writes them; checked against each other.
ModelConfig read_decoder_config(const Gguf& file, std::string_view architecture);

}  // namespace greta
