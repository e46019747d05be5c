#include "fault/spoil.h"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>

#include "core/blocks.h"
#include "core/error.h"
#include "core/half.h"

namespace greta {
namespace {

template <class Bits>
Bits load(const std::byte* p) {
  Bits bits;
  std::memcpy(&bits, p, sizeof bits);
  return bits;
}

/// Magnitude bits of an IEEE type grow with the magnitude, so +n steps n ULPs away from zero.
template <class Bits>
Bits stepped(Bits bits, std::int32_t ulps, Bits sign_mask, Bits infinity) {
  const Bits magnitude = bits & static_cast<Bits>(~sign_mask);
  if (magnitude >= infinity) return bits;  // infinities and NaN stay
  const auto moved = static_cast<std::uint64_t>(magnitude) + static_cast<std::uint64_t>(ulps);
  const auto capped = moved >= infinity ? static_cast<Bits>(infinity - 1) : static_cast<Bits>(moved);
  return static_cast<Bits>(bits & sign_mask) | capped;
}

template <class Bits>
std::int64_t store(std::byte* p, Bits before, Bits after) {
  std::memcpy(p, &after, sizeof after);
  return before != after ? 1 : 0;
}

std::uint16_t stepped_f16(std::uint16_t bits, std::int32_t ulps) {
  return stepped<std::uint16_t>(bits, ulps, std::uint16_t{0x8000u}, std::uint16_t{0x7c00u});
}

/// What a perturbation by value makes of x; nullopt: it steps by ULPs.
std::optional<double> moved(const FaultSpec& fault, double x) {
  if (fault.kind == FaultKind::nan) return std::numeric_limits<double>::quiet_NaN();
  if (fault.rel) return x * (1 + *fault.rel);
  if (fault.add) return x + *fault.add;
  return std::nullopt;
}

/// Elements of one block whose values differ (their bits, as F32).
std::int64_t changed_in_block(const std::byte* before, const std::byte* after, DType dtype) {
  const auto n = static_cast<std::size_t>(dtype_info(dtype).block_elems);
  std::vector<float> was(n), is(n);
  dequantize_row(dtype, before, static_cast<std::int64_t>(n), was.data());
  dequantize_row(dtype, after, static_cast<std::int64_t>(n), is.data());
  std::int64_t changed = 0;
  for (std::size_t i = 0; i < n; ++i) changed += std::memcmp(&was[i], &is[i], sizeof(float)) != 0 ? 1 : 0;
  return changed;
}

std::int64_t spoil_q8_0(const FaultSpec& fault, std::byte* row, std::int64_t index) {
  constexpr std::int64_t kBlock = sizeof(BlockQ8_0::q);
  std::byte* at = row + row_bytes(DType::q8_0, index / kBlock * kBlock);
  const auto before = load<BlockQ8_0>(at);
  BlockQ8_0 after = before;
  std::int8_t& code = after.q[index % kBlock];
  float values[kBlock];
  dequantize_row(DType::q8_0, at, kBlock, values);
  float& x = values[index % kBlock];
  const auto value = moved(fault, static_cast<double>(x));
  if (value) x = static_cast<float>(*value);
  if (value && !std::isfinite(x)) {
    after.d = 0x7e00;  // NaN
  } else if (value) {
    quantize_row_reference(DType::q8_0, values, kBlock, reinterpret_cast<std::byte*>(&after));
  } else {
    std::int32_t left = fault.ulp;
    const bool no_scale = (before.d & 0x7fffu) == 0;
    const int away = code < 0 || (code == 0 && (before.d & 0x8000u) != 0) ? -1 : 1;
    for (; left > 0 && std::abs(code + away) <= 127 && !no_scale; --left) code = static_cast<std::int8_t>(code + away);
    if (no_scale && code == 0) code = 1;
    after.d = stepped_f16(after.d, left);
  }
  std::memcpy(at, &after, sizeof after);
  return changed_in_block(reinterpret_cast<const std::byte*>(&before), at, DType::q8_0);
}

}  // namespace

std::int64_t spoil(const FaultSpec& fault, std::byte* row, std::int64_t index, DType dtype) {
  if (dtype == DType::q8_0) return spoil_q8_0(fault, row, index);
  std::byte* element = row + index * dtype_info(dtype).block_bytes;
  if (dtype == DType::f64) {
    const auto before = load<std::uint64_t>(element);
    const auto value = moved(fault, std::bit_cast<double>(before));
    return store(element, before,
                 value ? std::bit_cast<std::uint64_t>(*value)
                       : stepped<std::uint64_t>(before, fault.ulp, 1ull << 63, 0x7ff0000000000000ull));
  }
  if (dtype == DType::f32) {
    const auto before = load<std::uint32_t>(element);
    const auto value = moved(fault, static_cast<double>(std::bit_cast<float>(before)));
    return store(element, before,
                 value ? std::bit_cast<std::uint32_t>(static_cast<float>(*value))
                       : stepped<std::uint32_t>(before, fault.ulp, 1u << 31, 0x7f800000u));
  }
  if (dtype == DType::f16) {
    const auto before = load<std::uint16_t>(element);
    const auto value = moved(fault, static_cast<double>(f16_to_f32(before)));
    return store(element, before, value ? f32_to_f16(static_cast<float>(*value)) : stepped_f16(before, fault.ulp));
  }
  fail("fault {}: elements of type {} cannot be perturbed", to_string(fault), name(dtype));
}

std::int64_t changed_elements(const std::vector<std::byte>& before, const std::vector<std::byte>& after, DType dtype) {
  const DTypeInfo& info = dtype_info(dtype);
  const auto size = static_cast<std::size_t>(info.block_bytes);
  std::int64_t changed = 0;
  for (std::size_t at = 0; at + size <= before.size(); at += size) {
    if (std::memcmp(before.data() + at, after.data() + at, size) == 0) continue;
    changed += info.block_elems == 1 ? 1 : changed_in_block(before.data() + at, after.data() + at, dtype);
  }
  return changed;
}

}  // namespace greta
