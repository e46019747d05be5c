// Writes GGUF v3 files: metadata first, then tensor data in any order and from any thread. Whole or not there at all.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "model/gguf.h"

namespace greta {

/// The file is written as `<path>.incomplete` and renamed by `finish`; a writer that dies before leaves only the former.
/// Every failure (no space, no permission) throws Error, one line with the file.
class GgufWriter {
 public:
  /// Refuses an existing `path` unless `overwrite`, and a path that another process is writing.
  GgufWriter(std::filesystem::path path, bool overwrite);
  ~GgufWriter();
  GgufWriter(const GgufWriter&) = delete;
  GgufWriter& operator=(const GgufWriter&) = delete;

  // Metadata, in the order of the calls.
  void set(std::string_view key, std::uint32_t value);
  void set(std::string_view key, float value);
  void set(std::string_view key, bool value);
  void set(std::string_view key, std::string_view value);
  void set(std::string_view key, const char* value) { set(key, std::string_view(value)); }
  void set(std::string_view key, std::span<const std::string> values);
  void set(std::string_view key, std::span<const std::int32_t> values);
  /// A value of any type, as it was read.
  void set(std::string_view key, const GgufValue& value);

  /// Declares a tensor; `shape` has ne0 (contiguous) first. Returns its number. Rows must be whole blocks.
  std::size_t add_tensor(std::string name, DType dtype, std::vector<std::int64_t> shape);
  /// Bytes of all tensors declared.
  std::uint64_t data_bytes() const;

  /// Writes header, metadata and tensor table and reserves the space of the data. Nothing can be declared afterwards.
  void begin_data();
  /// Bytes of a tensor from `offset` of its data. Any thread; pieces must not overlap.
  void write(std::size_t tensor, std::uint64_t offset, std::span<const std::byte> bytes);
  /// Checks that every byte was written, flushes to the disk and gives the file its name.
  void finish();

 private:
  struct Entry {
    std::string name;
    DType dtype = DType::f32;
    std::vector<std::int64_t> shape;
    std::uint64_t bytes = 0;
    std::uint64_t offset = 0;  // from the start of the data
  };
  void begin_value(std::string_view key, GgufType type);
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  [[noreturn]] void fail_with(int code, std::string_view what) const;

  std::filesystem::path path_, incomplete_;
  bool overwrite_ = false;
  int fd_ = -1;
  std::string values_;  // encoded metadata
  std::uint64_t n_values_ = 0;
  std::vector<Entry> entries_;
  std::uint64_t data_start_ = 0;
  std::atomic<std::uint64_t> written_{0};
};

}  // namespace greta
