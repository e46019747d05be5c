// The bound of attention on matrix cores (split_core_arithmetic): it holds for a float64 model of such sums, and real errors
// are beyond it.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "audit/attention_bound.h"
#include "audit/local_error.h"
#include "audit/row_case.h"
#include "core/half.h"

namespace greta::test {
namespace {

double half(double x) { return static_cast<double>(f16_to_f32(f32_to_f16(static_cast<float>(x)))); }
double bfloat(double x) { return static_cast<double>(bf16_to_f32(f32_to_bf16(static_cast<float>(x)))); }

/// x cut to 24 bits, toward zero.
double truncated(double x) {
  if (x == 0) return x;
  int exponent = 0;
  std::frexp(x, &exponent);
  const double digit = std::ldexp(1.0, exponent - 24);
  return std::trunc(x / digit) * digit;
}

/// What goes wrong in a sum.
struct Plant {
  bool half_sums = false;
  std::size_t left_out = SIZE_MAX;  // a term
};

/// sum of x[i] * w[i] as an instruction of 16 terms at a time adds them, each time cut to 24 bits: x in terms, w exact.
double core_sum(DType type, double up, const std::vector<double>& x, const std::vector<double>& w, const Plant& plant) {
  double first = 0, others = 0;
  for (std::size_t begin = 0; begin < x.size(); begin += 16) {
    double high = 0, low = 0;
    for (std::size_t i = begin; i < std::min(begin + 16, x.size()); ++i) {
      if (i == plant.left_out) continue;
      if (type == DType::f16) {
        const double top = half(x[i] * up);
        high += top * w[i];
        low += half((x[i] * up - top) * 2048) / 2048 * w[i];
      } else {
        const double t0 = bfloat(x[i]), t1 = bfloat(x[i] - t0);
        high += t0 * w[i];
        low += (t1 + bfloat(x[i] - t0 - t1)) * w[i];
      }
    }
    first = truncated(first + high);
    others = truncated(others + low);
    if (plant.half_sums) first = half(first / up) * up;
  }
  return static_cast<double>(static_cast<float>(type == DType::f16 ? (first + others) / up : first + others));
}

struct Heads {
  std::vector<double> data;                // q or the probabilities
  std::vector<std::vector<double>> slots;  // [key][head_dim]
};
Heads heads(DType type, std::size_t n_keys, std::size_t head_dim, bool probs, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  Heads out;
  double sum = 0;
  for (std::size_t i = 0; i < (probs ? n_keys : head_dim); ++i) {
    out.data.push_back(probs ? std::exp(3 * normal(random)) : normal(random));
    sum += out.data.back();
  }
  for (double& x : out.data) x = static_cast<double>(static_cast<float>(probs ? x / sum : x));
  for (std::size_t j = 0; j < n_keys; ++j) {
    std::vector<double> slot;
    for (std::size_t d = 0; d < head_dim; ++d)
      slot.push_back(type == DType::f16 ? half(normal(random)) : bfloat(normal(random)));
    out.slots.push_back(slot);
  }
  return out;
}

audit::LocalError judge_qk(DType type, std::size_t n_keys, std::size_t head_dim, const Plant& plant, std::mt19937_64& random) {
  const Heads h = heads(type, n_keys, head_dim, false, random);
  std::vector<double> actual;
  for (const std::vector<double>& key : h.slots) {
    const double dot = core_sum(type, 16, h.data, key, plant);
    actual.push_back(static_cast<double>(static_cast<float>(dot) * 0.125f));
  }
  const auto key = [&](std::int64_t j) { return std::span<const double>(h.slots[static_cast<std::size_t>(j)]); };
  return audit::judge(audit::qk(h.data, static_cast<std::int64_t>(n_keys), key, {0.125, 0, 0}, audit::split_core_arithmetic()),
                      actual);
}

audit::LocalError judge_pv(DType type, std::size_t n_keys, std::size_t head_dim, const Plant& plant, std::mt19937_64& random) {
  const Heads h = heads(type, n_keys, head_dim, true, random);
  std::vector<double> actual;
  for (std::size_t d = 0; d < head_dim; ++d) {
    std::vector<double> column;
    for (const std::vector<double>& slot : h.slots) column.push_back(slot[d]);
    float total = -0.0f;
    for (std::size_t begin = 0; begin < n_keys; begin += 256) {
      const std::size_t end = std::min(begin + 256, n_keys);
      const auto part = [&](const std::vector<double>& all) {
        return std::vector<double>(all.begin() + static_cast<std::ptrdiff_t>(begin),
                                   all.begin() + static_cast<std::ptrdiff_t>(end));
      };
      Plant own = plant;
      own.left_out = plant.left_out >= begin && plant.left_out < end ? plant.left_out - begin : SIZE_MAX;
      total += static_cast<float>(core_sum(type, 32768, part(h.data), part(column), own));
    }
    actual.push_back(static_cast<double>(total));
  }
  const auto value = [&](std::int64_t j) { return std::span<const double>(h.slots[static_cast<std::size_t>(j)]); };
  return audit::judge(audit::pv(h.data, static_cast<std::int64_t>(head_dim), value, 0, audit::split_core_arithmetic()), actual);
}

TEST(SplitCoreBound, HoldsForHealthySums) {
  std::mt19937_64 random(1);
  for (const DType type : {DType::f16, DType::bf16}) {
    for (int round = 0; round < 40; ++round) {
      const std::size_t n_keys = 1 + static_cast<std::size_t>(round) * 17, head_dim = round % 2 == 0 ? 48 : 128;
      for (const audit::LocalError& row :
           {judge_qk(type, n_keys, head_dim, {}, random), judge_pv(type, n_keys, head_dim, {}, random)}) {
        EXPECT_FALSE(row.guilty()) << name(type) << ", " << n_keys << " keys: " << row.error << " beyond " << row.bound;
      }
    }
  }
}

TEST(SplitCoreBound, RealErrorsAreBeyondIt) {
  std::mt19937_64 random(2);
  for (const DType type : {DType::f16, DType::bf16}) {
    for (const std::size_t n_keys : {std::size_t{40}, std::size_t{700}}) {
      const Plant half_sums{true, SIZE_MAX}, left_out{false, 5};
      EXPECT_TRUE(judge_qk(type, n_keys, 128, half_sums, random).guilty()) << name(type) << ", " << n_keys;
      EXPECT_TRUE(judge_qk(type, n_keys, 128, left_out, random).guilty()) << name(type) << ", " << n_keys;
      EXPECT_TRUE(judge_pv(type, n_keys, 64, half_sums, random).guilty()) << name(type) << ", " << n_keys;
      EXPECT_TRUE(judge_pv(type, n_keys, 64, left_out, random).guilty()) << name(type) << ", " << n_keys;
    }
  }
}

/// Which arithmetic a route's attention is judged by.
TEST(SplitCoreBound, IsOfSixteenBitCaches) {
  audit::RowCase row;
  for (const audit::OpClass op : {audit::OpClass::qk, audit::OpClass::pv}) {
    row.op.op = op;
    for (const DType slots : {DType::f32, DType::f16, DType::bf16}) {
      row.slots = slots;
      EXPECT_EQ(audit::arithmetic_of("invariant", row).operand.unit, slots == DType::f32 ? 0 : 0x1p-21);
      EXPECT_EQ(audit::arithmetic_of("reference", row).operand.unit, 0);
    }
  }
}

}  // namespace
}  // namespace greta::test
