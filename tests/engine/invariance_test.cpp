// One set of logits for any chunking, thread count, batch and instruction set: the invariance contract, on a trained model.
#include <gtest/gtest.h>

#include <cstdio>
#include <random>

#include "tests/engine/synthetic.h"

namespace greta {
namespace {

/// stories260K where the optional external fixtures are, else a synthetic model.
std::shared_ptr<const Model> model_of_the_test() {
  const auto path = test::fixture("models/stories260K.F32.gguf");
  return path.empty() ? test::synthetic_model(test::small_shape()) : Model::load(path);
}

constexpr const char* kText = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her friends.";

/// Prompts of a batch: sequence 0 is the one whose logits are compared; the others are its beginnings, rotated.
std::vector<std::int32_t> prompt_of(const std::vector<std::int32_t>& tokens, int sequence) {
  if (sequence == 0) return tokens;
  std::vector<std::int32_t> other(tokens.begin() + sequence, tokens.end() - 3 * sequence);
  return other;
}

/// Logits of sequence 0's last position, prefilled in chunks of every sequence at once.
std::vector<double> last_logits(const Model& model, const Plan& plan, const std::vector<std::int32_t>& tokens, int chunk, int threads,
                                int batch, Isa isa) {
  test::Engine engine(model, plan, threads, isa, batch, static_cast<int>(tokens.size()));
  std::vector<std::vector<std::int32_t>> prompts;
  for (int s = 0; s < batch; ++s) prompts.push_back(prompt_of(tokens, s));
  const auto n = static_cast<int>(tokens.size());
  std::vector<double> last;
  for (int begin = 0; begin < n; begin += chunk) {
    std::vector<std::int32_t> ids, wanted;
    std::vector<RowId> rows;
    for (int s = batch - 1; s >= 0; --s)  // the compared sequence comes last in the batch
      for (int p = begin; p < std::min<int>(begin + chunk, static_cast<int>(prompts[static_cast<std::size_t>(s)].size())); ++p) {
        if (s == 0 && p == n - 1) wanted.push_back(static_cast<std::int32_t>(rows.size()));
        ids.push_back(prompts[static_cast<std::size_t>(s)][static_cast<std::size_t>(p)]);
        rows.push_back({s, p});
      }
    const TensorView logits = engine.session.step(Phase::prefill, {ids, rows, wanted}, nullptr);
    if (!wanted.empty()) last = row_values(logits, 0);
  }
  return last;
}

/// A model of block-quantised weights: a trained one where the fixtures are.
std::shared_ptr<const Model> quantised_model_of_the_test() {
  const auto path = test::fixture("models/stories15M.Q4_0.gguf");
  if (!path.empty()) return Model::load(path);
  SynthSpec spec = test::small_shape();
  spec.dtype = DType::q4_0;
  return test::synthetic_model(spec);
}

void expect_one_set_of_logits(const Model& model, const char* plan_name) {
  const auto tokens = model.tokenizer->encode(kText, true, true);
  const auto n = static_cast<int>(tokens.size());
  for (const DType kv : {DType::f32, DType::f16}) {
    const Plan plan = make_plan(plan_name, kv, {});
    const auto expected = last_logits(model, plan, tokens, n, 1, 1, best_isa());
    const auto same = [&](int chunk, int threads, int batch, Isa isa) {
      EXPECT_EQ(last_logits(model, plan, tokens, chunk, threads, batch, isa), expected)
          << "chunk " << chunk << ", threads " << threads << ", batch " << batch << ", " << name(isa) << ", kv " << name(kv);
    };
    const std::vector<int> chunks{1, 7, 32, 33, n - 1};
    for (const int chunk : chunks) same(chunk, 1, 1, best_isa());
    for (const int threads : {2, 3}) same(n, threads, 1, best_isa());
    for (const int batch : {2, 3, 4}) same(n, 1, batch, best_isa());
    for (const Isa isa : supported_isas()) same(n, 1, 1, isa);
    std::mt19937 random(12);
    for (int i = 0; i < 12; ++i)
      same(chunks[random() % chunks.size()], 1 + static_cast<int>(random() % 3), 1 + static_cast<int>(random() % 4),
           supported_isas()[random() % supported_isas().size()]);
  }
}

TEST(InvarianceOfATrainedModel, EachAxisAloneAndSeededCombinations) {
  expect_one_set_of_logits(*model_of_the_test(), "reference");
}

TEST(InvarianceOfATrainedModel, IntegerProductsToo) { expect_one_set_of_logits(*quantised_model_of_the_test(), "q8"); }

/// The comparison above can fail: another order of the same additions gives other bits.
TEST(InvarianceOfATrainedModel, Float64RouteOfOneOpGivesOtherBits) {
  const auto model = model_of_the_test();
  const auto tokens = model->tokenizer->encode(kText, true, true);
  const auto n = static_cast<int>(tokens.size());
  EXPECT_NE(last_logits(*model, make_plan("reference", DType::f32, {}), tokens, n, 1, 1, best_isa()),
            last_logits(*model, make_plan("reference", DType::f32, {{"rmsnorm", "float64"}}), tokens, n, 1, 1, best_isa()));
}

TEST(HeavyInvariance, TheFullProduct) {
  const auto model = model_of_the_test();
  const auto tokens = model->tokenizer->encode(kText, true, true);
  const auto n = static_cast<int>(tokens.size());
  int combinations = 0;
  for (const char* plan_name : {"reference", "float64"})
    for (const DType kv : {DType::f32, DType::f16}) {
      const Plan plan = make_plan(plan_name, kv, {});
      const auto expected = last_logits(*model, plan, tokens, n, 1, 1, best_isa());
      for (const int chunk : {1, 7, 32, 33, n - 1})
        for (const int threads : {1, 2, 3})
          for (const int batch : {1, 2, 3, 4})
            for (const Isa isa : supported_isas()) {
              ++combinations;
              EXPECT_EQ(last_logits(*model, plan, tokens, chunk, threads, batch, isa), expected)
                  << plan_name << ", chunk " << chunk << ", threads " << threads << ", batch " << batch << ", " << name(isa);
            }
    }
  std::printf("%d combinations, one set of logits for each plan and KV type\n", combinations);
}

}  // namespace
}  // namespace greta
