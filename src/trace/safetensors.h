// The safetensors format: an 8-byte length, a JSON header, and the tensors' bytes one after the other, little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/stage.h"
#include "trace/file_io.h"

namespace greta {

enum class TensorType : std::uint8_t { f64, f32, f16, bf16, i64 };
/// As the format writes it: "F64", "F32", "F16", "BF16", "I64".
std::string_view name(TensorType type);
std::int64_t size_of(TensorType type);  // bytes of an element
/// Throws Error for block types.
TensorType tensor_type(DType dtype);

struct TensorSpec {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape;  // row-major, slowest first
  std::int64_t elements() const;    // throws Error above 2^62 bytes
};

/// Streams tensors to disk in the order of `specs`; the file appears whole at `finish` or not at all.
class SafetensorsWriter {
 public:
  /// Throws Error: a name twice, a name "__metadata__", a negative dimension, a file that cannot be written.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorSpec> specs,
                    const std::vector<std::pair<std::string, std::string>>& metadata = {});
  /// The next bytes; tensors may be cut anywhere.
  void append(std::span<const std::byte> bytes);
  /// Throws Error where not exactly the announced bytes came.
  void finish();

 private:
  OutputFile file_;
  std::int64_t expected_ = 0, given_ = 0;
};

/// A tensor of the file as written: its bytes are at `offset` from the file's start.
struct TensorEntry : TensorSpec {
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
};

class SafetensorsFile {
 public:
  /// Throws Error, one line: torn, a header that is no JSON or above 16 MiB, an unknown type, a shape that does not match its
  /// bytes, ranges that overlap, leave holes or end past the file.
  explicit SafetensorsFile(const std::filesystem::path& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  std::span<const TensorEntry> tensors() const { return tensors_; }  // in order of offset
  const TensorEntry* find(std::string_view name) const;
  const std::vector<std::pair<std::string, std::string>>& metadata() const { return metadata_; }
  std::vector<std::byte> read(const TensorEntry& tensor) const;
  std::vector<double> read_f64(const TensorEntry& tensor) const;  // of any type; I64 must be exact

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  std::vector<TensorEntry> tensors_;
  std::vector<std::pair<std::string, std::string>> metadata_;
};

/// Rows of one stage kept whole. Rows of `attn_scores` and `attn_probs` are [n_heads, position + 1].
struct StageTensor {
  std::int32_t layer = 0;
  Stage stage = Stage::x_in;
  DType dtype = DType::f32;
  std::vector<std::int32_t> positions;           // ascending
  std::vector<std::span<const std::byte>> rows;  // one a position
};

/// `<layer>.<stage>` [n_rows, dim]; `attn_probs` [n_rows, n_heads, keys] padded with 0 and `attn_scores` with -infinity;
/// `final_rms`, `lm_head_in` and `logits` without a layer. Where positions are not 0..n-1, `<name>.positions` I64 [n_rows]
/// holds them; `tokens` I64 as given (none where empty). Throws Error, also for rows of unequal length.
void write_stage_tensors(const std::filesystem::path& path, std::span<const StageTensor> tensors, std::int64_t n_heads,
                         std::span<const std::int32_t> tokens);

/// Rows of one stage as such a file holds them, cut to the keys that each sees.
struct StoredStage {
  std::int32_t layer = 0;  // `n_layers` for stages without a layer
  Stage stage = Stage::x_in;
  DType dtype = DType::f32;
  std::map<std::int32_t, std::vector<std::byte>> rows;  // by position
};
/// All stages of a file that write_stage_tensors wrote. Throws Error, one line: a tensor that is no stage, a shape that is none
/// of a stage's, positions that do not ascend from 0, a layer outside 0..n_layers-1.
std::vector<StoredStage> read_stage_tensors(const std::filesystem::path& path, std::int32_t n_layers);

}  // namespace greta
