// A model file with its matrices in another weight type.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "model/pieces.h"

namespace greta {

class Gguf;

/// What matrices become: one type throughout, or the mix that files named Q4_K_M and Q5_K_M hold: `dtype`, but Q6_K for the
/// head (the embedding table where it is the head), and for attn_v and ffn_down of the first and the last eighth of the layers
/// and of every third layer between.
struct QuantizeType {
  DType dtype = DType::q8_0;  // any weight type
  bool mixed = false;         // q4_k and q5_k only
};

/// "q8_0", "q4_k_m", ... in any case; nothing where there is no such type. All of them: quantize_type_names().
std::optional<QuantizeType> quantize_type_from_name(std::string_view text);
std::string quantize_type_names();

struct QuantizeSpec {
  QuantizeType type;
  int threads = 0;  // 0: one a processor
  bool overwrite = false;
};

/// Tensors of one type in the new file.
struct QuantizedTensors {
  DType dtype = DType::f32;
  std::int64_t tensors = 0;
  std::uint64_t elements = 0, bytes = 0;
};

/// Matrices whose rows are not whole blocks of the type wanted, and what they became instead.
struct QuantizeFallback {
  std::string first_tensor;
  std::int64_t tensors = 0;
  std::int64_t row = 0;  // elements
  DType wanted = DType::f32, dtype = DType::f32;
};

struct QuantizeReport {
  std::vector<QuantizedTensors> types;              // by dtype
  std::vector<QuantizeFallback> fallbacks;          // by first tensor
  std::uint64_t bytes_before = 0, bytes_after = 0;  // of tensor data
};

/// The type for rows of `row` elements where `wanted` is asked for: `wanted` if they are whole blocks of it, else the nearest
/// in size with blocks of 32 (q2_k, q3_k, iq4_xs: iq4_nl; q4_k: q5_0; q5_k: q5_1; q6_k: q8_0), else f16.
DType fallback_dtype(DType wanted, std::int64_t row);

/// Writes `in` to `out` with its matrices (weights of two or more dimensions that are not norms) as `spec.type` or its
/// fallback; everything else becomes f32, without loss. Metadata is copied; general.file_type and general.quantization_version
/// say the new type, and keys that describe how `in` was split or aligned are left out. `out` is there whole or not at all.
///
/// Throws Error, one line: no tensors, a tensor of a type that greta cannot read, a NaN or an infinity in `in` (tensor and
/// element), a weight too large for the type's binary16, or whatever writing meets.
QuantizeReport quantize(const Gguf& in, const std::filesystem::path& out, const QuantizeSpec& spec, const Progress& progress);

/// The number of `type` in general.file_type.
std::uint32_t file_type_of(QuantizeType type);

}  // namespace greta
