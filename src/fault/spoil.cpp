#include "fault/spoil.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

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
bool store(std::byte* p, Bits before, Bits after) {
  std::memcpy(p, &after, sizeof after);
  return before != after;
}

}  // namespace

bool spoil(const FaultSpec& fault, std::byte* element, DType dtype) {
  const bool nan = fault.kind == FaultKind::nan;
  if (dtype == DType::f64) {
    const auto before = load<std::uint64_t>(element);
    const double x = std::bit_cast<double>(before);
    auto after = std::bit_cast<std::uint64_t>(fault.rel ? x * (1 + *fault.rel) : x);
    if (nan) after = std::bit_cast<std::uint64_t>(std::numeric_limits<double>::quiet_NaN());
    else if (!fault.rel) after = stepped<std::uint64_t>(before, fault.ulp, 1ull << 63, 0x7ff0000000000000ull);
    return store(element, before, after);
  }
  if (dtype == DType::f32) {
    const auto before = load<std::uint32_t>(element);
    const auto x = static_cast<double>(std::bit_cast<float>(before));
    auto after = std::bit_cast<std::uint32_t>(static_cast<float>(fault.rel ? x * (1 + *fault.rel) : x));
    if (nan) after = std::bit_cast<std::uint32_t>(std::numeric_limits<float>::quiet_NaN());
    else if (!fault.rel) after = stepped<std::uint32_t>(before, fault.ulp, 1u << 31, 0x7f800000u);
    return store(element, before, after);
  }
  if (dtype == DType::f16) {
    const auto before = load<std::uint16_t>(element);
    const auto x = static_cast<double>(f16_to_f32(before));
    std::uint16_t after = before;
    if (nan) after = 0x7e00u;
    else if (fault.rel) after = f32_to_f16(static_cast<float>(x * (1 + *fault.rel)));
    else after = stepped<std::uint16_t>(before, fault.ulp, std::uint16_t{0x8000u}, std::uint16_t{0x7c00u});
    return store(element, before, after);
  }
  fail("fault {}: elements of type {} cannot be perturbed", to_string(fault), name(dtype));
}

std::int64_t changed_elements(const std::vector<std::byte>& before, const std::vector<std::byte>& after, DType dtype) {
  const auto size = static_cast<std::size_t>(dtype_info(dtype).block_bytes);
  std::int64_t changed = 0;
  for (std::size_t at = 0; at + size <= before.size(); at += size)
    changed += std::memcmp(before.data() + at, after.data() + at, size) != 0 ? 1 : 0;
  return changed;
}

}  // namespace greta
