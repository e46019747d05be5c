// GGUF v2 and v3 files, memory-mapped; single and split. Everything in the file is hostile until checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/tensor.h"

namespace greta {

/// Metadata value types, numbered as in the file.
enum class GgufType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
std::string_view name(GgufType type);

/// Numbers widen to 64 bits; `type` keeps what the file said.
struct GgufValue {
  using Strings = std::vector<std::string>;
  using Integers = std::vector<std::int64_t>;
  using Floats = std::vector<double>;
  GgufType type = GgufType::u32;
  GgufType element = GgufType::u32;  // of arrays
  std::variant<std::uint64_t, std::int64_t, double, bool, std::string, Strings, Integers, Floats> value;
};

struct GgufTensor {
  std::string name;
  std::uint32_t ggml_type = 0;      // as in the file
  std::optional<DType> dtype;       // nullopt: a type that greta does not compute with
  std::vector<std::int64_t> shape;  // ne0 (contiguous) first, 1 to 4 dimensions
  const std::byte* data = nullptr;
  std::uint64_t bytes = 0;
  std::uint64_t file_offset = 0;
  int part = 0;  // index of the split file
};

std::string_view ggml_type_name(std::uint32_t ggml_type);

/// An open model file (all parts of a split one). Views into it live as long as it does.
class Gguf {
 public:
  /// Maps `path` (for a split model: the first part, `-00001-of-0000N.gguf`, the others beside it). Throws Error: one line,
  /// with the file, the offset and what was expected.
  static std::shared_ptr<const Gguf> open(const std::filesystem::path& path);
  ~Gguf();

  const std::filesystem::path& path() const;
  std::uint32_t version() const;
  std::uint64_t alignment() const;
  std::span<const std::pair<std::string, GgufValue>> metadata() const;  // in file order
  std::span<const GgufTensor> tensors() const;                          // in file order

  const GgufValue* find(std::string_view key) const;
  const GgufTensor* find_tensor(std::string_view name) const;

  // Typed access. The `optional` forms give nullopt for a missing key; a key of the wrong type, or a missing required one,
  // throws Error naming file, key, the type found and the type wanted.
  std::optional<std::int64_t> optional_int(std::string_view key) const;
  std::optional<double> optional_float(std::string_view key) const;
  std::optional<bool> optional_bool(std::string_view key) const;
  const std::string* optional_string(std::string_view key) const;
  const GgufValue::Strings* optional_strings(std::string_view key) const;
  const GgufValue::Integers* optional_ints(std::string_view key) const;
  const GgufValue::Floats* optional_floats(std::string_view key) const;
  std::int64_t required_int(std::string_view key, std::int64_t min, std::int64_t max) const;
  const std::string& required_string(std::string_view key) const;

  /// XXH3-64 of the whole file(s), computed on first use and kept: identifies the model in a run.
  std::uint64_t content_hash() const;

 private:
  struct Impl;
  explicit Gguf(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace greta
