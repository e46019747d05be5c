// One GGUF file (one part of a split model): bytes to metadata and tensor table. Every count is checked before it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/gguf.h"

namespace greta {

struct GgufPart {
  std::uint32_t version = 0;
  std::uint64_t alignment = 32;
  std::vector<std::pair<std::string, GgufValue>> metadata;  // in file order
  std::vector<GgufTensor> tensors;                          // in file order; `data` points into the bytes
};

/// `bytes` is the whole file and must outlive the result; `file` is its name, for messages; `part` is stored in the tensors.
/// Throws Error, one line: file, offset, what was found and what was wanted.
GgufPart parse_gguf(std::span<const std::byte> bytes, const std::string& file, int part);

}  // namespace greta
