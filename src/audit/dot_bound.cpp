#include "audit/dot_bound.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "audit/wider_vectors.h"
#include "core/error.h"

namespace greta::audit {
namespace {

constexpr int kMostLanes = 64;
constexpr std::size_t kFastLanes = 16;
typedef double Eight __attribute__((vector_size(64)));

typedef long long EightInts __attribute__((vector_size(64)));

struct Lanes16 {
  double sum[kFastLanes];
  double squares[kFastLanes];
  double before[kFastLanes];
  double alike[kFastLanes];
};

/// 16 chains over n terms, n a multiple of 16: loops that compilers turn into vectors. The local arrays cannot alias the
/// operands.
GRETA_WIDER_VECTORS void chains16(const double* x, const double* w, std::size_t n, double unit, Lanes16& out) {
  double sum[kFastLanes] = {}, squares[kFastLanes] = {}, before[kFastLanes] = {}, alike[kFastLanes] = {};
  for (std::size_t i = 0; i < n; i += kFastLanes) {
    for (std::size_t lane = 0; lane < kFastLanes; ++lane) {
      const double term = x[i + lane] * w[i + lane];
      const double partial = sum[lane] + term;
      const double digit = unit * std::fabs(partial);  // as rounds_alike() has it
      alike[lane] += ((std::fabs(term - before[lane]) < 4 * digit) & (std::fabs(term) > 0x1p-9 * digit)) ? 1.0 : 0.0;
      squares[lane] += partial * partial;
      sum[lane] = partial;
      before[lane] = term;
    }
  }
  std::memcpy(out.sum, sum, sizeof sum);
  std::memcpy(out.squares, squares, sizeof squares);
  std::memcpy(out.before, before, sizeof before);
  std::memcpy(out.alike, alike, sizeof alike);
}

/// Adds the lanes of `sum` by the tree; the squares of the new partial sums.
template <class Real>
double reduce(Real* sum, std::size_t lanes) {
  double squares = 0;
  for (std::size_t width = lanes / 2; width > 0; width /= 2) {
    for (std::size_t i = 0; i < width; ++i) {
      sum[i] += sum[i + width];
      const auto partial = static_cast<double>(sum[i]);
      squares += partial * partial;
    }
  }
  return squares;
}

DotSum<double> dot16(std::span<const double> x, std::span<const double> w, double unit) {
  Lanes16 lanes;
  const std::size_t whole = x.size() / kFastLanes * kFastLanes;
  chains16(x.data(), w.data(), whole, unit, lanes);
  DotSum<double> out;
  for (std::size_t i = whole; i < x.size(); ++i) {
    double& sum = lanes.sum[i - whole];
    const double term = x[i] * w[i];
    sum += term;
    lanes.squares[i - whole] += sum * sum;
    lanes.alike[i - whole] += rounds_alike(term, lanes.before[i - whole], sum, unit) ? 1.0 : 0.0;
  }
  for (std::size_t lane = 0; lane < kFastLanes; ++lane) {
    out.squares += lanes.squares[lane];
    out.alike += static_cast<std::int64_t>(lanes.alike[lane]);
  }
  out.squares += reduce(lanes.sum, kFastLanes);
  out.value = lanes.sum[0];
  return out;
}

template <class Real>
DotSum<Real> dot_any(std::span<const double> x, std::span<const double> w, const Arithmetic& arithmetic) {
  const auto lanes = static_cast<std::size_t>(arithmetic.lanes);
  std::array<Real, kMostLanes> sums{};
  std::array<double, kMostLanes> before{};
  DotSum<Real> out;
  std::size_t lane = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Real term = static_cast<Real>(x[i]) * static_cast<Real>(w[i]);
    const auto product = static_cast<double>(term);
    sums[lane] += term;
    const auto partial = static_cast<double>(sums[lane]);
    out.squares += partial * partial;
    out.term_squares += product * product;
    out.alike += rounds_alike(product, before[lane], partial, arithmetic.unit());
    before[lane] = product;
    lane = lane + 1 == lanes ? 0 : lane + 1;
  }
  if (!arithmetic.fused) {  // products that are alike round alike
    out.squares += out.term_squares;
    out.alike *= 2;
  }
  out.squares += reduce(sums.data(), lanes);
  out.value = sums[0];
  return out;
}

template <class Real>
void matmul_rows(std::span<const std::span<const double>> rows, std::int64_t n_out, const WeightRow& weight,
                 std::span<const double> bias, const Arithmetic& arithmetic, std::vector<Estimate>& out) {
  std::vector<double> weights(rows[0].size());
  for (std::int64_t o = 0; o < n_out; ++o) {
    const auto at = static_cast<std::size_t>(o);
    weight(o, weights);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const DotSum<Real> sum = dot<Real>(rows[r], weights, arithmetic);
      Errors errors = dot_errors(sum, arithmetic);
      Real value = sum.value;
      if (!bias.empty()) {
        value += static_cast<Real>(bias[at]);
        const double rounding = arithmetic.unit() * std::fabs(static_cast<double>(value));
        errors.bound += rounding;
        errors.worst += rounding;
      }
      put(out[r], at, value, errors, arithmetic);
    }
  }
}

}  // namespace

template <class Real>
DotSum<Real> dot(std::span<const double> x, std::span<const double> w, const Arithmetic& arithmetic) {
  const auto lanes = static_cast<std::size_t>(arithmetic.lanes);
  if (arithmetic.lanes < 1 || arithmetic.lanes > kMostLanes || (lanes & (lanes - 1)) != 0) {
    fail("arithmetic of {} lanes: a power of two up to {} is needed", arithmetic.lanes, kMostLanes);
  }
  DotSum<Real> out;
  if constexpr (std::is_same_v<Real, double>) {
    const bool fast = lanes == kFastLanes && arithmetic.fused && arithmetic.operand.unit == 0;
    out = fast ? dot16(x, w, arithmetic.unit()) : dot_any<Real>(x, w, arithmetic);
  } else {
    out = dot_any<Real>(x, w, arithmetic);
  }
  out.roundings = static_cast<std::int64_t>(x.size() * (arithmetic.fused ? 1 : 2) + lanes - 1);
  return out;
}
template DotSum<double> dot(std::span<const double>, std::span<const double>, const Arithmetic&);
template DotSum<long double> dot(std::span<const double>, std::span<const double>, const Arithmetic&);

Errors sum_errors(double squares, std::int64_t roundings, std::int64_t alike, const Arithmetic& arithmetic) {
  const double u = arithmetic.unit(), size = std::sqrt(squares), n = static_cast<double>(roundings);
  const double every = std::sqrt(n);
  const double likely = arithmetic.truncates ? every : std::fmin(every, 6 + std::sqrt(static_cast<double>(alike)));
  // Errors are multiplied by what comes after them: (1 + u)^n at worst.
  const double floor = n * arithmetic.accumulator.smallest;
  return {likely * u * size * std::exp(std::fmin(likely * every, n) * u) + floor, every * u * size * std::exp(n * u) + floor,
          0};
}

template <class Real>
Errors dot_errors(const DotSum<Real>& sum, const Arithmetic& arithmetic) {
  Errors errors = sum_errors(sum.squares, sum.roundings, sum.alike, arithmetic);
  if (arithmetic.operand.unit > 0) {  // both factors of every term
    const double size = arithmetic.operand.unit * std::sqrt(sum.term_squares);
    const double every = 2 * std::sqrt(static_cast<double>(sum.roundings));
    errors.bound += std::fmin(every, 6 * std::sqrt(2.0)) * size;
    errors.worst += every * size;
  }
  return errors;
}
template Errors dot_errors(const DotSum<double>&, const Arithmetic&);
template Errors dot_errors(const DotSum<long double>&, const Arithmetic&);

std::vector<Estimate> matmul(std::span<const std::span<const double>> rows, std::int64_t n_out, const WeightRow& weight,
                             std::span<const double> bias, const Arithmetic& arithmetic) {
  std::vector<Estimate> out(rows.size(), Estimate(static_cast<std::size_t>(n_out)));
  if (rows.empty()) return out;
  if (arithmetic.is_double()) {
    matmul_rows<long double>(rows, n_out, weight, bias, arithmetic, out);
  } else {
    matmul_rows<double>(rows, n_out, weight, bias, arithmetic, out);
  }
  for (Estimate& estimate : out) estimate.common = estimate.bound;
  return out;
}

}  // namespace greta::audit
