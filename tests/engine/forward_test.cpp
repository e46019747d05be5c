#include "engine/forward.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>

#include "core/error.h"
#include "tests/engine/synthetic.h"
#include "tests/support/naive_llama.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

using test::Engine;
using test::NaiveLlama;

std::vector<std::int32_t> some_tokens(int n, int vocab, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(static_cast<std::int32_t>(random() % static_cast<unsigned>(vocab)));
  return tokens;
}

class Shapes : public testing::TestWithParam<int> {};

/// GQA, MQA, tied and untied heads, Llama-3.1 factors, every weight type: against an implementation that shares no code.
SynthSpec shape_of_case(int number) {
  SynthSpec spec = test::small_shape();
  if (number == 1) spec.n_kv_heads = 1;
  if (number == 2) spec.n_kv_heads = spec.n_heads;
  if (number == 3) spec.tied_head = true;
  if (number == 4) spec.rope_factor = 32, spec.rope_theta = 500000;
  if (number == 5) spec.dtype = DType::f16;
  if (number == 6) spec.dtype = DType::bf16;
  if (number == 7) spec.dtype = DType::q8_0;
  if (number == 8) spec.dtype = DType::q4_0;
  return spec;
}

TEST_P(Shapes, Float64AgreesWithThePlainImplementation) {
  const auto model = test::synthetic_model(shape_of_case(GetParam()));
  const auto tokens = some_tokens(13, model->config.vocab_size);
  const auto expected = NaiveLlama(*model).run(tokens).at("logits");
  Engine engine(*model, make_plan("float64", std::nullopt, {}));
  EXPECT_LT(test::relative_rms(expected, engine.prefill(tokens, 0)), 1e-12);
}

TEST_P(Shapes, ReferenceIsCloseToThePlainImplementation) {
  const auto model = test::synthetic_model(shape_of_case(GetParam()));
  const auto tokens = some_tokens(13, model->config.vocab_size);
  const auto expected = NaiveLlama(*model).run(tokens).at("logits");
  Engine f32(*model, make_plan("reference", DType::f32, {})), f16(*model, make_plan("reference", DType::f16, {}));
  EXPECT_LT(test::relative_rms(expected, f32.prefill(tokens, 0)), 5e-6);
  EXPECT_LT(test::relative_rms(expected, f16.prefill(tokens, 0)), 2e-3);
}

INSTANTIATE_TEST_SUITE_P(All, Shapes, testing::Range(0, 9));

TEST(Invariance, SameBitsForChunksThreadsBatchesAndInstructionSets) {
  const auto model = test::synthetic_model(test::small_shape());
  const auto tokens = some_tokens(37, model->config.vocab_size);
  const Plan plan = make_plan("reference", std::nullopt, {});
  const auto expected = Engine(*model, plan).prefill(tokens, 0);
  for (const int chunk : {1, 7, 32, 33, 36}) EXPECT_EQ(Engine(*model, plan).prefill(tokens, chunk), expected) << "chunk " << chunk;
  for (const int threads : {2, 3}) EXPECT_EQ(Engine(*model, plan, threads).prefill(tokens, 0), expected) << threads << " threads";
  for (const Isa isa : supported_isas()) EXPECT_EQ(Engine(*model, plan, 1, isa).prefill(tokens, 0), expected) << name(isa);
  for (const Isa isa : supported_isas()) EXPECT_EQ(Engine(*model, plan, 2, isa).prefill(tokens, 5), expected) << name(isa);
}

/// Blocks of 32 lie along head_dim within one position, so no bit depends on which rows were written together.
TEST(Invariance, QuantizedKvAtBlockBoundaries) {
  SynthSpec spec = test::small_shape();
  spec.d_model = 64, spec.n_heads = 2, spec.n_kv_heads = 1;  // head_dim 32
  const auto model = test::synthetic_model(spec);
  for (const char* plan_name : {"reference", "float64"}) {
    const Plan plan = make_plan(plan_name, DType::q8_0, {});
    for (const int n : {31, 32, 33, 63, 64, 65}) {
      const auto tokens = some_tokens(n, model->config.vocab_size, static_cast<unsigned>(n));
      const auto expected = Engine(*model, plan).prefill(tokens, 0);
      for (const int chunk : {1, 31, 32, 33})
        EXPECT_EQ(Engine(*model, plan).prefill(tokens, chunk), expected) << plan_name << n << " " << chunk;
      for (const Isa isa : supported_isas()) EXPECT_EQ(Engine(*model, plan, 2, isa).prefill(tokens, 7), expected) << name(isa);
      const auto exact = NaiveLlama(*model).run(tokens).at("logits");
      EXPECT_LT(test::relative_rms(exact, expected), 2e-2);
      EXPECT_GT(test::relative_rms(exact, expected), 1e-5) << "nothing was quantised";
    }
  }
}

TEST(Session, RefusesACacheWhoseBlocksDoNotFitTheHeads) {
  SynthSpec spec = test::small_shape();
  spec.d_model = 96, spec.n_heads = 2, spec.n_kv_heads = 2;  // head_dim 48, 96 elements a slot
  const auto model = test::synthetic_model(spec);
  const Plan plan = make_plan("reference", DType::q8_0, {});
  test::expect_error([&] { Engine engine(*model, plan); }, {"q8_0", "32", "48", "f16"});
}

TEST(Invariance, SequencesOfABatchDoNotSeeEachOther) {
  const auto model = test::synthetic_model(test::small_shape());
  const Plan plan = make_plan("reference", std::nullopt, {});
  const int vocab = model->config.vocab_size;
  const std::vector<std::vector<std::int32_t>> prompts{some_tokens(9, vocab, 1), some_tokens(5, vocab, 2), some_tokens(12, vocab, 3)};
  std::vector<std::int32_t> tokens, wanted;
  std::vector<RowId> rows;
  for (int s = 0; s < 3; ++s)
    for (std::size_t p = 0; p < prompts[static_cast<std::size_t>(s)].size(); ++p) {
      tokens.push_back(prompts[static_cast<std::size_t>(s)][p]);
      rows.push_back({s, static_cast<std::int32_t>(p)});
      wanted.push_back(static_cast<std::int32_t>(wanted.size()));
    }
  Engine batched(*model, plan, 2, supported_isas().back(), 3);
  const TensorView logits = batched.session.step(Phase::prefill, {tokens, rows, wanted}, nullptr);
  std::int64_t row = 0;
  for (const auto& prompt : prompts)
    for (const auto& expected : Engine(*model, plan).prefill(prompt, 0)) EXPECT_EQ(row_values(logits, row++), expected);
}

TEST(Forward, OnlyTheWantedRowsGetLogits) {
  const auto model = test::synthetic_model(test::small_shape());
  const Plan plan = make_plan("reference", std::nullopt, {});
  const auto tokens = some_tokens(6, model->config.vocab_size);
  const auto all = Engine(*model, plan).prefill(tokens, 0);
  Engine engine(*model, plan);
  std::vector<RowId> rows;
  for (std::int32_t p = 0; p < 6; ++p) rows.push_back({0, p});
  const std::vector<std::int32_t> wanted{1, 4};
  const TensorView logits = engine.session.step(Phase::prefill, {tokens, rows, wanted}, nullptr);
  ASSERT_EQ(logits.n_rows, 2);
  EXPECT_EQ(row_values(logits, 0), all[1]);
  EXPECT_EQ(row_values(logits, 1), all[4]);
}

TEST(Session, RefusesWhatItCannotCompute) {
  const auto model = test::synthetic_model(test::small_shape());
  Engine engine(*model, make_plan("reference", std::nullopt, {}), 1, Isa::scalar, 1, 8);
  EXPECT_THROW(engine.prefill({model->config.vocab_size}, 0), Error);
  EXPECT_THROW(engine.prefill({-1}, 0), Error);
  EXPECT_THROW(engine.session.step(Phase::prefill, {}, nullptr), Error);
  EXPECT_THROW(engine.prefill(std::vector<std::int32_t>(9, 1), 0), Error);  // 9 rows, 8 slots
}

TEST(KvCache, SlotsAreDistinctAndBounded) {
  KvCache kv(DType::f16, 2, 2, 3, 4);
  std::set<const std::byte*> slots;
  for (const KvPart part : {KvPart::k, KvPart::v})
    for (int layer = 0; layer < 2; ++layer)
      for (std::int32_t seq = 0; seq < 2; ++seq)
        for (std::int32_t position = 0; position < 3; ++position) {
          std::byte* slot = kv.write_slot(part, layer, {seq, position});
          EXPECT_EQ(slot, kv.read_slot(part, layer, {seq, position}));
          EXPECT_TRUE(slots.insert(slot).second);
          std::memset(slot, static_cast<int>(slots.size()), 8);
        }
  int expected = 0;
  for (const KvPart part : {KvPart::k, KvPart::v})
    for (int layer = 0; layer < 2; ++layer)
      for (std::int32_t seq = 0; seq < 2; ++seq)
        for (std::int32_t position = 0; position < 3; ++position)
          EXPECT_EQ(static_cast<int>(*kv.read_slot(part, layer, {seq, position})), ++expected);
  EXPECT_THROW(kv.write_slot(KvPart::k, 0, {0, 3}), Error);
  EXPECT_THROW(kv.write_slot(KvPart::k, 0, {0, -1}), Error);
  EXPECT_THROW(kv.write_slot(KvPart::k, 2, {0, 0}), Error);
  EXPECT_THROW(kv.write_slot(KvPart::k, 0, {2, 0}), Error);
}

TEST(Plan, RefusesUnknownNames) {
  EXPECT_THROW(make_plan("refrence", std::nullopt, {}), Error);
  EXPECT_THROW(make_plan("reference", DType::q4_0, {}), Error);
  EXPECT_THROW(make_plan("reference", std::nullopt, {{"softmaxx", "float64"}}), Error);
  EXPECT_THROW(make_plan("reference", std::nullopt, {{"softmax", "fast"}}), Error);
  EXPECT_EQ(make_plan("float64", std::nullopt, {}).kv, DType::f64);
}

}  // namespace
}  // namespace greta
