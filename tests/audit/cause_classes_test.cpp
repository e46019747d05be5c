// What may be named of rows that one or several hypotheses reproduce.
#include "audit/cause_classes.h"

#include <gtest/gtest.h>

#include <set>

namespace greta::audit {
namespace {

using Row = std::vector<Explained>;

Explained reproducing(std::string hypothesis, std::string value = "1") {
  return {std::move(hypothesis), {{"x", std::move(value)}}, true, 0.01};
}
Explained near(std::string hypothesis) { return {std::move(hypothesis), {}, false, 0.01}; }

std::string named(const std::vector<Row>& rows) {
  const auto cause = named_cause(rows);
  return cause ? Explained{cause->name, cause->params}.text() : "";
}

TEST(CauseClasses, AHypothesisThatAloneReproducesARowIsNamed) {
  EXPECT_EQ(named({{reproducing("epsilon"), reproducing("epsilon", "2"), near("weight")}}), "epsilon x=1");
  EXPECT_EQ(named({{near("epsilon")}}), "");
  EXPECT_EQ(named({{}}), "");
  EXPECT_EQ(named({}), "");
}

TEST(CauseClasses, OfSeveralOnlyAClassIsNamed) {
  EXPECT_EQ(named({{reproducing("epsilon"), reproducing("weight")}}), "");
  EXPECT_EQ(named({{reproducing("rope-twice"), reproducing("rope-position", "6")}}),
            "rope-turn one_of=rope-twice x=1 or rope-position x=6");
  EXPECT_EQ(named({{reproducing("rope-twice"), reproducing("rope-position"), reproducing("epsilon")}}), "");
  EXPECT_EQ(named({{reproducing("rope-twice"), reproducing("window")}}), "");
}

/// One row may leave open what another decides.
TEST(CauseClasses, RowsOfOneBugHaveOneCause) {
  const Row both{reproducing("rope-twice"), reproducing("rope-position")}, twice{reproducing("rope-twice")};
  EXPECT_EQ(named({both, twice}), "rope-twice x=1");
  EXPECT_EQ(named({twice, both}), "rope-twice x=1");
  EXPECT_EQ(named({twice, {reproducing("epsilon")}}), "");
  EXPECT_EQ(named({twice, {}}), "");
}

TEST(CauseClasses, AreDeclaredOnceAndHaveNamesOfTheirOwn) {
  std::set<std::string_view> names;
  for (const CauseClass& one : cause_classes()) {
    EXPECT_TRUE(names.insert(one.name).second) << one.name;
    EXPECT_GE(one.members.size(), 2U) << one.name;
    EXPECT_FALSE(one.why.empty()) << one.name;
    for (const std::string_view member : one.members) EXPECT_TRUE(same_class(member, one.members.front())) << member;
    for (const std::string_view member : one.members) EXPECT_NE(member, one.name);
  }
  EXPECT_TRUE(same_class("epsilon", "epsilon"));
  EXPECT_FALSE(same_class("epsilon", "weight"));
  EXPECT_FALSE(same_class("rope-twice", "window"));
}

}  // namespace
}  // namespace greta::audit
