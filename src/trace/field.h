// Fields of one record of a trace, with their limits: what is missing and what is wrong are told apart.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "trace/json.h"

namespace greta::trace {

/// Reads members of `object`; the first that is of the wrong kind is kept as the error, and reading goes on.
class Fields {
 public:
  explicit Fields(const json::Value& object) : object_(object) {}

  /// nullopt (nullptr) where the field is missing or null, and where it is wrong.
  std::optional<std::int64_t> integer(std::string_view key, std::int64_t min, std::int64_t max);
  std::optional<std::int32_t> int32(std::string_view key, std::int32_t min = 0);
  std::optional<double> number(std::string_view key);
  std::optional<bool> flag(std::string_view key);
  const std::string* text(std::string_view key);
  const json::Value::Numbers* numbers(std::string_view key);
  const json::Value::Array* array(std::string_view key);

  /// Where present, into `out`.
  template <class T>
  void integer_into(std::string_view key, T& out, std::int64_t min, std::int64_t max) {
    if (const auto value = integer(key, min, max)) out = static_cast<T>(*value);
  }
  void number_into(std::string_view key, double& out) {
    if (const auto value = number(key)) out = *value;
  }
  void wrong(std::string_view key, std::string_view wanted);
  bool ok() const { return error_.empty(); }
  /// "field 'layer' is a string, wanted a whole number from 0 to 65535".
  const std::string& error() const { return error_; }

 private:
  const json::Value* find(std::string_view key) const;
  const json::Value& object_;
  std::string error_;
};

}  // namespace greta::trace
