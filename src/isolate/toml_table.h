// A TOML file whose keys are all known: a misspelt one must not silently leave a default standing.
#pragma once

#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/nearest.h"
#include "core/quote.h"

namespace greta::isolate {

/// `where` names the text in errors. Throws Error: invalid UTF-8, syntax (line and column).
toml::table parse_toml(std::string_view text, std::string_view where);
/// Throws Error where `id` cannot name files: 1 to 64 of A-Z a-z 0-9 _ - . and no dot in front.
void check_id(std::string_view id, std::string_view where);

/// One table of a file with the keys it may have. Every reader throws Error on a value of another kind, naming the line.
class TomlTable {
 public:
  TomlTable(const toml::table& table, std::string where, std::span<const std::string_view> known)
      : table_(table), where_(std::move(where)) {
    for (const auto& [key, node] : table)
      if (std::find(known.begin(), known.end(), key.str()) == known.end())
        fail("{}: unknown key {}{}", where_, quote(key.str()), suggestion(key.str(), known));
  }

  std::optional<bool> boolean(std::string_view key) const { return get<bool>(key, "true or false"); }
  std::optional<std::string> text(std::string_view key) const { return get<std::string>(key, "a string"); }
  std::optional<std::int64_t> integer(std::string_view key, std::int64_t low, std::int64_t high) const {
    const auto value = get<std::int64_t>(key, "a whole number");
    if (value && (*value < low || *value > high)) fail("{}: {} = {} is not within {}..{}", where_, key, *value, low, high);
    return value;
  }
  std::optional<double> number(std::string_view key) const {
    std::optional<double> value;
    if (const toml::node* node = table_.get(key); node != nullptr && node->is_integer()) {
      value = static_cast<double>(**node->as_integer());
    } else {
      value = get<double>(key, "a number");
    }
    if (value && !(std::isfinite(*value) && *value >= 0)) fail("{}: {} = {} is not a finite number >= 0", where_, key, *value);
    return value;
  }
  /// A string, or an array whose elements `element` turns into strings: joined by commas.
  template <class Element>
  std::optional<std::string> list(std::string_view key, Element&& element) const {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return std::nullopt;
    const toml::array* array = node->as_array();
    if (array == nullptr) return get<std::string>(key, "a string or an array");
    if (array->empty()) fail("{}: {} is an empty array; leave it out for all", where_, key);
    std::string joined;
    for (const toml::node& one : *array) joined += (joined.empty() ? "" : ",") + element(one);
    return joined;
  }
  const toml::table* table(std::string_view key) const {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return nullptr;
    if (!node->is_table()) fail("{}: {} is not a table", where_, key);
    return node->as_table();
  }
  const toml::node* node(std::string_view key) const { return table_.get(key); }
  const std::string& where() const { return where_; }

 private:
  template <class T>
  std::optional<T> get(std::string_view key, std::string_view kind) const {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return std::nullopt;
    if (const auto value = node->value_exact<T>()) return *value;
    fail("{}: {} (line {}) is not {}", where_, key, node->source().begin.line, kind);
  }

  const toml::table& table_;
  std::string where_;
};

}  // namespace greta::isolate
