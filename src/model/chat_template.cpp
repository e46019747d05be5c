#include "model/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/escape.h"
#include "core/quote.h"
#include "model/gguf.h"

namespace greta {
namespace {

constexpr std::string_view kKey = "tokenizer.chat_template";
constexpr std::string_view kKnown = "llama3, chatml, gemma";
/// Real ones have some kilobytes.
constexpr std::size_t kMaxTemplateBytes = std::size_t{1} << 20;
constexpr std::array kAll{ChatTemplate::llama3, ChatTemplate::chatml, ChatTemplate::gemma};

/// Formats that share ChatML's markers and are written otherwise: Phi-4's separator, SmolLM3's system turn.
constexpr std::array<std::string_view, 2> kNotChatml{"<|im_sep|>", "## Metadata"};

bool holds(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// As Jinja's filter `trim`, on ASCII white space.
std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\v\f";
  const std::size_t begin = text.find_first_not_of(kSpace);
  return begin == text.npos ? std::string_view() : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

/// Takes a newline, itself or as Jinja writes it in a string, from the beginning of `text`.
bool take_newline(std::string_view& text) {
  const std::size_t bytes = text.starts_with('\n') ? 1 : text.starts_with("\\n") ? 2 : 0;
  text.remove_prefix(bytes);
  return bytes > 0;
}

/// The text of a system turn that stands whole in one string of a ChatML template: "<|im_start|>system\nTEXT<|im_end|>".
std::string literal_system(std::string_view jinja) {
  constexpr std::string_view kBegin = "<|im_start|>system", kEnd = "<|im_end|>";
  constexpr std::size_t kMaxBytes = 4096;
  int places = 16;  // real templates have two or three
  for (std::size_t at = jinja.find(kBegin); at != jinja.npos && places > 0; at = jinja.find(kBegin, at + 1), --places) {
    std::string_view text = jinja.substr(at + kBegin.size(), kMaxBytes);
    if (!take_newline(text)) continue;
    const std::size_t end = text.find(kEnd);
    if (end == text.npos || end == 0 || text.substr(0, end).find_first_of("'\"{}") != text.npos) continue;
    text = text.substr(0, end);
    std::string out;
    while (!text.empty() && !(text[0] == '\\' && !text.starts_with("\\n"))) {
      if (take_newline(text)) {
        out += '\n';
      } else {
        out += text[0];
        text.remove_prefix(1);
      }
    }
    if (text.empty()) return out;  // else an escape that is not known here
  }
  return {};
}

/// Llama 3.1 and later write two lines at the head of every system turn. The date is the one that the template falls back on
/// where it is given no clock: the same prompt is the same tokens on any day.
std::string dated_preamble(std::string_view jinja) {
  constexpr std::string_view kKnowledge = "Cutting Knowledge Date: December 2023", kToday = "Today Date: ";
  if (!holds(jinja, kKnowledge) || !holds(jinja, kToday)) return {};
  std::string date = "26 Jul 2024";
  constexpr std::string_view kSet = "set date_string = \"";
  if (const std::size_t at = jinja.find(kSet); at != jinja.npos) {
    const std::string_view rest = jinja.substr(at + kSet.size(), 32);
    const auto plain = [](char c) { return c == ' ' || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'); };
    const auto end = static_cast<std::size_t>(std::find_if_not(rest.begin(), rest.end(), plain) - rest.begin());
    if (end > 0 && end < rest.size() && rest[end] == '"') date = rest.substr(0, end);
  }
  return fmt::format("{}\n{}{}\n\n", kKnowledge, kToday, date);
}

std::optional<ChatTemplate> of_vocabulary(const Tokenizer& tokenizer) {
  std::optional<ChatTemplate> found;
  for (const ChatTemplate chat : kAll) {
    if (!missing_markers(chat, tokenizer).empty()) continue;
    if (found) return std::nullopt;
    found = chat;
  }
  return found;
}

}  // namespace

std::string_view name(ChatTemplate chat) {
  switch (chat) {
    case ChatTemplate::llama3:
      return "llama3";
    case ChatTemplate::chatml:
      return "chatml";
    case ChatTemplate::gemma:
      break;
  }
  return "gemma";
}

std::optional<ChatTemplate> chat_template_from_name(std::string_view wanted) {
  for (const ChatTemplate chat : kAll)
    if (name(chat) == wanted) return chat;
  return std::nullopt;
}

const std::vector<std::string_view>& chat_markers(ChatTemplate chat) {
  static const std::vector<std::string_view> kLlama3{"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"};
  static const std::vector<std::string_view> kChatml{"<|im_start|>", "<|im_end|>"};
  static const std::vector<std::string_view> kGemma{"<start_of_turn>", "<end_of_turn>"};
  return chat == ChatTemplate::llama3 ? kLlama3 : chat == ChatTemplate::chatml ? kChatml : kGemma;
}

std::optional<ChatTemplate> recognise_chat_template(std::string_view jinja) {
  if (jinja.size() > kMaxTemplateBytes) return std::nullopt;
  std::optional<ChatTemplate> found;
  for (const ChatTemplate chat : kAll) {
    const auto& markers = chat_markers(chat);
    if (!std::all_of(markers.begin(), markers.end(), [&](std::string_view marker) { return holds(jinja, marker); })) continue;
    if (found) return std::nullopt;
    found = chat;
  }
  const auto other = [&](std::string_view mark) { return holds(jinja, mark); };
  if (found == ChatTemplate::chatml && std::any_of(kNotChatml.begin(), kNotChatml.end(), other)) return std::nullopt;
  return found;
}

ChatFormat read_chat_format(ChatTemplate chat, std::string_view jinja) {
  ChatFormat format;
  format.chat = chat;
  format.writes_bos = holds(jinja, "bos_token");
  if (chat == ChatTemplate::llama3) format.preamble = dated_preamble(jinja);
  if (chat == ChatTemplate::chatml) format.default_system = literal_system(jinja);
  if (chat == ChatTemplate::gemma) format.refuses_system = holds(jinja, "System role not supported");
  return format;
}

ChatChoice choose_chat(const Gguf& file, const Tokenizer& tokenizer, std::optional<ChatTemplate> wanted) {
  using Source = ChatChoice::Source;
  const std::string* text = file.optional_string(kKey);
  const std::string_view jinja = text != nullptr ? std::string_view(*text) : std::string_view();
  const std::optional<ChatTemplate> recognised = recognise_chat_template(jinja);
  if (wanted) {
    ChatFormat format;
    format.chat = *wanted;
    return {recognised == wanted ? read_chat_format(*wanted, jinja) : format, Source::option};
  }
  if (recognised) return {read_chat_format(*recognised, jinja), Source::file};
  if (!jinja.empty()) {
    fail("{}: chat template {} is not known; known: {}; choose one with --chat-template", file.path().string(),
         escaped(jinja, 80), kKnown);
  }
  if (const auto chat = of_vocabulary(tokenizer)) {
    ChatFormat format;
    format.chat = *chat;
    return {format, Source::vocabulary};
  }
  fail(
      "{}: has no chat template (key '{}'), and its special tokens are not those of one of {}; choose one with --chat-template",
      file.path().string(), kKey, kKnown);
}

std::string render_chat(const ChatFormat& format, std::string_view user, const std::optional<std::string>& system) {
  switch (format.chat) {
    case ChatTemplate::llama3: {
      const auto turn = [](std::string_view role, std::string_view text) {
        return fmt::format("<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>", role, text);
      };
      std::string out;
      if (system || !format.preamble.empty()) out = turn("system", format.preamble + std::string(trimmed(system.value_or(""))));
      return out + turn("user", trimmed(user)) + "<|start_header_id|>assistant<|end_header_id|>\n\n";
    }
    case ChatTemplate::chatml: {
      const auto turn = [](std::string_view role, std::string_view text) {
        return fmt::format("<|im_start|>{}\n{}<|im_end|>\n", role, text);
      };
      std::string out;
      if (system || !format.default_system.empty()) out = turn("system", system ? *system : format.default_system);
      return out + turn("user", user) + "<|im_start|>assistant\n";
    }
    case ChatTemplate::gemma:
      break;
  }
  // No system role: Gemma 3's template puts the text before the user's own.
  return fmt::format("<start_of_turn>user\n{}{}<end_of_turn>\n<start_of_turn>model\n", system ? *system + "\n\n" : "",
                     trimmed(user));
}

std::vector<TokenId> encode_chat(const ChatFormat& format, const Tokenizer& tokenizer, std::string_view user,
                                 const std::optional<std::string>& system) {
  std::vector<TokenId> ids = tokenizer.encode(render_chat(format, user, system), false, true);
  const bool wants_bos = tokenizer.bos() >= 0 && (tokenizer.add_bos() || format.writes_bos);
  if (wants_bos && (ids.empty() || ids.front() != tokenizer.bos())) ids.insert(ids.begin(), tokenizer.bos());
  return ids;
}

std::vector<std::string_view> missing_markers(ChatTemplate chat, const Tokenizer& tokenizer) {
  std::vector<std::string_view> missing;
  for (const std::string_view marker : chat_markers(chat))
    if (tokenizer.find_special(marker) < 0) missing.push_back(marker);
  return missing;
}

}  // namespace greta
