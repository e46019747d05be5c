// JSON as trace files need it: exact floats, non-finite numbers, and limits against hostile input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/error.h"

namespace greta::json {

struct Number {
  double value = 0;
  std::optional<std::int64_t> integer;  // where it was written as one and fits
};

struct Member;

/// One value. An array whose elements are all numbers (or the names of non-finite ones) is `Numbers`; the empty array too.
struct Value {
  using Numbers = std::vector<double>;
  using Array = std::vector<Value>;
  using Object = std::vector<Member>;  // in the order of the text, keys distinct
  std::variant<std::monostate, bool, Number, std::string, Numbers, Array, Object> value;

  /// Member of an object; nullptr where there is none or this is no object.
  const Value* find(std::string_view key) const;
  // nullptr (nullopt) where it is something else. A string "NaN", "Infinity" or "-Infinity" is a number too.
  const std::string* string() const { return std::get_if<std::string>(&value); }
  const Numbers* numbers() const { return std::get_if<Numbers>(&value); }
  const Array* array() const { return std::get_if<Array>(&value); }
  const Object* object() const { return std::get_if<Object>(&value); }
  std::optional<double> number() const;
  std::optional<std::int64_t> integer() const;
  std::optional<bool> boolean() const;
  /// "an object", "a string", … for messages.
  std::string_view kind() const;
};

/// One key of an object. Not a std::pair: that would need a complete Value where Value is defined.
struct Member {
  std::string key;
  Value value;
};

struct Limits {
  int depth = 32;
  std::size_t values = 200'000;  // that are not elements of `Numbers`
};

/// RFC 8259, and bare nan, inf, infinity with or without '-' in any case, as C's printf and Python write them. A key twice in
/// an object, a number beyond float64 and anything above the limits is an error: "column 12: expected ':', found '}'".
Result<Value> parse(std::string_view text, const Limits& limits = {});

/// The shortest digits that read back as the same float64; "NaN", "Infinity", "-Infinity" as strings; -0 as -0.0.
void append_number(std::string& out, double value);
/// Quoted and escaped; bytes that are no UTF-8 become U+FFFD.
void append_string(std::string& out, std::string_view text);

/// Writes one object on one line, field by field: {"a":1,"b":[1,2]}.
class ObjectWriter {
 public:
  explicit ObjectWriter(std::string& out) : out_(out) { out_ += '{'; }
  ObjectWriter& field(std::string_view key, double value);
  ObjectWriter& field(std::string_view key, std::int64_t value);
  ObjectWriter& field(std::string_view key, std::int32_t value) { return field(key, std::int64_t{value}); }
  ObjectWriter& field(std::string_view key, std::string_view value);
  ObjectWriter& field(std::string_view key, const char* value) { return field(key, std::string_view(value)); }
  ObjectWriter& field(std::string_view key, const std::string& value) { return field(key, std::string_view(value)); }
  ObjectWriter& field(std::string_view key, bool value);
  ObjectWriter& field(std::string_view key, const std::vector<double>& values);
  ObjectWriter& field(std::string_view key, const std::vector<std::int32_t>& values);
  ObjectWriter& field(std::string_view key, const std::vector<std::string>& values);
  /// Starts a field whose value the caller appends to the returned text.
  std::string& raw(std::string_view key);
  void end() { out_ += '}'; }

 private:
  std::string& out_;
  bool first_ = true;
};

}  // namespace greta::json
