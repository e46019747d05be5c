// Sums in other types: closed forms.
#include "audit/narrow_sum.h"

#include <gtest/gtest.h>

#include <cmath>

namespace greta::audit {
namespace {

double sum_of(SumOrder order, int n, double term) {
  NarrowSum sum(order);
  for (int i = 0; i < n; ++i) sum.add(term, 1);
  return sum.value();
}

/// Ones added in a type of p significant bits stop at 2^p: 2^p + 1 is halfway to the next number and rounds to even.
TEST(NarrowSum, OnesStopAtTheLastBit) {
  EXPECT_EQ(sum_of({DType::f16}, 3000, 1), 2048);
  EXPECT_EQ(sum_of({DType::bf16}, 3000, 1), 256);
  EXPECT_EQ(sum_of({DType::f32}, 3000, 1), 3000);
  EXPECT_EQ(sum_of({DType::f32}, 1, 1 + 0x1p-30), 1);
  EXPECT_EQ(sum_of({DType::f64}, 1, 1 + 0x1p-30), 1 + 0x1p-30);
}

TEST(NarrowSum, LanesAndExactBlocksPutItOff) {
  EXPECT_EQ(sum_of({DType::bf16, false, 4, 1}, 1000, 1), 1000);  // 250 a lane; 500 and 1000 are numbers of bf16
  EXPECT_EQ(sum_of({DType::bf16, false, 1, 128}, 1024, 1), 1024);
  EXPECT_EQ(sum_of({DType::bf16, false, 1, 128}, 130, 1), 130);  // the last block is not full
}

TEST(NarrowSum, FusedProductsAreNotRoundedOnTheirOwn) {
  const double a = 1 + 0x1p-6;  // a * a = 1 + 2^-5 + 2^-12, which binary16 does not hold
  NarrowSum rounded_products({DType::f16, false}), fused({DType::f16, true});
  for (NarrowSum* sum : {&rounded_products, &fused}) {
    sum->add(-1 - 0x1p-5, 1);
    sum->add(a, a);
  }
  EXPECT_EQ(rounded_products.value(), 0);
  EXPECT_EQ(fused.value(), 0x1p-12);
}

}  // namespace
}  // namespace greta::audit
