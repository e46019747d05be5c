#include "model/tokenizer_pretoken.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "core/error.h"
#include "core/quote.h"

namespace greta {
namespace {

// Unicode's White_Space, spelled out: PCRE2's \s has U+180E besides, which is no space since Unicode 6.3.
#define GRETA_SPACE R"(\p{Z}\x{9}-\x{d}\x{85})"
// Llama 3 (its tokenizer's published split pattern). The contractions are ASCII letters in either case: a caseless group would
// let U+017F, the long s, end a word as well.
// clang-format off
constexpr const char* kLlama3 =
    "'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"  // English contractions
    R"(|[^\r\n\p{L}\p{N}]?\p{L}+)"                         // a word, with one character before it
    R"(|\p{N}{1,3})"                                       // digits, up to three
    R"(| ?[^)" GRETA_SPACE R"(\p{L}\p{N}]+[\r\n]*)"        // punctuation, with the line ends after it
    "|[" GRETA_SPACE R"(]*[\r\n]+)"                        // blank lines
    "|[" GRETA_SPACE "]+(?![^" GRETA_SPACE "])"           // space, all but the last before a word
    "|[" GRETA_SPACE "]+";
// clang-format on
#undef GRETA_SPACE

struct Known {
  std::string_view name;
  const char* pattern;
};
constexpr std::array kKnown{Known{"llama-bpe", kLlama3}, Known{"llama3", kLlama3}, Known{"llama-v3", kLlama3}};

const char* pattern_of(std::string_view pre, const std::string& source) {
  std::string names;
  for (const Known& known : kKnown) {
    if (known.name == pre) return known.pattern;
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  }
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

}  // namespace

struct Pretokenizer::Impl {
  std::unique_ptr<pcre2_code, Release<pcre2_code_free>> code;
  std::unique_ptr<pcre2_match_context, Release<pcre2_match_context_free>> context;
};

Pretokenizer::Pretokenizer(std::string_view pre, const std::string& source) {
  auto impl = std::make_unique<Impl>();
  int error = 0;
  PCRE2_SIZE offset = 0;
  impl->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern_of(pre, source)), PCRE2_ZERO_TERMINATED,
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &offset, nullptr));
  if (!impl->code) {
    fail("{}: this PCRE2 cannot compile pre-tokeniser {}: {}; it needs Unicode support", source, quote(pre),
         pcre2_message(error));
  }
  impl->context.reset(pcre2_match_context_create(nullptr));
  if (!impl->context) throw std::bad_alloc();
  // Backtracking is linear in the length of a run of spaces; PCRE2's default limit would refuse a run of some megabytes.
  pcre2_set_match_limit(impl->context.get(), UINT32_MAX);
  impl_ = std::move(impl);
}

Pretokenizer::~Pretokenizer() = default;

std::vector<std::string_view> Pretokenizer::split(std::string_view text) const {
  const std::unique_ptr<pcre2_match_data, Release<pcre2_match_data_free>> match(pcre2_match_data_create(1, nullptr));
  if (!match) throw std::bad_alloc();
  std::vector<std::string_view> words;
  for (std::size_t begin = 0; begin < text.size();) {
    const int rc = pcre2_match(impl_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), begin,
                               PCRE2_NO_UTF_CHECK, match.get(), impl_->context.get());
    const std::size_t end = rc < 0 ? begin : pcre2_get_ovector_pointer(match.get())[1];
    // The alternatives cover letters, digits, spaces and all else, so that only a limit of PCRE2 can end the loop here.
    if (end <= begin) fail("the text cannot be split into words at byte {}: PCRE2: {}", begin, pcre2_message(rc));
    words.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return words;
}

}  // namespace greta
