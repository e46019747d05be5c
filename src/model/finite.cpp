#include "model/finite.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "core/blocks.h"
#include "core/error.h"
#include "core/half.h"

namespace greta {
namespace {

/// A piece of one tensor: units are elements, or blocks of a block format.
struct Piece {
  const GgufTensor* tensor = nullptr;
  std::int64_t first = 0;  // unit
  std::int64_t count = 0;  // units
};

constexpr std::int64_t kPieceUnits = 1 << 18;
constexpr std::int64_t kStride = 4096;  // units between looks at the result: the inner loop has no branch and vectorises

/// Index of the first word in data[0..count) whose exponent bits are all set, or -1; the words are `distance` bytes apart.
template <class Word>
std::int64_t first_non_finite(const std::byte* data, std::int64_t count, Word exponent, std::int64_t distance = sizeof(Word)) {
  const auto word = [&](std::int64_t i) {
    Word value;
    std::memcpy(&value, data + i * distance, sizeof(Word));
    return value;
  };
  for (std::int64_t start = 0; start < count; start += kStride) {
    const std::int64_t end = std::min(count, start + kStride);
    Word any = 0;
    for (std::int64_t i = start; i < end; ++i) any = static_cast<Word>(any | ((word(i) & exponent) == exponent ? 1 : 0));
    if (any == 0) continue;
    for (std::int64_t i = start; i < end; ++i) {
      if ((word(i) & exponent) == exponent) return i;
    }
  }
  return -1;
}

constexpr std::uint16_t kHalfExponent = 0x7c00u;

/// The first block with a scale or minimum that is not finite, or -1.
std::int64_t scan_blocks(DType dtype, const std::byte* data, std::int64_t count) {
  std::int64_t first = -1;
  for (const std::int64_t offset : scale_offsets(dtype)) {
    const auto found =
        first_non_finite<std::uint16_t>(data + offset, first < 0 ? count : first, kHalfExponent, dtype_info(dtype).block_bytes);
    if (found >= 0) first = found;
  }
  return first;
}

std::int64_t scan(const Piece& piece) {
  const DType dtype = *piece.tensor->dtype;
  const std::byte* data = piece.tensor->data + piece.first * dtype_info(dtype).block_bytes;
  switch (dtype) {
    case DType::f32:
      return first_non_finite<std::uint32_t>(data, piece.count, 0x7f800000u);
    case DType::f16:
      return first_non_finite<std::uint16_t>(data, piece.count, kHalfExponent);
    case DType::bf16:
      return first_non_finite<std::uint16_t>(data, piece.count, 0x7f80u);
    default:
      return scan_blocks(dtype, data, piece.count);
  }
}

NonFinite describe(const Piece& piece, std::int64_t unit) {
  const DType dtype = *piece.tensor->dtype;
  const auto& info = dtype_info(dtype);
  const std::byte* at = piece.tensor->data + unit * info.block_bytes;
  NonFinite found{piece.tensor, unit * info.block_elems, 0, info.block_elems > 1};
  if (found.block_scale) {
    for (const std::int64_t offset : scale_offsets(dtype)) {
      std::uint16_t scale;
      std::memcpy(&scale, at + offset, sizeof(scale));
      found.value = f16_to_f32(scale);
      if ((scale & kHalfExponent) == kHalfExponent) break;
    }
  } else {
    dequantize_row(dtype, at, 1, &found.value);
  }
  return found;
}

}  // namespace

std::optional<NonFinite> find_non_finite(std::span<const GgufTensor* const> tensors, int threads) {
  std::vector<Piece> pieces;
  for (const GgufTensor* tensor : tensors) {
    const std::int64_t units = static_cast<std::int64_t>(tensor->bytes) / dtype_info(*tensor->dtype).block_bytes;
    for (std::int64_t first = 0; first < units; first += kPieceUnits) {
      pieces.push_back({tensor, first, std::min(kPieceUnits, units - first)});
    }
  }
  std::vector<std::int64_t> found(pieces.size(), -1);
  std::atomic<std::size_t> next{0};
  std::atomic<std::size_t> lowest{pieces.size()};  // no piece after a hit needs a look
  const auto work = [&] {
    for (std::size_t i = next++; i < pieces.size() && i < lowest; i = next++) {
      found[i] = scan(pieces[i]);
      if (found[i] < 0) continue;
      std::size_t seen = lowest;
      while (i < seen && !lowest.compare_exchange_weak(seen, i)) {
      }
    }
  };
  const auto wanted = threads > 0 ? static_cast<std::size_t>(threads) : std::size_t{std::thread::hardware_concurrency()};
  std::vector<std::jthread> helpers;
  for (std::size_t i = 1; i < std::min(wanted, pieces.size()); ++i) helpers.emplace_back(work);
  work();
  helpers.clear();  // joins
  if (lowest == pieces.size()) return std::nullopt;
  const Piece& piece = pieces[lowest];
  return describe(piece, piece.first + found[lowest]);
}

void refuse_non_finite(const Gguf& file, std::span<const GgufTensor* const> tensors, int threads) {
  const auto bad = find_non_finite(tensors, threads);
  if (!bad) return;
  fail("{}: tensor '{}': {} {} is {}; the file is damaged or was converted wrongly", file.path().string(), bad->tensor->name,
       bad->block_scale ? "the scale of the block from element" : "element", bad->element, bad->value);
}

}  // namespace greta
