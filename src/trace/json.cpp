// Why not a JSON library: traces hold what JSON has no words for (NaN, infinities), engines in C print them bare, and a line
// from outside must be bounded in depth and in memory before anything is allocated for it.
#include "trace/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <numeric>
#include <utility>

#include "core/quote.h"

namespace greta::json {
namespace {

std::optional<double> non_finite(std::string_view word) {
  const bool negative = !word.empty() && word.front() == '-';
  if (negative) word.remove_prefix(1);
  const auto is = [&](std::string_view lower) {
    return std::equal(word.begin(), word.end(), lower.begin(), lower.end(),
                      [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; });
  };
  if (is("nan")) return std::numeric_limits<double>::quiet_NaN();
  if (is("inf") || is("infinity"))
    return negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  return std::nullopt;
}

/// Recursive descent; `Value`s are built in place. A failure sets `error_` once and unwinds by false.
class Parser {
 public:
  Parser(std::string_view text, const Limits& limits) : text_(text), limits_(limits) {}

  Result<Value> run() {
    Value out;
    skip_space();
    if (!parse_value(out, 0)) return tl::unexpected(error_);
    skip_space();
    if (at_ < text_.size()) return tl::unexpected(message("expected the end", found()));
    return out;
  }

 private:
  bool parse_value(Value& out, int depth) {
    if (++values_ > limits_.values) return failed(fmt::format("more than {} values", limits_.values));
    if (depth > limits_.depth) return failed(fmt::format("nested deeper than {}", limits_.depth));
    if (at_ >= text_.size()) return expected("a value");
    const char c = text_[at_];
    if (c == '{') return parse_object(out, depth);
    if (c == '[') return parse_array(out, depth);
    if (c == '"') return parse_string(out.value.emplace<std::string>());
    if (c == '-' || (c >= '0' && c <= '9')) {
      Number number;
      if (!parse_number(number)) return false;
      out.value = number;
      return true;
    }
    return parse_word(out);
  }

  bool parse_word(Value& out) {
    const std::string_view letters = word();
    if (letters == "true" || letters == "false") {
      out.value = letters == "true";
    } else if (letters == "null") {
      out.value = std::monostate{};
    } else if (const auto special = non_finite(letters)) {
      out.value = Number{*special, std::nullopt};
    } else {
      return expected("a value");
    }
    at_ += letters.size();
    return true;
  }

  bool parse_object(Value& out, int depth) {
    auto& members = out.value.emplace<Value::Object>();
    ++at_;
    skip_space();
    if (take('}')) return true;
    while (true) {
      auto& [key, value] = members.emplace_back();
      if (at_ >= text_.size() || text_[at_] != '"') return expected("a key");
      if (!parse_string(key)) return false;
      skip_space();
      if (!take(':')) return expected("':'");
      skip_space();
      if (!parse_value(value, depth + 1)) return false;
      skip_space();
      if (take('}')) break;
      if (!take(',')) return expected("',' or '}'");
      skip_space();
    }
    return keys_distinct(members);
  }

  bool keys_distinct(const Value::Object& members) {
    std::vector<std::string_view> keys;
    keys.reserve(members.size());
    for (const auto& [key, value] : members) keys.push_back(key);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    return twice == keys.end() || failed("key " + quote(*twice, 40) + " twice in one object");
  }

  /// Numbers as long as all elements are; the first other one turns it into an Array.
  bool parse_array(Value& out, int depth) {
    ++at_;
    Value::Numbers numbers;
    Value::Array items;
    skip_space();
    if (!take(']')) {
      while (true) {
        Value item;
        double number = 0;
        if (items.empty() && parse_array_number(number)) {
          numbers.push_back(number);
        } else {
          if (!error_.empty() || !parse_value(item, depth + 1)) return false;
          if (const auto special = items.empty() && item.string() ? non_finite_string(*item.string()) : std::nullopt) {
            numbers.push_back(*special);
          } else {
            if (!spill(numbers, items)) return false;
            items.push_back(std::move(item));
          }
        }
        skip_space();
        if (take(']')) break;
        if (!take(',')) return expected("',' or ']'");
        skip_space();
      }
    }
    if (items.empty()) {
      out.value = std::move(numbers);
    } else {
      out.value = std::move(items);
    }
    return true;
  }

  /// Elements that were taken for a row of numbers, as values of their own.
  bool spill(Value::Numbers& numbers, Value::Array& items) {
    if (numbers.empty()) return true;
    values_ += numbers.size();
    if (values_ > limits_.values) return failed(fmt::format("more than {} values", limits_.values));
    for (const double number : numbers) {
      const bool whole = number == std::trunc(number) && std::abs(number) < 0x1p53;
      items.push_back({Number{number, whole ? std::optional(static_cast<std::int64_t>(number)) : std::nullopt}});
    }
    numbers.clear();
    return true;
  }

  static std::optional<double> non_finite_string(const std::string& text) {
    if (text == "NaN" || text == "Infinity" || text == "-Infinity") return non_finite(text);
    return std::nullopt;
  }

  /// False without an error where the element is no number.
  bool parse_array_number(double& out) {
    if (at_ >= text_.size()) return false;
    const char c = text_[at_];
    if (c == '-' || (c >= '0' && c <= '9')) {
      Number number;
      if (!parse_number(number)) return false;
      out = number.value;
      return true;
    }
    const std::string_view letters = word();
    const auto special = non_finite(letters);
    if (!special) return false;
    at_ += letters.size();
    out = *special;
    return true;
  }

  bool parse_number(Number& out) {
    const std::size_t start = at_;
    std::size_t end = at_;
    const auto digits = [&] {
      const std::size_t from = end;
      while (end < text_.size() && text_[end] >= '0' && text_[end] <= '9') ++end;
      return end > from;
    };
    if (text_[end] == '-') ++end;
    const std::size_t first_digit = end;
    if (!digits()) {
      const std::string_view letters = word();  // "-inf"
      const auto special = non_finite(letters);
      if (!special) return expected("a number");
      at_ += letters.size();
      out = {*special, std::nullopt};
      return true;
    }
    if (text_[first_digit] == '0' && end > first_digit + 1) return failed("a number with a leading zero");
    bool integral = true;
    if (end < text_.size() && text_[end] == '.') {
      ++end;
      integral = false;
      if (!digits()) return failed("a number that ends in '.'");
    }
    if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
      ++end;
      integral = false;
      if (end < text_.size() && (text_[end] == '+' || text_[end] == '-')) ++end;
      if (!digits()) return failed("a number without its exponent");
    }
    const char* const begin = text_.data() + start;
    const char* const stop = text_.data() + end;
    out = {};
    if (integral) {
      std::int64_t integer = 0;
      if (std::from_chars(begin, stop, integer).ec == std::errc{} && (integer != 0 || *begin != '-')) out.integer = integer;
    }
    if (const auto read = std::from_chars(begin, stop, out.value); read.ec == std::errc::result_out_of_range) {
      // Too large, or too small: that becomes the nearest float64, zero or subnormal.
      out.value = std::strtod(std::string(begin, stop).c_str(), nullptr);
      if (!std::isfinite(out.value)) return failed("number " + quote({begin, end - start}, 24) + " beyond float64");
    }
    at_ = end;
    return true;
  }

  bool parse_string(std::string& out) {
    ++at_;
    while (true) {
      std::size_t end = at_;
      while (end < text_.size() && text_[end] != '"' && text_[end] != '\\' && static_cast<unsigned char>(text_[end]) >= 0x20)
        ++end;
      out.append(text_, at_, end - at_);
      at_ = end;
      if (at_ >= text_.size()) return failed("a string without its end");
      if (take('"')) return true;
      if (text_[at_] != '\\') return failed("a control byte in a string");
      ++at_;
      if (!parse_escape(out)) return false;
    }
  }

  bool parse_escape(std::string& out) {
    if (at_ >= text_.size()) return failed("a string without its end");
    const char c = text_[at_++];
    constexpr std::string_view names = "\"\\/bfnrt", bytes = "\"\\/\b\f\n\r\t";
    if (const std::size_t known = names.find(c); known != std::string_view::npos) {
      out += bytes[known];
      return true;
    }
    if (c != 'u') return failed("an unknown escape in a string");
    std::uint32_t code = 0;
    if (!hex4(code)) return false;
    if (code >= 0xd800 && code < 0xdc00) {  // high surrogate: its pair follows
      std::uint32_t low = 0;
      if (text_.substr(at_, 2) != "\\u") return failed("half a surrogate pair in a string");
      at_ += 2;
      if (!hex4(low)) return false;
      if (low < 0xdc00 || low > 0xdfff) return failed("half a surrogate pair in a string");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
      return failed("half a surrogate pair in a string");
    }
    append_utf8(out, code);
    return true;
  }

  bool hex4(std::uint32_t& code) {
    if (text_.size() - at_ < 4) return failed("a string without its end");
    const char* const begin = text_.data() + at_;
    if (std::from_chars(begin, begin + 4, code, 16).ptr != begin + 4) return failed("an escape that is no \\uXXXX");
    at_ += 4;
    return true;
  }

  static void append_utf8(std::string& out, std::uint32_t code) {
    const auto byte = [&](std::uint32_t b) { out += static_cast<char>(b); };
    if (code < 0x80) {
      byte(code);
    } else if (code < 0x800) {
      byte(0xc0 | (code >> 6));
      byte(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
      byte(0xe0 | (code >> 12));
      byte(0x80 | ((code >> 6) & 0x3f));
      byte(0x80 | (code & 0x3f));
    } else {
      byte(0xf0 | (code >> 18));
      byte(0x80 | ((code >> 12) & 0x3f));
      byte(0x80 | ((code >> 6) & 0x3f));
      byte(0x80 | (code & 0x3f));
    }
  }

  /// Letters from here, with a '-' before them.
  std::string_view word() const {
    std::size_t end = at_;
    if (end < text_.size() && text_[end] == '-') ++end;
    while (end < text_.size() && end - at_ < 16 && std::isalpha(static_cast<unsigned char>(text_[end]))) ++end;
    return text_.substr(at_, end - at_);
  }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) ++at_;
  }
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  std::string found() const {
    return at_ < text_.size() ? "found " + quote(text_.substr(at_, 1)) : std::string("the text ends");
  }
  std::string message(std::string_view what, std::string_view found) const {
    return fmt::format("column {}: {}, {}", at_ + 1, what, found);
  }
  bool expected(std::string_view what) {
    error_ = message(fmt::format("expected {}", what), found());
    return false;
  }
  bool failed(std::string_view what) {
    error_ = fmt::format("column {}: {}", at_ + 1, what);
    return false;
  }

  std::string_view text_;
  Limits limits_;
  std::size_t at_ = 0;
  std::size_t values_ = 0;
  std::string error_;
};

/// Length of the UTF-8 character at the start of `text`; 0 where its bytes are none (RFC 3629: shortest form, no surrogates).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char b = byte(0);
  const std::size_t length = b < 0x80                ? 1
                             : b >= 0xc2 && b < 0xe0 ? 2
                             : b >= 0xe0 && b < 0xf0 ? 3
                             : b >= 0xf0 && b < 0xf5 ? 4
                                                     : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  const unsigned char second = length > 1 ? byte(1) : 0;
  if ((b == 0xe0 && second < 0xa0) || (b == 0xed && second > 0x9f) || (b == 0xf0 && second < 0x90) ||
      (b == 0xf4 && second > 0x8f))
    return 0;
  return length;
}

}  // namespace

const Value* Value::find(std::string_view key) const {
  const Object* members = object();
  if (members == nullptr) return nullptr;
  for (const auto& [name, member] : *members)
    if (name == key) return &member;
  return nullptr;
}

std::optional<double> Value::number() const {
  if (const auto* number = std::get_if<Number>(&value)) return number->value;
  if (const std::string* text = string(); text && (*text == "NaN" || *text == "Infinity" || *text == "-Infinity"))
    return non_finite(*text);
  return std::nullopt;
}

std::optional<std::int64_t> Value::integer() const {
  const auto* number = std::get_if<Number>(&value);
  return number == nullptr ? std::nullopt : number->integer;
}

std::optional<bool> Value::boolean() const {
  const auto* flag = std::get_if<bool>(&value);
  return flag == nullptr ? std::nullopt : std::optional(*flag);
}

std::string_view Value::kind() const {
  constexpr std::string_view kinds[] = {"null", "true or false", "a number", "a string", "an array", "an array", "an object"};
  return kinds[value.index()];
}

Result<Value> parse(std::string_view text, const Limits& limits) { return Parser(text, limits).run(); }

void append_number(std::string& out, double value) {
  if (std::isnan(value)) {
    out += "\"NaN\"";
  } else if (std::isinf(value)) {
    out += value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  } else if (value == 0 && std::signbit(value)) {
    out += "-0.0";
  } else {
    fmt::format_to(std::back_inserter(out), "{}", value);
  }
}

void append_string(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const char c = text.front();
    if (length == 0) {
      out += "\xef\xbf\xbd";
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out.append(text, 0, length);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  out += '"';
}

std::string& ObjectWriter::raw(std::string_view key) {
  if (!first_) out_ += ',';
  first_ = false;
  append_string(out_, key);
  out_ += ':';
  return out_;
}

ObjectWriter& ObjectWriter::field(std::string_view key, double value) {
  append_number(raw(key), value);
  return *this;
}
ObjectWriter& ObjectWriter::field(std::string_view key, std::int64_t value) {
  fmt::format_to(std::back_inserter(raw(key)), "{}", value);
  return *this;
}
ObjectWriter& ObjectWriter::field(std::string_view key, std::string_view value) {
  append_string(raw(key), value);
  return *this;
}
ObjectWriter& ObjectWriter::field(std::string_view key, bool value) {
  raw(key) += value ? "true" : "false";
  return *this;
}

namespace {
template <class T, class Append>
void append_list(std::string& out, const std::vector<T>& values, Append append) {
  out += '[';
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ',';
    append(out, values[i]);
  }
  out += ']';
}
}  // namespace

ObjectWriter& ObjectWriter::field(std::string_view key, const std::vector<double>& values) {
  append_list(raw(key), values, append_number);
  return *this;
}
ObjectWriter& ObjectWriter::field(std::string_view key, const std::vector<std::int32_t>& values) {
  append_list(raw(key), values, [](std::string& out, std::int32_t v) { fmt::format_to(std::back_inserter(out), "{}", v); });
  return *this;
}
ObjectWriter& ObjectWriter::field(std::string_view key, const std::vector<std::string>& values) {
  append_list(raw(key), values, [](std::string& out, const std::string& v) { append_string(out, v); });
  return *this;
}

}  // namespace greta::json
