#include "cli/chat_flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/quote.h"
#include "core/utf8.h"
#include "model/gguf.h"

namespace greta::cli {

void ChatFlags::add_to(CLI::App& verb) {
  verb.add_flag("--chat", chat, "The prompt is a user's turn, written as the model's chat template says");
  verb.add_option("--system", system, "With --chat: the system turn's text");
  verb.add_option("--chat-template", chat_template, "llama3, chatml or gemma, instead of the file's own");
}

void ChatFlags::check(bool chat_elsewhere) const {
  if (system && !chat) fail("--system {} is the system turn of a chat; add --chat", quote(*system));
  if (!chat_template.empty() && !chat && !chat_elsewhere) fail("--chat-template {} needs --chat", quote(chat_template));
  if (!chat_template.empty() && !chat_template_from_name(chat_template))
    fail("--chat-template {} is not known; known: llama3, chatml, gemma", quote(chat_template));
  if (!system) return;
  if (const auto offset = first_invalid_utf8(*system))
    fail("--system: the text is not UTF-8 at byte {}; convert it to UTF-8", *offset);
}

ChatEncoder::ChatEncoder(const Gguf& file, const Tokenizer& tokenizer, const ChatFlags& flags)
    : file_(file), tokenizer_(tokenizer) {
  const ChatChoice choice = choose_chat(file, tokenizer, chat_template_from_name(flags.chat_template));
  format_ = choice.format;
  if (choice.source == ChatChoice::Source::vocabulary) {
    fmt::print(stderr, "greta: note: {} has no chat template; its special tokens are those of {} (--chat-template overrides)\n",
               file.path().string(), name(format_.chat));
  }
  if (const auto missing = missing_markers(format_.chat, tokenizer); !missing.empty()) {
    fmt::print(stderr, "greta: warning: {}: special tokens of chat template {} are plain text to this vocabulary: {}\n",
               file.path().string(), name(format_.chat), fmt::join(missing, " "));
  }
}

std::vector<TokenId> ChatEncoder::encode(std::string_view user, const std::optional<std::string>& system) {
  if (system && format_.refuses_system && !said_refusal_) {
    fmt::print(stderr, "greta: warning: {}: its chat template takes no system turn; the text goes before the user's\n",
               file_.path().string());
    said_refusal_ = true;
  }
  return encode_chat(format_, tokenizer_, user, system);
}

}  // namespace greta::cli
