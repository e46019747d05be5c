// Element types of tensors, weights and the KV cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace greta {

/// Plain numbers, then block formats of weights: by 32 elements (q8_0 to q5_1 and iq4_nl) or by 256 (core/blocks.h);
/// then q8_f32, blocks of activations (core/activation_blocks.h). The numbers are written to captures, so new ones go to the end.
enum class DType : std::uint8_t {
  f64,
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  q8_f32
};
inline constexpr int kDTypeCount = 17;

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
/// Every type that weights may have (all but f64 and q8_f32), in the order of the enumeration.
std::span<const DType> weight_dtypes();
/// Their names: "f32, f16, …", for messages.
std::string weight_dtype_names();
/// A type whose elements share scales, a block at a time.
inline bool is_block_type(DType dtype) { return dtype_info(dtype).block_elems > 1; }
/// Bytes of a row of `cols` elements; `cols` must be a multiple of the block (checked where files are read).
std::int64_t row_bytes(DType dtype, std::int64_t cols);

}  // namespace greta
