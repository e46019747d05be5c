// The tensor types that a GGUF file can name, and the sizes of their blocks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/dtype.h"

namespace greta {

/// `block_elems` consecutive elements of a row take `block_bytes` bytes.
struct GgmlType {
  std::uint32_t id = 0;
  std::string_view name;  // upper case, as the format writes it: "Q8_0"
  std::int64_t block_elems = 0;
  std::int64_t block_bytes = 0;
  std::optional<DType> dtype;  // nullopt: greta does not compute with it
};

/// nullptr for an id that is not known (retired ids among them).
const GgmlType* find_ggml_type(std::uint32_t id);
/// The id in a GGUF file of a dtype of greta's.
std::uint32_t ggml_type_of(DType dtype);
/// The types that weights may have: "F32, F16, …", for messages.
std::string computable_type_names();

}  // namespace greta
