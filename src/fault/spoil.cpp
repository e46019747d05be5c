#include "fault/spoil.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "core/activation_blocks.h"
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

void spoil_code(const Spoil& how, BlockQ8F32& block, std::int64_t i) {
  if (how.nan) {
    block.d = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  std::int8_t& code = block.q[i];
  const auto value = moved(how, static_cast<double>(code) * static_cast<double>(block.d));
  const double wanted = value && block.d != 0 ? std::nearbyint(*value / static_cast<double>(block.d))
                                              : static_cast<double>(code + (code < 0 ? -how.ulp : how.ulp));
  code = static_cast<std::int8_t>(std::clamp(wanted, -127.0, 127.0));
}

}  // namespace

void spoil(const Spoil& how, std::byte* row, std::int64_t index, DType dtype) {
  if (dtype == DType::q8_f32) return spoil_code(how, reinterpret_cast<BlockQ8F32*>(row)[index / kActivationBlock], index % kActivationBlock);
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
    return store(element, value ? f32_to_f16(static_cast<float>(*value))
                                : stepped<std::uint16_t>(before, how.ulp, std::uint16_t{0x8000u}, std::uint16_t{0x7c00u}));
  }
  fail("elements of type {} cannot be perturbed", name(dtype));
}

std::int64_t changed_elements(const std::vector<std::byte>& before, const std::vector<std::byte>& after, DType dtype) {
  const auto size = static_cast<std::size_t>(dtype_info(dtype).block_bytes);
  std::int64_t changed = 0;
  for (std::size_t at = 0; at + size <= before.size(); at += size)
    changed += std::memcmp(before.data() + at, after.data() + at, size) != 0 ? 1 : 0;
  return changed;
}

}  // namespace greta
