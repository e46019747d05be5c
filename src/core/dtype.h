// Element types of tensors, weights and the KV cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace greta {

enum class DType : std::uint8_t { f64, f32, f16, bf16, q8_0, q4_0 };

/// Storage of one dtype: `block_elems` consecutive elements of a row take `block_bytes` bytes.
struct DTypeInfo {
  std::string_view name;  // lower case, as on the command line: "f16", "q8_0"
  std::int64_t block_elems;
  std::int64_t block_bytes;
};

const DTypeInfo& dtype_info(DType dtype);
inline std::string_view name(DType dtype) { return dtype_info(dtype).name; }
/// Case-insensitive; nullopt for an unknown name.
std::optional<DType> dtype_from_name(std::string_view name);
/// Bytes of a row of `cols` elements; `cols` must be a multiple of the block (checked where files are read).
std::int64_t row_bytes(DType dtype, std::int64_t cols);

}  // namespace greta
