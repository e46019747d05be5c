// Chat templates: how a model wants a user's turn written. A file's Jinja text is recognised by its markers, never run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"

namespace greta {

class Gguf;

enum class ChatTemplate : std::uint8_t { llama3, chatml, gemma };

/// "llama3", "chatml", "gemma".
std::string_view name(ChatTemplate chat);
std::optional<ChatTemplate> chat_template_from_name(std::string_view name);
/// The special tokens that the template is written with, the one that ends a turn last.
const std::vector<std::string_view>& chat_markers(ChatTemplate chat);

/// The template whose markers all stand in `jinja`, where no other's do: nullopt for none, for more than one, and for
/// more than 1 MiB. Any bytes.
std::optional<ChatTemplate> recognise_chat_template(std::string_view jinja);

/// A template, and what its text in the file says beyond the markers.
struct ChatFormat {
  ChatTemplate chat = ChatTemplate::llama3;
  std::string default_system;  // ChatML: the system turn of a chat that has none
  std::string preamble;        // Llama 3.1 and later: what a system turn, then never left out, begins with
  bool writes_bos = false;     // the text names bos_token
  bool refuses_system = false;
};

/// What `jinja`, recognised as `chat`, says. Looks for literal texts only.
ChatFormat read_chat_format(ChatTemplate chat, std::string_view jinja);

/// The format to use, and how it was found.
struct ChatChoice {
  ChatFormat format;
  enum class Source : std::uint8_t { file, vocabulary, option } source = Source::file;
};

/// `wanted` where given, else the template of `file` (key tokenizer.chat_template), else, where it has none, the one template
/// of which the vocabulary has all special tokens. Throws Error, one line with the beginning of the file's own text and the
/// known names, where none is left.
ChatChoice choose_chat(const Gguf& file, const Tokenizer& tokenizer, std::optional<ChatTemplate> wanted);

/// One user turn, after a system turn where there is one, up to the header of the assistant's; without BOS.
std::string render_chat(const ChatFormat& format, std::string_view user, const std::optional<std::string>& system);

/// Ids of render_chat(): special tokens parsed, BOS first where the vocabulary or the template says so, never twice, no EOS.
std::vector<TokenId> encode_chat(const ChatFormat& format, const Tokenizer& tokenizer, std::string_view user,
                                 const std::optional<std::string>& system);

/// Markers that `tokenizer` has no special token for: they are plain text to the model.
std::vector<std::string_view> missing_markers(ChatTemplate chat, const Tokenizer& tokenizer);

}  // namespace greta
