#include "audit/storage_bound.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/half.h"

namespace greta::audit {
namespace {

constexpr std::size_t kBlock = 32;
constexpr double kUnit = 0x1p-24, kSmallest = 0x1p-150;  // codes are made in F32

/// A block's scale as it is stored, and how far rounding may move it.
struct Scale {
  double d = 0;
  double error = 0;
};

Scale plain_scale(double exact, double unit) { return {exact, exact * unit + kSmallest}; }

/// Rounded to binary16. Where F32 has rounded across the midpoint of two numbers, the neighbour is as right.
Scale half_scale(double exact, double unit) {
  const auto rounded = [](double d) { return static_cast<double>(f16_to_f32(f32_to_f16(static_cast<float>(d)))); };
  const double error = exact * unit + kSmallest;
  const double low = rounded(exact - error), high = rounded(exact + error), d = rounded(exact);
  return {d, std::max(d - low, high - d)};
}

/// One block: codes of x / exact, values code * scale.d.
void put_block(std::span<const double> x, std::size_t first, bool halves, double operand_unit, Estimate& out) {
  double largest = 0;
  bool finite = true;
  for (std::size_t i = first; i < first + kBlock; ++i) {
    finite = finite && std::isfinite(x[i]);
    largest = std::max(largest, std::fabs(x[i]));
  }
  const double exact = largest / 127;  // too small for F32, it becomes 0: within kSmallest, which every code passes on
  const double unit = kUnit + operand_unit;
  const Scale scale = halves ? half_scale(exact, unit) : plain_scale(exact, unit);
  // Relative error of x / d: x, d, the quotient, and for q8_0 the reciprocal before the product.
  const double quotient = 2 * operand_unit + 4 * kUnit + 2 * kSmallest / std::max(exact, kSmallest);
  for (std::size_t i = first; i < first + kBlock; ++i) {
    if (!finite) {
      out.value[i] = std::numeric_limits<double>::quiet_NaN();
      continue;
    }
    const double y = exact > 0 ? x[i] / exact : 0;
    const double code = std::clamp(std::round(y), -127.0, 127.0);
    const bool ambiguous =
        std::fabs(std::fabs(std::fabs(y) - std::trunc(std::fabs(y))) - 0.5) <= quotient * std::fabs(y) + 1e-12;
    const double shared = std::fabs(code) * scale.error;
    const double all = shared + (ambiguous ? scale.d + scale.error : 0);
    out.value[i] = code * scale.d;
    out.bound[i] = out.worst[i] = kSecondOrder * all;
    out.common[i] = kSecondOrder * shared;
  }
}

Estimate blocks(std::span<const double> x, DType held, bool halves) {
  Estimate out(x.size(), true);
  out.group = kBlock;
  const double operand_unit = held == DType::f64 ? kUnit : 0;
  for (std::size_t first = 0; first + kBlock <= x.size(); first += kBlock) put_block(x, first, halves, operand_unit, out);
  return out;
}

}  // namespace

Estimate kv_write(std::span<const double> x, DType dtype, DType held) {
  if (dtype == DType::q8_0) return blocks(x, held, true);
  Estimate out(x.size());
  Arithmetic storage;
  storage.accumulator = rounding_of(dtype);
  const bool exact = rounding_of(held).unit >= storage.accumulator.unit;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double rounding = std::fabs(x[i]) * storage.accumulator.unit + storage.accumulator.smallest;
    if (exact) {
      put_exact(out, i, x[i]);
    } else {
      put(out, i, static_cast<long double>(x[i]), {rounding, rounding, 0}, storage);
    }
  }
  return out;
}

Estimate activation_blocks(std::span<const double> x, DType held) { return blocks(x, held, false); }

}  // namespace greta::audit
