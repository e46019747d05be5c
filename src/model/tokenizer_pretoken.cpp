#include "model/tokenizer_pretoken.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <array>
#include <span>

#include "core/error.h"
#include "core/quote.h"

namespace greta {
namespace {

// Unicode's White_Space, spelled out: PCRE2's \s has U+180E besides, which is no space since Unicode 6.3.
#define GRETA_SPACE R"(\p{Z}\x{9}-\x{d}\x{85})"
// The contractions are ASCII letters in either case: a caseless group would let U+017F, the long s, end a word as well.
// clang-format off
#define GRETA_WORDS(digits) \
  "'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"  /* English contractions */                      \
  R"(|[^\r\n\p{L}\p{N}]?\p{L}+)"                         /* a word, with one character before it */      \
  "|" digits                                                                                             \
  R"(| ?[^)" GRETA_SPACE R"(\p{L}\p{N}]+[\r\n]*)"        /* punctuation, with the line ends after it */  \
  "|[" GRETA_SPACE R"(]*[\r\n]+)"                        /* blank lines */                               \
  "|[" GRETA_SPACE "]+(?![^" GRETA_SPACE "])"            /* space, all but the last before a word */     \
  "|[" GRETA_SPACE "]+"
// Split patterns as the models' own tokenizers publish them (tokenizer.json, GPT-2's encoder.py).
constexpr const char* kLlama3 = GRETA_WORDS(R"(\p{N}{1,3})");  // up to three digits
constexpr const char* kQwen2 = GRETA_WORDS(R"(\p{N})");        // digits one by one
constexpr const char* kGpt2 =
    "'(?:s|t|re|ve|m|ll|d)"                       // English contractions, in small letters only
    R"(| ?\p{L}+| ?\p{N}+)"                       // a word or a number, with the space before it
    "| ?[^" GRETA_SPACE R"(\p{L}\p{N}]+)"         // all else
    "|[" GRETA_SPACE "]+(?![^" GRETA_SPACE "])"   // space, all but the last before a word
    "|[" GRETA_SPACE "]+";
// clang-format on
#undef GRETA_WORDS
#undef GRETA_SPACE

/// A pattern that cuts every piece of the pattern before it: its matches are pieces, and so is what lies between them. Nothing
/// of the neighbouring pieces is seen: a run of spaces at a piece's end is the end of the text.
struct Step {
  const char* pattern;
  bool covers;  // matches everywhere, one match after the other
};
constexpr std::array kLlama3Steps{Step{kLlama3, true}};
constexpr std::array kQwen2Steps{Step{kQwen2, true}};
constexpr std::array kGpt2Steps{Step{kGpt2, true}};
constexpr std::array kSmollmSteps{Step{R"(\p{N})", false}, Step{kGpt2, true}};
// llama.cpp's, for files whose converter knew no better: punctuation, GPT-2, numbers without their space, digits by three.
constexpr std::array kDefaultSteps{Step{R"([\p{P}$+<=>^~|]+)", false}, Step{kGpt2, true}, Step{R"(\p{N}+)", false},
                                   Step{"[0-9][0-9][0-9]", false}};

struct Family {
  std::string_view name;
  std::span<const Step> steps;
  bool whole_words_first;
  bool begins_with_bos;
};
constexpr std::array kFamilies{Family{"llama-bpe", kLlama3Steps, true, true}, Family{"gpt-2", kGpt2Steps, false, false},
                               Family{"qwen2", kQwen2Steps, false, false}, Family{"smollm", kSmollmSteps, false, false},
                               Family{"default", kDefaultSteps, false, false}};

/// Other names of the same thing in GGUF files.
struct Alias {
  std::string_view name, family;
};
constexpr std::array kAliases{Alias{"llama3", "llama-bpe"},  Alias{"llama-v3", "llama-bpe"},
                              Alias{"falcon3", "llama-bpe"}, Alias{"falcon-h1", "llama-bpe"},
                              Alias{"pixtral", "llama-bpe"}, Alias{"lfm2", "llama-bpe"},
                              Alias{"phi-2", "gpt-2"},       Alias{"jina-es", "gpt-2"},
                              Alias{"jina-de", "gpt-2"},     Alias{"jina-v2-es", "gpt-2"},
                              Alias{"jina-v2-de", "gpt-2"},  Alias{"gigachat", "gpt-2"},
                              Alias{"mellum", "gpt-2"},      Alias{"mpt", "gpt-2"},
                              Alias{"olmo", "gpt-2"},        Alias{"deepseek-r1-qwen", "qwen2"},
                              Alias{"megrez", "qwen2"},      Alias{"stablelm2", "qwen2"},
                              Alias{"hunyuan", "qwen2"},     Alias{"starcoder", "smollm"},
                              Alias{"refact", "smollm"},     Alias{"command-r", "smollm"},
                              Alias{"codeshell", "smollm"},  Alias{"exaone", "smollm"},
                              Alias{"minerva-7b", "smollm"}};

const Family* find_family(std::string_view pre) {
  for (const Alias& alias : kAliases)
    if (alias.name == pre) pre = alias.family;
  for (const Family& family : kFamilies)
    if (family.name == pre) return &family;
  return nullptr;
}

const Family& family_of(std::string_view pre, const std::string& source) {
  if (const Family* family = find_family(pre)) return *family;
  std::string names;
  for (const Family& family : kFamilies) names += (names.empty() ? "" : ", ") + std::string(family.name);
  for (const Alias& alias : kAliases) names += fmt::format(", {}", alias.name);
  fail("{}: pre-tokeniser {} is not known; known: {}", source, quote(pre), names);
}

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 128> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

template <auto release>
struct Release {
  template <class T>
  void operator()(T* object) const {
    release(object);
  }
};

/// One compiled step.
struct Pattern {
  std::unique_ptr<pcre2_code, Release<pcre2_code_free>> code;
  bool covers = false;
};

Pattern compile(const Step& step, std::string_view pre, const std::string& source) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::uint32_t anchored = step.covers ? PCRE2_ANCHORED : 0;
  Pattern pattern;
  pattern.covers = step.covers;
  pattern.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(step.pattern), PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP | anchored, &error, &offset, nullptr));
  if (!pattern.code) {
    fail("{}: this PCRE2 cannot compile pre-tokeniser {}: {}; it needs Unicode support", source, quote(pre),
         pcre2_message(error));
  }
  return pattern;
}

}  // namespace

struct Pretokenizer::Impl {
  const Family* family = nullptr;
  std::vector<Pattern> patterns;
  std::unique_ptr<pcre2_match_context, Release<pcre2_match_context_free>> context;

  /// Appends the pieces of `text` by one step.
  void cut(const Pattern& pattern, std::string_view text, pcre2_match_data* match,
           std::vector<std::string_view>& pieces) const {
    for (std::size_t begin = 0; begin < text.size();) {
      const int rc = pcre2_match(pattern.code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), begin,
                                 PCRE2_NO_UTF_CHECK, match, context.get());
      const bool none = rc == PCRE2_ERROR_NOMATCH && !pattern.covers;
      const PCRE2_SIZE* found = pcre2_get_ovector_pointer(match);
      const std::size_t from = none ? text.size() : rc < 0 ? begin : found[0];
      const std::size_t to = none ? text.size() : rc < 0 ? begin : found[1];
      // The alternatives of a covering step hold letters, digits, spaces and all else, so that only a limit of PCRE2 can end
      // the loop here.
      if (to <= begin) fail("the text cannot be split into words at byte {}: PCRE2: {}", begin, pcre2_message(rc));
      if (from > begin) pieces.push_back(text.substr(begin, from - begin));
      if (to > from) pieces.push_back(text.substr(from, to - from));
      begin = to;
    }
  }
};

Pretokenizer::Pretokenizer(std::string_view pre, const std::string& source) {
  auto impl = std::make_unique<Impl>();
  impl->family = &family_of(pre, source);
  for (const Step& step : impl->family->steps) impl->patterns.push_back(compile(step, pre, source));
  impl->context.reset(pcre2_match_context_create(nullptr));
  if (!impl->context) throw std::bad_alloc();
  // Backtracking is linear in the length of a run of spaces; PCRE2's default limit would refuse a run of some megabytes.
  pcre2_set_match_limit(impl->context.get(), UINT32_MAX);
  impl_ = std::move(impl);
}

Pretokenizer::~Pretokenizer() = default;

std::optional<std::string_view> Pretokenizer::canonical(std::string_view pre) {
  const Family* family = find_family(pre);
  return family != nullptr ? std::optional(family->name) : std::nullopt;
}

bool Pretokenizer::begins_with_bos(std::string_view pre) {
  const Family* family = find_family(pre);
  return family != nullptr && family->begins_with_bos;
}

bool Pretokenizer::whole_words_first() const { return impl_->family->whole_words_first; }

std::vector<std::string_view> Pretokenizer::split(std::string_view text) const {
  const std::unique_ptr<pcre2_match_data, Release<pcre2_match_data_free>> match(pcre2_match_data_create(1, nullptr));
  if (!match) throw std::bad_alloc();
  std::vector<std::string_view> pieces{text}, next;
  for (const Pattern& pattern : impl_->patterns) {
    next.clear();
    for (const std::string_view piece : pieces) impl_->cut(pattern, piece, match.get(), next);
    pieces.swap(next);
  }
  return pieces;
}

}  // namespace greta
