// The registry of routes and the pure choice from it.
#include "ops/routes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/error.h"
#include "ops/cpu_ops.h"

namespace greta::test {
namespace {

std::string error_of(std::string_view plan, const std::map<std::string, std::string>& overrides) {
  try {
    (void)select_routes(plan, RouteShape{1}, overrides);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Routes, EveryOpHasBothRoutesOnce) {
  std::multiset<std::pair<OpKind, RouteId>> seen;
  for (const RouteInfo& info : all_routes()) {
    seen.insert({info.op, info.id});
    EXPECT_FALSE(info.description.empty());
    EXPECT_TRUE(info.on_cpu || info.on_gpu);
    // What matrix cores and vendors compute is a GPU's, double the CPU's.
    EXPECT_EQ(info.on_cpu, info.id != RouteId::invariant && info.id != RouteId::free);
    EXPECT_EQ(info.on_gpu, info.id != RouteId::float64);
  }
  for (const auto& route : seen) EXPECT_EQ(seen.count(route), 1u);
  EXPECT_EQ(seen.count({OpKind::matmul, RouteId::q8}), 1u);
  for (int op = 0; op < kOpKindCount; ++op) {
    EXPECT_EQ(seen.count({static_cast<OpKind>(op), RouteId::reference}), 1u);
    EXPECT_EQ(seen.count({static_cast<OpKind>(op), RouteId::float64}), 1u);
  }
}

TEST(Routes, OfAGpuAreChosenThereAlone) {
  const RouteTable invariant = select_routes("invariant", RouteShape{1}, {}, Target::gpu);
  EXPECT_EQ(invariant[OpKind::matmul], RouteId::invariant);
  EXPECT_EQ(invariant[OpKind::pv], RouteId::invariant);
  EXPECT_EQ(invariant[OpKind::rmsnorm], RouteId::reference);
  EXPECT_EQ(select_routes("free", RouteShape{1}, {}, Target::gpu)[OpKind::matmul], RouteId::free);
  EXPECT_EQ(select_routes("reference", RouteShape{1}, {}, Target::gpu), select_routes("reference", RouteShape{1}, {}));
  EXPECT_THROW((void)select_routes("invariant", RouteShape{1}, {}), Error);
  EXPECT_THROW((void)select_routes("float64", RouteShape{1}, {}, Target::gpu), Error);
  EXPECT_THROW((void)select_routes("invariant", RouteShape{1}, {{"qk", "float64"}}, Target::gpu), Error);
  for (const std::int64_t n_rows : {1, 2, 64, 4096})
    EXPECT_EQ(select_routes("invariant", {n_rows}, {}, Target::gpu), invariant);
}

TEST(Routes, NamesGoBothWays) {
  for (int op = 0; op < kOpKindCount; ++op)
    EXPECT_EQ(op_kind_from_name(name(static_cast<OpKind>(op))), static_cast<OpKind>(op));
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) EXPECT_EQ(isa_from_name(name(isa)), isa);
  EXPECT_EQ(name(OpKind::kv_write), "kv_write");
  EXPECT_EQ(name(OpKind::act_mul), "act_mul");
  EXPECT_EQ(op_kind_from_name("MATMUL"), std::nullopt);
  EXPECT_EQ(isa_from_name("sse2"), std::nullopt);
}

TEST(Routes, APlanNamesEveryOpsRouteAndOverridesReplaceSome) {
  const RouteTable reference = select_routes("reference", RouteShape{1}, {});
  const RouteTable mixed = select_routes("reference", RouteShape{1}, {{"softmax", "float64"}, {"qk", "reference"}});
  const RouteTable float64 = select_routes("float64", RouteShape{1}, {});
  for (int i = 0; i < kOpKindCount; ++i) {
    const auto op = static_cast<OpKind>(i);
    EXPECT_EQ(reference[op], RouteId::reference);
    EXPECT_EQ(float64[op], RouteId::float64);
    EXPECT_EQ(mixed[op], op == OpKind::softmax ? RouteId::float64 : RouteId::reference);
  }
}

TEST(Routes, PlanQ8MultipliesIntegersAndItsRouteNeedsThePlan) {
  const RouteTable q8 = select_routes("q8", RouteShape{1}, {});
  for (int i = 0; i < kOpKindCount; ++i) {
    const auto op = static_cast<OpKind>(i);
    EXPECT_EQ(q8[op], op == OpKind::matmul ? RouteId::q8 : RouteId::reference);
  }
  EXPECT_EQ(select_routes("q8", RouteShape{1}, {{"matmul", "float64"}})[OpKind::matmul], RouteId::float64);
  EXPECT_THAT(error_of("reference", {{"matmul", "q8"}}), testing::HasSubstr("use plan q8"));
  EXPECT_THAT(error_of("float64", {{"matmul", "q8"}}), testing::HasSubstr("use plan q8"));
  EXPECT_THAT(error_of("q8", {{"softmax", "q8"}}), testing::HasSubstr("softmax has no route q8"));
}

TEST(Routes, AnInvariantPlanDoesNotDependOnTheNumberOfRows) {
  for (const std::int64_t n_rows : {1, 2, 8, 9, 512}) {
    EXPECT_EQ(select_routes("reference", {n_rows}, {}), select_routes("reference", {1}, {}));
    EXPECT_EQ(select_routes("q8", {n_rows}, {}), select_routes("q8", {1}, {}));
  }
}

TEST(Routes, ErrorsNameTheKnownOnes) {
  using testing::AllOf;
  using testing::HasSubstr;
  EXPECT_THAT(error_of("referense", {}),
              AllOf(HasSubstr("plan 'referense'"), HasSubstr("did you mean 'reference'"), HasSubstr("float64")));
  EXPECT_THAT(error_of("reference", {{"matmull", "float64"}}),
              AllOf(HasSubstr("op 'matmull'"), HasSubstr("did you mean 'matmul'"), HasSubstr("act_mul")));
  EXPECT_THAT(error_of("reference", {{"matmul", "fast"}}),
              AllOf(HasSubstr("route 'fast'"), HasSubstr("matmul"), HasSubstr("reference, float64")));
  EXPECT_THAT(error_of("float64", {{"matmul", "reference"}}), AllOf(HasSubstr("matmul"), HasSubstr("F64")));
  EXPECT_EQ(error_of("reference", {{"matmul", "float64"}}), "");
}

TEST(Isas, ScalarIsAlwaysThereAndTheListGoesUp) {
  const std::span<const Isa> isas = supported_isas();
  ASSERT_FALSE(isas.empty());
  EXPECT_EQ(isas.front(), Isa::scalar);
  for (std::size_t i = 1; i < isas.size(); ++i) EXPECT_LT(isas[i - 1], isas[i]);
#if defined(__x86_64__)
  // The compiler's own question to the processor; it knows less than ours (the system's part), so ours may only be shorter.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512bw");
  EXPECT_LE(isas.size(), avx512 ? 3u : avx2 ? 2u : 1u);
#endif
}

}  // namespace
}  // namespace greta::test
