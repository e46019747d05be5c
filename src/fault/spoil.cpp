#include "fault/spoil.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>

#include "core/activation_blocks.h"
#include "core/blocks.h"
#include "core/error.h"
#include "core/half.h"
#include "core/quantize.h"
#include "ops/cpu/convert.h"

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
Bits stepped(Bits bits, std::int64_t ulps, Bits sign_mask, Bits infinity) {
  const Bits magnitude = bits & static_cast<Bits>(~sign_mask);
  if (magnitude >= infinity) return bits;  // infinities and NaN stay
  const auto moved = static_cast<std::uint64_t>(magnitude) + static_cast<std::uint64_t>(ulps);
  const auto capped = moved >= infinity ? static_cast<Bits>(infinity - 1) : static_cast<Bits>(moved);
  return static_cast<Bits>(bits & sign_mask) | capped;
}

template <class Bits>
void store(std::byte* p, Bits bits) {
  std::memcpy(p, &bits, sizeof bits);
}

/// What a change by value makes of x; nullopt: it steps by ULPs.
std::optional<double> moved(const Spoil& how, double x) {
  if (how.nan) return std::numeric_limits<double>::quiet_NaN();
  if (how.rel) return x * (1 + *how.rel);
  if (how.add) return x + *how.add;
  return std::nullopt;
}

std::uint16_t stepped_f16(std::uint16_t bits, std::int64_t ulps) {
  return stepped<std::uint16_t>(bits, ulps, std::uint16_t{0x8000u}, std::uint16_t{0x7c00u});
}

/// Steps a code away from zero (`negative`: below it), up to +-127; returns the steps that are left for the scale.
std::int64_t step_code(std::int8_t& code, bool negative, std::int64_t steps) {
  const std::int64_t room = 127 - std::abs(static_cast<int>(code));
  const std::int64_t taken = std::clamp<std::int64_t>(steps, 0, std::max<std::int64_t>(room, 0));
  code = static_cast<std::int8_t>(negative ? code - taken : code + taken);
  return steps - taken;
}

void spoil_q8_f32(const Spoil& how, BlockQ8F32& block, std::int64_t i) {
  if (how.nan) {
    block.d = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  std::int8_t& code = block.q[i];
  const double d = static_cast<double>(block.d);
  const double x = static_cast<double>(code) * d;
  const auto value = moved(how, x);
  std::int64_t steps = how.ulp;
  bool negative = code < 0;
  if (value && block.d != 0) {
    negative = *value < 0 || (*value == 0 && code < 0);
    // A move by less than half a code is one code all the same: a perturbation that changes nothing proves nothing.
    const double nearest = std::nearbyint(*value / d);
    const double wanted = nearest != code || *value == x ? nearest : (*value > x ? code + 1.0 : code - 1.0);
    code = static_cast<std::int8_t>(std::clamp(wanted, -127.0, 127.0));
    steps = std::fabs(wanted) > 127 ? 1 : 0;
  } else if (block.d != 0) {
    steps = step_code(code, negative, steps);
  } else if (code == 0) {
    code = 1;
  }
  block.d = std::bit_cast<float>(stepped<std::uint32_t>(std::bit_cast<std::uint32_t>(block.d), steps, 1u << 31, 0x7f800000u));
}

void spoil_q8_0(const Spoil& how, std::byte* row, std::int64_t index) {
  constexpr std::int64_t kBlock = sizeof(BlockQ8_0::q);
  std::byte* at = row + row_bytes(DType::q8_0, index / kBlock * kBlock);
  auto block = load<BlockQ8_0>(at);
  std::int8_t& code = block.q[index % kBlock];
  float values[kBlock];
  dequantize_row(DType::q8_0, at, kBlock, values);
  float& x = values[index % kBlock];
  const auto value = moved(how, static_cast<double>(x));
  if (value) x = static_cast<float>(*value);
  if (value && !std::isfinite(x)) {
    block.d = 0x7e00;  // NaN
  } else if (value) {
    quantize_block(values, block);
  } else {
    const bool no_scale = (block.d & 0x7fffu) == 0;
    const bool negative = code < 0 || (code == 0 && (block.d & 0x8000u) != 0);
    const std::int64_t left = no_scale ? how.ulp : step_code(code, negative, how.ulp);
    if (no_scale && code == 0) code = 1;
    block.d = stepped_f16(block.d, left);
  }
  std::memcpy(at, &block, sizeof block);
}

/// Elements of one block whose values differ (their bits, as double).
std::int64_t changed_in_block(const std::byte* before, const std::byte* after, DType dtype) {
  const std::int64_t n = dtype_info(dtype).block_elems;
  std::vector<double> was(static_cast<std::size_t>(n)), is(was.size());
  widen_row(dtype, before, n, was.data());
  widen_row(dtype, after, n, is.data());
  std::int64_t changed = 0;
  for (std::size_t i = 0; i < was.size(); ++i) changed += std::memcmp(&was[i], &is[i], sizeof(double)) != 0 ? 1 : 0;
  return changed;
}

}  // namespace

void spoil(const Spoil& how, std::byte* row, std::int64_t index, DType dtype) {
  if (dtype == DType::q8_f32)
    return spoil_q8_f32(how, reinterpret_cast<BlockQ8F32*>(row)[index / kActivationBlock], index % kActivationBlock);
  if (dtype == DType::q8_0) return spoil_q8_0(how, row, index);
  std::byte* element = row + row_bytes(dtype, index);
  if (dtype == DType::f64) {
    const auto before = load<std::uint64_t>(element);
    const auto value = moved(how, std::bit_cast<double>(before));
    return store(element, value ? std::bit_cast<std::uint64_t>(*value)
                                : stepped<std::uint64_t>(before, how.ulp, 1ull << 63, 0x7ff0000000000000ull));
  }
  if (dtype == DType::f32) {
    const auto before = load<std::uint32_t>(element);
    const auto value = moved(how, static_cast<double>(std::bit_cast<float>(before)));
    return store(element, value ? std::bit_cast<std::uint32_t>(static_cast<float>(*value))
                                : stepped<std::uint32_t>(before, how.ulp, 1u << 31, 0x7f800000u));
  }
  if (dtype == DType::f16) {
    const auto before = load<std::uint16_t>(element);
    const auto value = moved(how, static_cast<double>(f16_to_f32(before)));
    return store(element, value ? f32_to_f16(static_cast<float>(*value)) : stepped_f16(before, how.ulp));
  }
  if (dtype == DType::bf16) {
    const auto before = load<std::uint16_t>(element);
    const auto value = moved(how, static_cast<double>(bf16_to_f32(before)));
    return store(element, value ? f32_to_bf16(static_cast<float>(*value))
                                : stepped<std::uint16_t>(before, how.ulp, std::uint16_t{0x8000u}, std::uint16_t{0x7f80u}));
  }
  fail("elements of type {} cannot be perturbed", name(dtype));
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
