#include "fault/spoil.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

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

/// What a perturbation by value makes of x; nullopt: it steps by ULPs.
std::optional<double> moved(const FaultSpec& fault, double x) {
  if (fault.kind == FaultKind::nan) return std::numeric_limits<double>::quiet_NaN();
  if (fault.rel) return x * (1 + *fault.rel);
  if (fault.add) return x + *fault.add;
  return std::nullopt;
}

}  // namespace

bool spoil(const FaultSpec& fault, std::byte* element, DType dtype) {
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
    return store(element, before,
                 value ? f32_to_f16(static_cast<float>(*value))
                       : stepped<std::uint16_t>(before, fault.ulp, std::uint16_t{0x8000u}, std::uint16_t{0x7c00u}));
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
