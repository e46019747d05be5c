#include "audit/dot_bound.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "audit/dot_tiles.h"
#include "audit/wider_vectors.h"
#include "core/error.h"

namespace greta::audit {
namespace {

constexpr int kMostLanes = 64;
constexpr std::size_t kFastLanes = 16;
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
  out.squares += add_by_tree(lanes.sum, kFastLanes);
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
  out.squares += add_by_tree(sums.data(), lanes);
  out.value = sums[0];
  return out;
}

/// Whether loops of 16 lanes do: those of plan `reference`.
bool in_fast_lanes(const Arithmetic& arithmetic) {
  return arithmetic.lanes == static_cast<int>(kFastLanes) && arithmetic.fused && arithmetic.operand.unit == 0;
}

/// One output of a row, a bias of 0 included.
template <class Real>
void put_sum(const DotSum<Real>& sum, std::span<const double> bias, const Arithmetic& arithmetic, std::size_t o,
             Estimate& out) {
  Errors errors = dot_errors(sum, arithmetic);
  Real value = sum.value;
  if (!bias.empty()) {
    value += static_cast<Real>(bias[o]);
    const double rounding = arithmetic.unit() * std::fabs(static_cast<double>(value));
    errors.bound += rounding;
    errors.worst += rounding;
  }
  put(out, o, value, errors, arithmetic);
}

template <class Real>
void matmul_rows(std::span<const std::span<const double>> rows, std::int64_t n_out, const WeightRow& weight,
                 std::span<const double> bias, const Arithmetic& arithmetic, std::vector<Estimate>& out) {
  std::vector<double> weights(rows[0].size());
  for (std::int64_t o = 0; o < n_out; ++o) {
    const auto at = static_cast<std::size_t>(o);
    weight(o, weights);
    for (std::size_t r = 0; r < rows.size(); ++r)
      put_sum(dot<Real>(rows[r], weights, arithmetic), bias, arithmetic, at, out[r]);
  }
}

void matmul_tiles(std::span<const std::span<const double>> rows, std::int64_t n_out, const WeightRow& weight,
                  std::span<const double> bias, const Arithmetic& arithmetic, std::vector<Estimate>& out) {
  const std::size_t n = rows[0].size();
  const auto outputs = static_cast<std::size_t>(n_out);
  std::vector<double> weights(DotTiles::kOutputs * n);
  DotTiles tiles(rows);
  for (std::size_t first = 0; first < outputs; first += DotTiles::kOutputs) {
    const std::size_t count = std::min(DotTiles::kOutputs, outputs - first);
    for (std::size_t o = 0; o < count; ++o) weight(static_cast<std::int64_t>(first + o), std::span(weights).subspan(o * n, n));
    tiles.add(weights);
    for (std::size_t r = 0; r < rows.size(); ++r)
      for (std::size_t o = 0; o < count; ++o) put_sum(tiles.sum(r, o), bias, arithmetic, first + o, out[r]);
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
    out = in_fast_lanes(arithmetic) ? dot16(x, w, arithmetic.unit()) : dot_any<Real>(x, w, arithmetic);
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

bool leaves_alike_out(const Arithmetic& arithmetic) { return !arithmetic.is_double() && in_fast_lanes(arithmetic); }

std::vector<Estimate> matmul(std::span<const std::span<const double>> rows, std::int64_t n_out, const WeightRow& weight,
                             std::span<const double> bias, const Arithmetic& arithmetic, AlikeRoundings alike) {
  std::vector<Estimate> out(rows.size(), Estimate(static_cast<std::size_t>(n_out)));
  if (rows.empty()) return out;
  if (arithmetic.is_double()) {
    matmul_rows<long double>(rows, n_out, weight, bias, arithmetic, out);
  } else if (alike == AlikeRoundings::may_be_left_out && leaves_alike_out(arithmetic)) {
    matmul_tiles(rows, n_out, weight, bias, arithmetic, out);
  } else {
    matmul_rows<double>(rows, n_out, weight, bias, arithmetic, out);
  }
  for (Estimate& estimate : out) estimate.common = estimate.bound;
  return out;
}

}  // namespace greta::audit
