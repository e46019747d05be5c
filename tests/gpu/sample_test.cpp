// A device draws the token that the CPU's sampler draws.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "ops/gpu/emulated_blocks.h"
#include "tests/gpu/devices.h"

namespace greta::gpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<float> gaussian(std::size_t n, double scale, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<float> logits(n);
  for (float& x : logits) x = static_cast<float>(scale * normal(random));
  return logits;
}

class SampleKernel : public DeviceTest {
 protected:
  /// The device's token for every unit; what scratch and id held before must not matter.
  std::vector<std::int32_t> tokens(const std::vector<float>& logits, const SamplerOptions& options,
                                   const std::vector<double>& units) {
    const auto vocab = static_cast<std::int64_t>(logits.size());
    const DeviceArray<float> device_logits(device(), logits);
    const DeviceArray<double> device_units(device(), units);
    const DeviceArray<std::int32_t> ids(device(), units.size());
    const DeviceArray<std::byte> scratch(device(), device().kernels().sample_scratch(vocab));
    device().fill(scratch.bytes(), 0xa5, scratch.size(), stream());
    device().fill(ids.bytes(), 0xa5, units.size() * 4, stream());
    for (std::size_t i = 0; i < units.size(); ++i)
      device().kernels().sample(stream(), {.logits = {device_logits.bytes(), DType::f32, vocab, vocab * 4},
                                           .temperature = options.temperature,
                                           .top_k = options.top_k,
                                           .top_p = options.top_p,
                                           .unit = device_units.get() + i,
                                           .id = ids.get() + i,
                                           .scratch = scratch.bytes()});
    return ids.download();
  }
  void expect_same(const std::vector<float>& logits, const SamplerOptions& options, const std::vector<double>& units) {
    const std::vector<double> wide(logits.begin(), logits.end());
    std::vector<std::int32_t> expected;
    for (const double unit : units) expected.push_back(sample_token(wide, options, unit));
    EXPECT_EQ(tokens(logits, options, units), expected) << logits.size() << " logits, temperature " << options.temperature
                                                        << " top_k " << options.top_k << " top_p " << options.top_p;
  }
};

std::vector<double> units_of(std::uint64_t seed, int n) {
  Sampler sampler({.temperature = 1, .seed = seed});
  std::vector<double> units{0.0, std::nextafter(1.0, 0.0)};
  while (static_cast<int>(units.size()) < n) units.push_back(sampler.next_unit());
  return units;
}

TEST_P(SampleKernel, DrawsTheTokenOfTheCpu) {
  std::uint64_t seed = 0;
  for (const double temperature : {0.0, 0.3, 1.0, 4.0})
    for (const int top_k : {0, 1, 40})
      for (const double top_p : {1.0, 0.9, 1e-9}) {
        ++seed;
        expect_same(gaussian(3001, 3.0, seed), {.temperature = temperature, .top_k = top_k, .top_p = top_p}, units_of(seed, 4));
      }
}

TEST_P(SampleKernel, DrawsAmongTiesByTheirIds) {
  std::vector<float> logits = gaussian(700, 1.0, 7);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = std::round(logits[i]);  // a handful of values, -0 among them
  for (const int top_k : {0, 3, 600, 2000})
    for (const double top_p : {1.0, 0.5})
      expect_same(logits, {.temperature = 0.7, .top_k = top_k, .top_p = top_p}, units_of(9, 5));
  expect_same(std::vector<float>(2500, -1.5f), {.temperature = 1.0, .top_p = 0.3}, units_of(10, 5));
}

TEST_P(SampleKernel, KnowsNanAndInfinitiesAndExtremes) {
  std::vector<float> odd = gaussian(600, 2.0, 11);
  for (std::size_t i = 0; i < odd.size(); i += 3) odd[i] = i % 2 == 0 ? NAN : -kInf;
  for (const int top_k : {0, 5, 550}) expect_same(odd, {.temperature = 1.0, .top_k = top_k}, units_of(12, 4));
  odd[10] = odd[400] = kInf;
  expect_same(odd, {.temperature = 1.0}, units_of(13, 5));
  expect_same(odd, {.temperature = 1.0, .top_p = 0.4}, units_of(13, 5));
  expect_same({-kInf, -kInf, NAN}, {.temperature = 1.0}, units_of(14, 6));
  expect_same({NAN, NAN}, {.temperature = 1.0}, {0.5});
  expect_same({NAN, NAN}, {.temperature = 0.0}, {0.5});
  expect_same({3.0f}, {.temperature = 1.0, .top_k = 1, .top_p = 0.5}, {0.5});
  for (const double temperature : {1e-300, 1e-3, 1e6, 1e300})
    for (const int top_k : {0, 3})
      expect_same(gaussian(500, 2.0, 15), {.temperature = temperature, .top_k = top_k, .top_p = 0.95}, units_of(16, 3));
}

// Were a barrier missing, some order of threads would show it.
TEST_P(SampleKernel, DoesNotDependOnTheOrderOfThreads) {
  if (!emulated()) GTEST_SKIP() << "hardware has its own order";
  struct UsualOrder {
    ~UsualOrder() { emulation::set_schedule(emulation::Order::forward); }
  } usual_order;
  for (const auto& [order, seed] : {std::pair{emulation::Order::reverse, 0}, {emulation::Order::shuffled, 1}}) {
    emulation::set_schedule(order, static_cast<std::uint64_t>(seed));
    expect_same(gaussian(2100, 2.0, 17), {.temperature = 1.0, .top_k = 50, .top_p = 0.9}, units_of(18, 6));
    expect_same(gaussian(2100, 2.0, 17), {.temperature = 0.0}, {0.5});
  }
}

GRETA_ON_ALL_DEVICES(SampleKernel);

}  // namespace
}  // namespace greta::gpu
