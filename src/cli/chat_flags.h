// `--chat`, `--system` and `--chat-template`: prompts as turns of a chat.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/chat_template.h"

namespace greta::cli {

struct ChatFlags {
  bool chat = false;
  std::optional<std::string> system;
  std::string chat_template;

  void add_to(CLI::App& verb);
  /// Throws Error where --system or, unless `chat_elsewhere`, --chat-template stand without --chat, the template's name is not
  /// known or the system text is not UTF-8. `chat_elsewhere`: prompts of an experiment are chats by themselves.
  void check(bool chat_elsewhere = false) const;
};

/// The chat format of one model, chosen once. What the user should know is one line each on stderr.
class ChatEncoder {
 public:
  /// As choose_chat(); `flags` must have passed check().
  ChatEncoder(const Gguf& file, const Tokenizer& tokenizer, const ChatFlags& flags);
  std::vector<TokenId> encode(std::string_view user, const std::optional<std::string>& system);

 private:
  const Gguf& file_;
  const Tokenizer& tokenizer_;
  ChatFormat format_;
  bool said_refusal_ = false;
};

}  // namespace greta::cli
