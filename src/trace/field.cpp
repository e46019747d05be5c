#include "trace/field.h"

#include <fmt/format.h>

#include <cmath>

namespace greta::trace {
namespace {

std::string describe(const json::Value& value) {
  if (const auto* number = std::get_if<json::Number>(&value.value)) return fmt::format("{}", number->value);
  return std::string(value.kind());
}

}  // namespace

const json::Value* Fields::find(std::string_view key) const {
  const json::Value* value = object_.find(key);
  return value == nullptr || std::holds_alternative<std::monostate>(value->value) ? nullptr : value;
}

void Fields::wrong(std::string_view key, std::string_view wanted) {
  if (!error_.empty()) return;
  const json::Value* value = find(key);
  error_ = fmt::format("field '{}' is {}, wanted {}", key, value == nullptr ? "missing" : describe(*value), wanted);
}

std::optional<std::int64_t> Fields::integer(std::string_view key, std::int64_t min, std::int64_t max) {
  const json::Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  std::optional<std::int64_t> integer = value->integer();
  if (!integer) {  // 3.0 is a whole number too
    const auto number = value->number();
    if (number && std::abs(*number) <= 0x1p53 && *number == std::trunc(*number)) integer = static_cast<std::int64_t>(*number);
  }
  if (integer && *integer >= min && *integer <= max) return integer;
  wrong(key, fmt::format("a whole number from {} to {}", min, max));
  return std::nullopt;
}

std::optional<std::int32_t> Fields::int32(std::string_view key, std::int32_t min) {
  const auto value = integer(key, min, std::numeric_limits<std::int32_t>::max());
  return value ? std::optional(static_cast<std::int32_t>(*value)) : std::nullopt;
}

std::optional<double> Fields::number(std::string_view key) {
  const json::Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto number = value->number();
  if (!number) wrong(key, "a number, \"NaN\", \"Infinity\" or \"-Infinity\"");
  return number;
}

std::optional<bool> Fields::flag(std::string_view key) {
  const json::Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto flag = value->boolean();
  if (!flag) wrong(key, "true or false");
  return flag;
}

const std::string* Fields::text(std::string_view key) {
  const json::Value* value = find(key);
  if (value == nullptr) return nullptr;
  if (value->string() == nullptr) wrong(key, "a string");
  return value->string();
}

const json::Value::Numbers* Fields::numbers(std::string_view key) {
  const json::Value* value = find(key);
  if (value == nullptr) return nullptr;
  if (value->numbers() == nullptr) wrong(key, "an array of numbers");
  return value->numbers();
}

const json::Value::Array* Fields::array(std::string_view key) {
  static const json::Value::Array none;
  const json::Value* value = find(key);
  if (value == nullptr) return nullptr;
  if (value->numbers() != nullptr && value->numbers()->empty()) return &none;
  if (value->array() == nullptr) wrong(key, "an array of objects");
  return value->array();
}

}  // namespace greta::trace
