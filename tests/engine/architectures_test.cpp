// The invariance contract for every architecture and for odd shapes: one set of logits, of all positions, for any chunk, thread
// count, instruction set, and for prompts that end at a window's edge or at blocks of 32 and 64 positions, one less or one
// more.
#include <gtest/gtest.h>

#include "tests/engine/synthetic.h"

namespace greta {
namespace {

struct ShapeCase {
  std::string name;
  std::string architecture;
  int heads = 8, kv_heads = 4, head_dim = 0, d_model = 256, d_ff = 96, vocab = 331, layers = 2;
  DType dtype = DType::f32;
};
std::ostream& operator<<(std::ostream& out, const ShapeCase& c) { return out << c.name; }

constexpr int kWindow = 9;

std::shared_ptr<const Model> model_of(const ShapeCase& c) {
  SynthSpec spec = synth_shape("tiny");
  set_architecture(spec, c.architecture);
  spec.n_heads = c.heads, spec.n_kv_heads = c.kv_heads, spec.head_dim = c.head_dim, spec.d_model = c.d_model;
  spec.d_ff = c.d_ff, spec.vocab_size = c.vocab, spec.n_layers = c.layers, spec.dtype = c.dtype;
  if (spec.window > 0) spec.window = kWindow;
  spec.seed = 21;
  return test::synthetic_model(spec);
}

class ArchitectureInvariance : public testing::TestWithParam<ShapeCase> {};

std::vector<std::int32_t> tokens_of(int n) {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back((i * 37 + 11) % 256);
  return tokens;
}

TEST_P(ArchitectureInvariance, OneSetOfLogits) {
  const auto model = model_of(GetParam());
  const auto tokens = tokens_of(65);
  for (const char* plan_name : {"reference", "q8", "float64"}) {
    const Plan plan = make_plan(plan_name, std::nullopt, {});
    test::Engine whole(*model, plan);
    const auto expected = whole.prefill(tokens, 65);
    ASSERT_EQ(expected.size(), tokens.size());
    const auto same = [&](int chunk, int threads, Isa isa) {
      test::Engine engine(*model, plan, threads, isa);
      EXPECT_EQ(engine.prefill(tokens, chunk), expected)
          << plan_name << " chunk " << chunk << " threads " << threads << " " << name(isa);
    };
    for (const int chunk : {1, kWindow - 1, kWindow, kWindow + 1, 31, 33}) same(chunk, 1, best_isa());
    same(7, 3, best_isa());
    for (const Isa isa : supported_isas()) same(65, 1, isa);
    // A shorter prompt is the beginning of a longer one: nothing reads ahead.
    for (const int n : {1, kWindow, kWindow + 1, 31, 32, 33, 63, 64}) {
      test::Engine engine(*model, plan);
      const auto logits = engine.prefill(tokens_of(n), n);
      for (int i = 0; i < n; ++i)
        ASSERT_EQ(logits[static_cast<std::size_t>(i)], expected[static_cast<std::size_t>(i)])
            << "position " << i << " of " << n;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, ArchitectureInvariance,
    testing::Values(
        ShapeCase{.name = "llama_gqa7_hd48", .architecture = "llama", .heads = 7, .kv_heads = 1, .head_dim = 48, .d_model = 90},
        ShapeCase{.name = "mistral", .architecture = "mistral"},
        ShapeCase{.name = "qwen2_hd80",
                  .architecture = "qwen2",
                  .heads = 4,
                  .kv_heads = 2,
                  .head_dim = 80,
                  .d_model = 100,
                  .d_ff = 70},
        ShapeCase{.name = "qwen3_q8_0", .architecture = "qwen3", .dtype = DType::q8_0},
        ShapeCase{.name = "gemma2_q4_0", .architecture = "gemma2", .dtype = DType::q4_0},
        ShapeCase{.name = "gemma3_gqa7_hd48",
                  .architecture = "gemma3",
                  .heads = 7,
                  .kv_heads = 1,
                  .head_dim = 48,
                  .d_model = 90,
                  .layers = 6}),
    [](const auto& one) { return one.param.name; });

/// What a window hides has no part in a row: other tokens before it change nothing, the first one inside it does.
TEST(Window, HidesExactlyTheTokensBeforeIt) {
  ShapeCase c{.name = "one layer", .architecture = "mistral", .layers = 1};
  const auto model = model_of(c);
  const Plan plan = make_plan("reference", std::nullopt, {});
  const int n = 30;
  const auto last = [&](const std::vector<std::int32_t>& tokens) {
    test::Engine engine(*model, plan);
    return engine.prefill(tokens, n).back();
  };
  const auto expected = last(tokens_of(n));
  for (int changed = 0; changed < n; ++changed) {
    auto tokens = tokens_of(n);
    tokens[static_cast<std::size_t>(changed)] = (tokens[static_cast<std::size_t>(changed)] + 1) % 256;
    EXPECT_EQ(last(tokens) == expected, changed < n - kWindow) << "token " << changed << " of " << n;
  }
}

}  // namespace
}  // namespace greta
