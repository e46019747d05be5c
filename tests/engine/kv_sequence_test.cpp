// What inference servers do with sequences of a cache, against plain slow models of it.
#include "engine/kv_sequence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "ops/cpu/convert.h"
#include "tests/engine/synthetic.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

using test::Engine;
using test::expect_error;

std::vector<std::int32_t> some_tokens(int n, int vocab, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(static_cast<std::int32_t>(random() % static_cast<unsigned>(vocab)));
  return tokens;
}

SynthSpec shape_with_heads_of_32() {
  SynthSpec spec = test::small_shape();
  spec.d_model = 64, spec.n_heads = 2, spec.n_kv_heads = 1;
  return spec;
}

std::vector<std::byte> slot_bytes(KvView& kv, KvPart part, int layer, RowId token) {
  const std::byte* slot = kv.read_slot(part, layer, token);
  return {slot, slot + row_bytes(kv.dtype(), kv.width())};
}

std::vector<double> slot_values(KvView& kv, KvPart part, int layer, RowId token) {
  std::vector<double> values(static_cast<std::size_t>(kv.width()));
  widen_row(kv.dtype(), kv.read_slot(part, layer, token), kv.width(), values.data());
  return values;
}

/// The same tokens in every sequence of the engine but for sequence s an offset of s in the vocabulary.
void fill(Engine& engine, const Model& model, int sequences, int n) {
  std::vector<std::int32_t> ids, wanted;
  std::vector<RowId> rows;
  for (int s = 0; s < sequences; ++s) {
    const auto tokens = some_tokens(n, model.config.vocab_size, static_cast<unsigned>(s + 1));
    for (int p = 0; p < n; ++p) {
      ids.push_back(tokens[static_cast<std::size_t>(p)]);
      rows.push_back({s, p});
    }
  }
  engine.session.step(Phase::prefill, {ids, rows, wanted}, nullptr);
}

/// RoFormer, eq. 16: rotations add. In layer 0, K of a token depends on its position by the rotation alone.
TEST(KvShift, KShiftedByDeltaIsKComputedAtTheNewPosition) {
  for (const bool factors : {false, true}) {
    SynthSpec spec = test::small_shape();
    if (factors) spec.rope_factor = 32, spec.rope_theta = 500000;
    const auto model = test::synthetic_model(spec);
    const auto tokens = some_tokens(20, model->config.vocab_size);
    for (const auto& [plan_name, tolerance] : {std::pair{"float64", 1e-12}, {"reference", 4e-6}}) {
      for (const int delta : {-7, -1, 40}) {
        Engine engine(*model, make_plan(plan_name, std::nullopt, {}));
        engine.prefill(tokens, 0);
        KvSequences& sequences = engine.session.sequences();
        if (delta < 0) sequences.remove(0, 3, 3 - delta);
        const int first = delta < 0 ? 3 - delta : 10;
        sequences.shift(0, first, 20, delta);
        for (int p = first; p < 20; ++p) {
          std::vector<std::int32_t> moved(static_cast<std::size_t>(p + delta + 1), tokens[static_cast<std::size_t>(p)]);
          Engine fresh(*model, make_plan(plan_name, std::nullopt, {}));
          fresh.prefill(moved, 0);
          const auto got = slot_values(engine.kv, KvPart::k, 0, {0, p + delta}),
                     want = slot_values(fresh.kv, KvPart::k, 0, {0, p + delta});
          double rms = 0;
          for (const double x : want) rms += x * x;
          rms = std::sqrt(rms / static_cast<double>(want.size()));
          for (std::size_t i = 0; i < want.size(); ++i)
            ASSERT_NEAR(got[i], want[i], tolerance * rms)
                << plan_name << " delta " << delta << " position " << p << " element " << i;
          ASSERT_EQ(slot_bytes(engine.kv, KvPart::v, 0, {0, p + delta}), slot_bytes(fresh.kv, KvPart::v, 0, {0, p + delta}));
        }
      }
    }
  }
}

/// Every layer of every sequence, not only the first: against a rotation written out here, and V byte for byte.
TEST(KvShift, ContextShiftTurnsEveryLayerOfEverySequence) {
  const auto model = test::synthetic_model(shape_with_heads_of_32());
  const ModelConfig& c = model->config;
  constexpr int kKeep = 4, kDiscard = 9, kEnd = 33;
  for (const auto& [kv, tolerance] :
       {std::pair{DType::f64, 1e-12}, {DType::f32, 1e-6}, {DType::f16, 2e-3}, {DType::q8_0, 2e-2}}) {
    Engine engine(*model, make_plan(kv == DType::f64 ? "float64" : "reference", kv, {}), 2, supported_isas().back(), 3);
    fill(engine, *model, 3, kEnd);
    const KvCache before = engine.kv;
    engine.session.sequences().context_shift(kKeep, kDiscard);
    KvCache was = before;
    for (int seq = 0; seq < 3; ++seq) {
      EXPECT_EQ(engine.session.sequences().held().text(seq), "positions 0..23");
      for (int layer = 0; layer < c.n_layers; ++layer) {
        for (int p = 0; p < kEnd - kDiscard; ++p) {
          const int from = p < kKeep ? p : p + kDiscard;
          EXPECT_EQ(slot_bytes(engine.kv, KvPart::v, layer, {seq, p}), slot_bytes(was, KvPart::v, layer, {seq, from}));
          if (p < kKeep) {
            EXPECT_EQ(slot_bytes(engine.kv, KvPart::k, layer, {seq, p}), slot_bytes(was, KvPart::k, layer, {seq, p}));
            continue;
          }
          const auto old = slot_values(was, KvPart::k, layer, {seq, from}),
                     got = slot_values(engine.kv, KvPart::k, layer, {seq, p});
          double largest = 0;
          for (const double x : old) largest = std::max(largest, std::abs(x));
          for (std::int64_t pair = 0; pair < engine.kv.width() / 2; ++pair) {
            const double angle =
                -kDiscard * std::pow(c.rope_theta, -2.0 * static_cast<double>(pair % (c.head_dim / 2)) / c.head_dim);
            const auto i = static_cast<std::size_t>(2 * pair);
            EXPECT_NEAR(got[i], old[i] * std::cos(angle) - old[i + 1] * std::sin(angle), tolerance * largest);
            EXPECT_NEAR(got[i + 1], old[i + 1] * std::cos(angle) + old[i] * std::sin(angle), tolerance * largest);
          }
        }
      }
    }
  }
}

/// Random operations against a map from (sequence, position) to bytes.
TEST(KvSequences, CopyRemoveAndShiftAgreeWithAPlainModel) {
  const auto model = test::synthetic_model(shape_with_heads_of_32());
  constexpr int kSequences = 3, kCapacity = 24;
  const unsigned seed = 20261125;
  std::mt19937 random(seed);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  Engine engine(*model, make_plan("reference", std::nullopt, {}), 1, Isa::scalar, kSequences, kCapacity);
  fill(engine, *model, kSequences - 1, kCapacity / 2);
  KvSequences& sequences = engine.session.sequences();
  std::map<std::pair<int, int>, std::vector<std::byte>> values;  // of V in the last layer
  const int layer = model->config.n_layers - 1;
  for (int s = 0; s < kSequences - 1; ++s)
    for (int p = 0; p < kCapacity / 2; ++p) values[{s, p}] = slot_bytes(engine.kv, KvPart::v, layer, {s, p});
  int done = 0, refused = 0;
  for (int i = 0; i < 3000; ++i) {
    const bool wild = below(4) == 0;
    const int seq = below(kSequences), p0 = wild ? below(kCapacity + 2) - 1 : below(kCapacity / 2);
    const int p1 = p0 + (wild ? below(6) - 1 : 1 + below(3)), other = below(kSequences + 1), delta = below(13) - 6;
    const int kind = below(3);
    bool allowed = p0 >= 0 && p1 > p0;
    for (int p = p0; p < p1; ++p) allowed = allowed && values.contains({seq, p});
    if (kind == 1) {
      allowed = allowed && other != seq && other < kSequences;
      for (int p = p0; p < p1; ++p) allowed = allowed && !values.contains({other, p});
    }
    if (kind == 2)
      for (int p = p0; p < p1; ++p)
        allowed = allowed && p + delta >= 0 && p + delta < kCapacity &&
                  ((p + delta >= p0 && p + delta < p1) || !values.contains({seq, p + delta}));
    bool was_allowed = true;
    try {
      if (kind == 0) sequences.remove(seq, p0, p1);
      if (kind == 1) sequences.copy(seq, other, p0, p1);
      if (kind == 2) sequences.shift(seq, p0, p1, delta);
    } catch (const Error&) {
      was_allowed = false;
    }
    ASSERT_EQ(was_allowed, allowed) << "seed " << seed << " step " << i << " kind " << kind << " seq " << seq << " [" << p0
                                    << ", " << p1 << ") other " << other << " delta " << delta;
    (allowed ? done : refused) += 1;
    if (allowed) {
      std::map<std::pair<int, int>, std::vector<std::byte>> moved;
      for (int p = p0; p < p1; ++p) moved[{kind == 1 ? other : seq, kind == 2 ? p + delta : p}] = values[{seq, p}];
      if (kind != 1)
        for (int p = p0; p < p1; ++p) values.erase({seq, p});
      if (kind != 0) values.insert(moved.begin(), moved.end());
    }
    for (int s = 0; s < kSequences; ++s)
      for (int p = 0; p < kCapacity; ++p) {
        ASSERT_EQ(sequences.held().holds({s, p}), values.contains({s, p})) << "step " << i;
        if (values.contains({s, p})) {
          ASSERT_EQ(slot_bytes(engine.kv, KvPart::v, layer, {s, p}), (values[{s, p}])) << "step " << i;
        }
      }
    if (values.size() < 8) {  // start again, so that there is something to work on
      for (int s = 0; s < kSequences; ++s)
        for (int p = 0; p < kCapacity; ++p)
          if (values.contains({s, p})) sequences.remove(s, p, p + 1);
      fill(engine, *model, kSequences - 1, kCapacity / 2);
      values.clear();
      for (int s = 0; s < kSequences - 1; ++s)
        for (int p = 0; p < kCapacity / 2; ++p) values[{s, p}] = slot_bytes(engine.kv, KvPart::v, layer, {s, p});
    }
  }
  EXPECT_GT(done, 200);
  EXPECT_GT(refused, 200);
}

/// A copied sequence goes on as the one that it was copied from.
TEST(KvSequences, ACopyIsTheSameHistory) {
  const auto model = test::synthetic_model(test::small_shape());
  const Plan plan = make_plan("reference", std::nullopt, {});
  const auto tokens = some_tokens(12, model->config.vocab_size);
  const auto expected = Engine(*model, plan).prefill(tokens, 0);
  Engine engine(*model, plan, 1, supported_isas().back(), 2);
  engine.prefill({tokens.begin(), tokens.begin() + 11}, 0);
  engine.session.sequences().copy(0, 1, 0, 11);
  const std::vector<std::int32_t> wanted{0};
  const std::vector<RowId> rows{{1, 11}};
  const TensorView logits = engine.session.step(Phase::decode, {std::span(tokens).subspan(11), rows, wanted}, nullptr);
  EXPECT_EQ(row_values(logits, 0), expected[11]);
}

/// Sees every row and keeps nothing.
struct Watcher final : Probe {
  int rows = 0;
  void operator()(Stage, int, const TensorView& output) override { rows += static_cast<int>(output.n_rows); }
  void not_exposed(Stage, int) override {}
};

/// After a shift too: the same bits whether rows come at once or one by one, watched or not, alone or in a batch.
TEST(KvShift, WhatFollowsDoesNotDependOnChunksOrProbes) {
  const auto model = test::synthetic_model(shape_with_heads_of_32());
  const auto tokens = some_tokens(40, model->config.vocab_size);
  for (const DType kv : {DType::f32, DType::q8_0}) {
    const Plan plan = make_plan("reference", kv, {});
    const auto run = [&](int chunk, Probe* probe, int sequences) {
      Engine engine(*model, plan, 1, supported_isas().back(), sequences);
      fill(engine, *model, sequences, 30);
      engine.session.sequences().context_shift(2, 11, probe);
      std::vector<std::vector<double>> logits;
      engine.session.prefill(std::span(tokens).subspan(30), 19, chunk, 0, probe, [&](const TensorView& view) {
        for (std::int64_t r = 0; r < view.n_rows; ++r) logits.push_back(row_values(view, r));
      });
      return logits;
    };
    const auto expected = run(0, nullptr, 1);
    EXPECT_EQ(expected.size(), 10u);
    Watcher watcher;
    EXPECT_EQ(run(1, nullptr, 1), expected);
    EXPECT_EQ(run(3, &watcher, 1), expected);
    EXPECT_GT(watcher.rows, 0);
    EXPECT_EQ(run(0, nullptr, 3), expected);
  }
}

TEST(KvSequencesBadInput, IsRefusedInOneLine) {
  const auto model = test::synthetic_model(test::small_shape());
  Engine engine(*model, make_plan("reference", std::nullopt, {}), 1, Isa::scalar, 2, 16);
  KvSequences& sequences = engine.session.sequences();
  expect_error([&] { sequences.context_shift(0, 1); }, {"holds nothing"});
  engine.prefill(some_tokens(8, model->config.vocab_size), 0);
  const KvCache before = engine.kv;

  expect_error([&] { sequences.remove(0, 5, 3); }, {"[5, 3)", "not a range"});
  expect_error([&] { sequences.remove(0, -1, 3); }, {"[-1, 3)"});
  expect_error([&] { sequences.remove(0, 4, 4); }, {"[4, 4)"});
  expect_error([&] { sequences.remove(0, 6, 9); }, {"position 8 holds nothing", "positions 0..7"});
  expect_error([&] { sequences.remove(1, 0, 1); }, {"sequence 1", "it holds nothing"});
  expect_error([&] { sequences.remove(-3, 0, 1); }, {"sequence -3"});
  expect_error([&] { sequences.shift(0, 2, 8, -3); }, {"past the start", "position -1", "-2 at most"});
  expect_error([&] { sequences.shift(0, 4, 8, -2); }, {"position 2 is taken", "positions 0..7"});
  expect_error([&] { sequences.shift(0, 0, 4, 2); }, {"position 4 is taken"});
  expect_error([&] { sequences.shift(0, 4, 8, 9); }, {"position 16", "KV cache"});
  expect_error([&] { sequences.shift(0, 4, 8, 1 << 30); }, {"outside the model's context"});
  expect_error([&] { sequences.shift(0, 4, 8, std::numeric_limits<std::int32_t>::max()); }, {"outside the model's context"});
  expect_error([&] { sequences.shift(0, 4, 8, std::numeric_limits<std::int32_t>::min()); }, {"past the start"});
  expect_error([&] { sequences.copy(0, 0, 0, 4); }, {"name another"});
  expect_error([&] { sequences.copy(0, 2, 0, 4); }, {"sequence 2", "outside"});
  expect_error([&] { sequences.context_shift(4, 4); }, {"leaves none", "8 of sequence 0"});
  expect_error([&] { sequences.context_shift(-1, 4); }, {"-1"});
  expect_error([&] { sequences.context_shift(1, 0); }, {"discard 0"});
  EXPECT_EQ(sequences.held().text(0), "positions 0..7") << "a refused operation changed something";

  sequences.remove(0, 2, 5);
  expect_error([&] { sequences.remove(0, 2, 5); }, {"removed before", "positions 0..1, 5..7"});
  expect_error([&] { engine.session.decode(1, 8, nullptr); }, {"position 8 would attend to position 2"});
  expect_error([&] { sequences.context_shift(0, 1); }, {"position 2 holds nothing"});
  sequences.shift(0, 5, 8, -3);
  sequences.shift(0, 0, 5, 0);  // moves nothing
  EXPECT_EQ(sequences.held().text(0), "positions 0..4");
  engine.session.decode(1, 5, nullptr);
  sequences.copy(0, 1, 0, 6);
  expect_error([&] { sequences.copy(0, 1, 5, 6); }, {"position 5 is taken there"});
}

}  // namespace
}  // namespace greta
