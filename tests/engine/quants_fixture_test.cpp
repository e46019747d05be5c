// Logits of files in every weight type that another program wrote, against float64 logits of an independent implementation
// (optional external fixtures).
#include <gtest/gtest.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "tests/engine/synthetic.h"
#include "tests/support/naive_llama.h"

namespace greta {
namespace {

TEST(QuantFixtures, Float64LogitsAgree) {
  const auto index_path = test::fixture("quants/index.json");
  if (index_path.empty()) return;
  const auto index = nlohmann::json::parse(test::read_file(index_path));
  int files = 0;
  for (const auto& [type, entry] : index.items()) {
    const auto model = Model::load(index_path.parent_path() / entry.at("file").get<std::string>());
    const auto tokens = entry.at("tokens").get<std::vector<std::int32_t>>();
    const std::vector<std::vector<double>> expected{entry.at("logits_f64").get<std::vector<double>>()};
    test::Engine float64(*model, make_plan("float64", std::nullopt, {}));
    const double error = test::relative_rms(expected, {float64.prefill(tokens, 0).back()});
    test::Engine reference(*model, make_plan("reference", DType::f32, {}));
    const double rounded = test::relative_rms(expected, {reference.prefill(tokens, 0).back()});
    std::cout << type << ": float64 " << error << ", reference " << rounded << "\n";
    EXPECT_LT(error, 1e-6) << type;
    EXPECT_LT(rounded, 1e-5) << type;
    ++files;
  }
  EXPECT_EQ(files, 14);
}

}  // namespace
}  // namespace greta
