// Work over tensors in pieces, on all processors, with progress.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace greta {

/// What one thread needs for a piece, kept from piece to piece.
struct PieceBuffers {
  std::vector<float> values;
  std::vector<std::byte> bytes;
};

/// Elements of a piece, about.
inline constexpr std::int64_t kPieceElements = 1 << 18;

/// Bytes done, of all.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// Calls work(i, buffers) for every i below `count`, in any order, on `threads` threads (0: one a processor); it returns the
/// bytes that it did, of which `total` are expected. Calls of `progress` (which may be empty) exclude one another. The first
/// exception stops the rest and is thrown on.
void for_pieces(std::size_t count, int threads, std::uint64_t total, const Progress& progress,
                const std::function<std::uint64_t(std::size_t, PieceBuffers&)>& work);

}  // namespace greta
