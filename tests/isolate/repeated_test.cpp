// A run again is held to every row of the recorded one: other bits and missing rows are both found.
#include "isolate/repeated.h"

#include <gtest/gtest.h>

#include "isolate/arms.h"

namespace greta::isolate {
namespace {

Capture recorded() {
  Capture capture;
  capture.backend = "cuda";
  capture.device = "GPU (sm_90)";
  capture.plan = "invariant";
  capture.build = "1";
  capture.routes = {{"matmul", "invariant"}};
  for (int position = 0; position < 3; ++position) {
    for (const Stage stage : {Stage::q, Stage::k}) {
      StageRecord record;
      record.stage = stage;
      record.layer = 1;
      record.position = position;
      record.dtype = DType::f32;
      record.print.hash = {static_cast<std::uint64_t>(position), static_cast<std::uint64_t>(stage)};
      capture.records.push_back(record);
    }
  }
  return capture;
}

TEST(Repeated, TheSameRowsAreTheSame) {
  EXPECT_FALSE(first_other_row(recorded(), recorded(), 3, 'b', "again"));
  Capture more = recorded();
  more.records.push_back(more.records.front());
  more.records.back().layer = 5;  // what was not asked for is not held against it
  EXPECT_FALSE(first_other_row(recorded(), more, 3, 'b', "again"));
}

TEST(Repeated, OtherBitsAreFoundAtTheFirstRow) {
  Capture again = recorded();
  again.records[3].print.hash.lo = 77;
  again.records[5].print.hash.lo = 77;
  const auto found = first_other_row(recorded(), again, 3, 'b', "again");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->row, (StageRow{Stage::k, 1, 1}));
  EXPECT_EQ(found->detail, "2 of 6 rows have other bits again");
  EXPECT_FALSE(first_other_row(recorded(), again, 1, 'b', "again"));  // beyond the positions that are repeated
}

TEST(Repeated, MissingRowsAndNoRowsAreNoAgreement) {
  Capture again = recorded();
  again.records.erase(again.records.begin() + 2);
  const auto found = first_other_row(recorded(), again, 3, 'a', "again");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->row, (StageRow{Stage::q, 1, 1}));
  EXPECT_TRUE(first_other_row(recorded(), Capture{}, 3, 'a', "again"));
  EXPECT_TRUE(first_other_row(recorded(), recorded(), 0, 'a', "again"));
}

TEST(BitEquality, IsClaimedOfOneKindOfDeviceAndNeverOfALibrary) {
  const Capture one = recorded();
  Capture other = recorded();
  EXPECT_TRUE(claims_bit_equality(one, other));
  other.device = "GPU (sm_100)";
  EXPECT_FALSE(claims_bit_equality(one, other));
  Capture a = recorded(), b = recorded();
  a.routes = b.routes = {{"matmul", "free"}};
  EXPECT_FALSE(claims_bit_equality(a, b));
  a = b = recorded();
  a.plan = b.plan = "reference";
  a.routes = b.routes = {{"matmul", "reference"}};
  a.backend = "cpu";
  a.device = "";
  EXPECT_TRUE(claims_bit_equality(a, b));
  a.plan = b.plan = "float64";
  EXPECT_FALSE(claims_bit_equality(a, b));
}

}  // namespace
}  // namespace greta::isolate
