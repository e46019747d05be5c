// Fingerprint of a row: says whether two rows are equal (hash), how much they differ (sketch) and where (slice).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/dtype.h"
#include "core/fingerprint_mix.h"
#include "core/tensor.h"
#include "trace/record.h"

namespace greta {

struct FingerprintOptions {
  std::int64_t sample = 1024;  // elements of the slice, from the start
  bool sketch = true;
  bool statistics = true;  // min, max, mean, rms, abs_sum and the counts
};

/// Of `count` consecutive elements of dtype f64, f32, f16, bf16 or q8_0 (whole blocks); throws Error for other types. Of q8_0
/// every number is taken of the dequantised elements, each of which binary32 holds exactly.
///
/// hash: `lo` and `hi` are two independent sums mod 2^64 over all elements of a keyed mix of (index, bits), so any backend adds
/// them in any order, with 64-bit atomics and without carries. `bits` are the element's own bits as stored, widened to 64: -0
/// counts as +0, all NaNs as one, and the dtype is part of the key, so the same values in f16 and f32 hash differently. For a
/// fixed index the mix is a bijection of `bits`: a change of one element always changes the hash. Exact formula:
/// docs/formats.md.
/// statistics: in float64 over finite elements, in 8 fixed lanes (element i in lane i mod 8) added as a fixed tree; of no
/// finite element all are 0. The same bits on every machine. sketch: bucket and sign depend on the index alone; finite elements
/// only, added in order of index.
Fingerprint fingerprint(const std::byte* data, DType dtype, std::int64_t count, const FingerprintOptions& options);

/// The hash alone.
Hash128 row_hash(const std::byte* data, DType dtype, std::int64_t count);

/// Of a slice that came without its row (foreign lines): as f64, with `whole_row` false.
Fingerprint fingerprint_of_slice(std::span<const double> slice, const FingerprintOptions& options = {});

/// 32 hexadecimal digits, high word first; and back (nullopt where it is not that).
std::string to_hex(const Hash128& hash);
std::optional<Hash128> hash_from_hex(std::string_view hex);

}  // namespace greta
