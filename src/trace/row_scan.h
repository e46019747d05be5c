// The one pass over a row that a fingerprint needs: hash sums, and sums and counts for the statistics.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/dtype.h"
#include "core/row_sums.h"

namespace greta::trace {

/// Without statistics only the hash is made.
using RowScan = RowSums;

/// How many 64-bit lanes a register holds: SSE2 (and any other machine), AVX2, AVX-512.
enum class ScanWidth : std::uint8_t { two, four, eight };
bool scan_width_supported(ScanWidth width);

/// Of `count` elements of dtype f64, f32, f16, bf16 or q8_0 (whole blocks; its elements dequantised); throws Error for others.
/// Every width gives the same bits; nullopt takes the widest that this machine has.
RowScan scan_row(const std::byte* data, DType dtype, std::int64_t count, bool statistics,
                 std::optional<ScanWidth> width = std::nullopt);

}  // namespace greta::trace
