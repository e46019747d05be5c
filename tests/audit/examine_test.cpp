// What an examination counts as judged: only rows of which every element could be held to its bound.
#include "audit/examine.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>

namespace greta::audit {
namespace {

/// Two stages of layer 0: what the residual add wrote, and what was handed on.
class TwoRows final : public Rows {
 public:
  TwoRows(std::vector<double> wrote, std::vector<double> handed)
      : rows_{{Stage::x_after_mlp, std::move(wrote)}, {Stage::x_out, std::move(handed)}} {}
  std::span<const double> row(Stage stage, int, int) const override {
    const auto found = rows_.find(stage);
    return found == rows_.end() ? std::span<const double>() : found->second;
  }
  std::optional<DType> dtype(Stage stage, int) const override {
    return rows_.contains(stage) ? std::optional(DType::f32) : std::nullopt;
  }
  std::string_view route(Stage, int) const override { return "reference"; }
  std::vector<int> positions(Stage, int) const override { return {0}; }

 private:
  std::map<Stage, std::vector<double>> rows_;
};

class NoTensors final : public Tensors {
 public:
  std::optional<TensorShape> find(std::string_view) const override { return std::nullopt; }
  void row(std::string_view, std::int64_t, std::span<double>) const override {}
  void minima(std::string_view, std::int64_t, std::span<double>) const override {}
};

Examination examine_stage(Stage stage, const TwoRows& rows) {
  ModelContract model;
  model.n_layers = 1;
  const NoTensors tensors;
  const std::int32_t token = 7;
  const Place place{stage, 0};
  const int position = 0;
  return examine({model, tensors}, {rows, {&token, 1}}, {&place, 1}, {&position, 1});
}

TEST(Examine, AHandOverIsJudgedByEquality) {
  EXPECT_EQ(examine_stage(Stage::x_out, {{1, 2}, {1, 2}}).rows, 1);
  EXPECT_EQ(examine_stage(Stage::x_out, {{1, 2}, {1, 3}}).guilty.size(), 1u);
}

TEST(Examine, ARowThatIsPartlyNanOnBothSidesIsNotWithinItsBound) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Examination found = examine_stage(Stage::x_out, {{1, nan}, {1, nan}});
  EXPECT_EQ(found.rows, 0);
  EXPECT_EQ(found.unjudged, 1);
  EXPECT_EQ(found.first_unjudged, "x_out layer 0 position 0 is NaN where NaN is due, or may overflow");
  EXPECT_EQ(examine_stage(Stage::x_out, {{1, nan}, {2, nan}}).guilty.size(), 1u);
}

TEST(Examine, WithoutItsInputARowIsNotJudged) {
  const Examination found = examine_stage(Stage::x_after_mlp, {{1, 2}, {1, 2}});
  EXPECT_EQ(found.rows, 0);
  EXPECT_EQ(found.unjudged, 1);
}

}  // namespace
}  // namespace greta::audit
