// Each hypothesis on a row made by the bug that it is about, worked out here in float64, and on rows of other bugs.
#include <cmath>
#include <limits>

#include "audit/attention_bound.h"
#include "core/half.h"
#include "tests/audit/world.h"

namespace greta::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// --- blocks ------------------------------------------------------------------------------------------------------------------

constexpr std::size_t kOut = 48, kIn = 128;

/// The product q of layer 0, of a matrix of blocks with minima.
World product_world() {
  World world;
  MadeMatrix matrix{{kOut, kIn, DType::q4_1}, {}, {}, {}};
  for (std::size_t i = 0; i < kOut * kIn; ++i) matrix.codes.push_back(static_cast<double>(world.random() % 16));
  for (std::size_t b = 0; b < kOut * kIn / 32; ++b) {
    matrix.scales.push_back(static_cast<double>(1 + world.random() % 64) / 1024);
    matrix.minima.push_back(-static_cast<double>(1 + world.random() % 64) / 128);
  }
  world.tensors.all["blk.0.attn_q.weight"] = std::move(matrix);
  world.rows.put(Stage::attn_norm, 0, 0, random_row(kIn, world.random));
  return world;
}

/// sum over blocks of x . (scale(o, b) code + minimum(o, b)).
template <class Scale, class Minimum>
std::vector<double> blockwise(const World& world, const Scale& scale, const Minimum& minimum) {
  const MadeMatrix& matrix = world.tensors.all.find("blk.0.attn_q.weight")->second;
  const auto x = world.rows.row(Stage::attn_norm, 0, 0);
  std::vector<double> out(kOut);
  for (std::size_t o = 0; o < kOut; ++o)
    for (std::size_t i = 0; i < kIn; ++i)
      out[o] += x[i] * (scale(matrix, o, i / 32) * matrix.codes[o * kIn + i] + minimum(matrix, o, i / 32));
  return out;
}

constexpr std::size_t kBlocks = kIn / 32;
double own_scale(const MadeMatrix& m, std::size_t o, std::size_t b) { return m.scales[o * kBlocks + b]; }
double own_minimum(const MadeMatrix& m, std::size_t o, std::size_t b) { return m.minima[o * kBlocks + b]; }

TEST(BlockHypotheses, NameTheBlockAndWhatItsScaleBecame) {
  World world = product_world();
  for (std::size_t wrong = 0; wrong < kBlocks; ++wrong) {
    const std::string block = " block=" + std::to_string(wrong);
    const auto next = [wrong](const MadeMatrix& m, std::size_t o, std::size_t b) {
      return own_scale(m, o, b == wrong ? (b + 1) % kBlocks : b);
    };
    world.rows.put(Stage::q, 0, 0, blockwise(world, next, own_minimum));
    EXPECT_EQ(world.named(Stage::q, 0), "block-scale" + block + " as=next");
    const auto none = [wrong](const MadeMatrix& m, std::size_t o, std::size_t b) {
      return b == wrong ? 1 : own_scale(m, o, b);
    };
    world.rows.put(Stage::q, 0, 0, blockwise(world, none, own_minimum));
    EXPECT_EQ(world.named(Stage::q, 0), "block-scale" + block + " as=one");
    const auto no_minimum = [wrong](const MadeMatrix& m, std::size_t o, std::size_t b) {
      return b == wrong ? 0 : own_minimum(m, o, b);
    };
    world.rows.put(Stage::q, 0, 0, blockwise(world, own_scale, no_minimum));
    EXPECT_EQ(world.named(Stage::q, 0), "block-min" + block);
  }
}

/// Twice the scale is nobody's: no block is blamed for it, nor for noise.
TEST(BlockHypotheses, DoNotNameWhatTheyDoNotReproduce) {
  World world = product_world();
  const auto twice = [](const MadeMatrix& m, std::size_t o, std::size_t b) {
    return (b == 1 ? 2.0 : 1.0) * own_scale(m, o, b);
  };
  world.rows.put(Stage::q, 0, 0, blockwise(world, twice, own_minimum));
  EXPECT_EQ(world.named(Stage::q, 0), "");
  std::vector<double> noisy = blockwise(world, own_scale, own_minimum);
  for (double& value : noisy) value += random_row(1, world.random, 0.01)[0];
  world.rows.put(Stage::q, 0, 0, noisy);
  EXPECT_EQ(world.named(Stage::q, 0), "");
}

TEST(WeightHypotheses, TheTailThatIsLeftOutIsMeasured) {
  World world = product_world();
  for (const std::size_t tail : {std::size_t{3}, std::size_t{32}, std::size_t{77}}) {
    const MadeMatrix& matrix = world.tensors.all.find("blk.0.attn_q.weight")->second;
    const auto x = world.rows.row(Stage::attn_norm, 0, 0);
    std::vector<double> out(kOut);
    for (std::size_t o = 0; o < kOut; ++o)
      for (std::size_t i = 0; i + tail < kIn; ++i)
        out[o] += x[i] * (own_scale(matrix, o, i / 32) * matrix.codes[o * kIn + i] + own_minimum(matrix, o, i / 32));
    world.rows.put(Stage::q, 0, 0, out);
    EXPECT_EQ(world.named(Stage::q, 0), "tail-dropped elements=" + std::to_string(tail));
  }
}

TEST(WeightHypotheses, RowsMayBeShiftedByAnyNumber) {
  World world = product_world();
  const std::vector<double> right = blockwise(world, own_scale, own_minimum);
  for (const std::size_t shift : {std::size_t{1}, std::size_t{19}, kOut - 5}) {
    std::vector<double> out;
    for (std::size_t o = 0; o < kOut; ++o) out.push_back(right[(o + shift) % kOut]);
    world.rows.put(Stage::q, 0, 0, out);
    EXPECT_EQ(world.named(Stage::q, 0), "row-shifted delta=" + (shift == kOut - 5 ? "-5" : std::to_string(shift)));
  }
}

// --- softmax -----------------------------------------------------------------------------------------------------------------

constexpr int kPosition = 2;
constexpr std::size_t kKeys = 3, kDim = 8;

/// Scores of two heads at position 2, and K, V, q of all positions up to 3.
World attention_world() {
  World world;
  for (int p = 0; p <= kPosition + 1; ++p) {
    world.rows.put(Stage::k_cache, 0, p, random_row(2 * kDim, world.random));
    world.rows.put(Stage::v_cache, 0, p, random_row(2 * kDim, world.random));
  }
  world.rows.put(Stage::q_rope, 0, kPosition, random_row(2 * kDim, world.random));
  world.rows.put(Stage::attn_scores, 0, kPosition, random_row(2 * kKeys, world.random, 2));
  return world;
}

/// exp(score) / (sum of the head's + extra[head]).
std::vector<double> probabilities(const World& world, const std::array<double, 2>& extra) {
  const auto scores = world.rows.row(Stage::attn_scores, 0, kPosition);
  std::vector<double> out;
  for (std::size_t h = 0; h < 2; ++h) {
    double sum = extra[h];
    for (std::size_t j = 0; j < kKeys; ++j) sum += std::exp(scores[h * kKeys + j]);
    for (std::size_t j = 0; j < kKeys; ++j) out.push_back(std::exp(scores[h * kKeys + j]) / sum);
  }
  return out;
}

/// exp of the score that each head of the row gives the key after its own.
std::array<double, 2> exp_of_next(const World& world) {
  const auto q = world.rows.row(Stage::q_rope, 0, kPosition), key = world.rows.row(Stage::k_cache, 0, kPosition + 1);
  std::array<double, 2> out{};
  for (std::size_t h = 0; h < 2; ++h) {
    const auto first = static_cast<std::ptrdiff_t>(h * kDim), last = static_cast<std::ptrdiff_t>((h + 1) * kDim);
    out[h] = std::exp(world.model.attention_scale *
                      std::inner_product(q.begin() + first, q.begin() + last, key.begin() + first, 0.0));
  }
  return out;
}

TEST(SoftmaxHypotheses, AKeyTooManyIsTheNextOneOrAnEmptySlot) {
  World world = attention_world();
  world.rows.put(Stage::attn_probs, 0, kPosition, probabilities(world, exp_of_next(world)));
  EXPECT_EQ(world.named(Stage::attn_probs, kPosition), "mask-off-by-one key=next");
  world.rows.put(Stage::attn_probs, 0, kPosition, probabilities(world, {1, 1}));
  EXPECT_EQ(world.named(Stage::attn_probs, kPosition), "mask-off-by-one key=empty slot");
  world.rows.put(Stage::attn_probs, 0, kPosition, probabilities(world, {1, 3}));
  EXPECT_EQ(world.named(Stage::attn_probs, kPosition), "");
}

std::vector<double> mixture(const World& world, const std::vector<double>& probs) {
  std::vector<double> out(2 * kDim);
  for (std::size_t i = 0; i < out.size(); ++i)
    for (std::size_t j = 0; j < kKeys; ++j)
      out[i] += probs[i / kDim * kKeys + j] * world.rows.row(Stage::v_cache, 0, static_cast<int>(j))[i];
  return out;
}

/// A mixture of zeros is one of slots that hold nothing, or was never written.
TEST(AttentionHypotheses, ZerosAreOfEmptySlotsOrOfNobody) {
  World world = attention_world();
  world.rows.put(Stage::attn_probs, 0, kPosition, probabilities(world, {0, 0}));
  world.rows.put(Stage::attn_out, 0, kPosition, std::vector<double>(2 * kDim));
  EXPECT_EQ(world.named(Stage::attn_out, kPosition), "zeros one_of=kv-unwritten or output-unwritten");
}

TEST(SoftmaxHypotheses, EmptyPartsOfAMergeAreCounted) {
  World world = attention_world();
  world.rows.put(Stage::attn_probs, 0, kPosition, probabilities(world, {0, 0}));
  world.rows.put(Stage::attn_out, 0, kPosition, mixture(world, probabilities(world, {13, 13})));
  EXPECT_EQ(world.named(Stage::attn_out, kPosition), "merge-empty-chunk empty=13");
  world.rows.put(Stage::attn_out, 0, kPosition, mixture(world, probabilities(world, {13.5, 13.5})));
  EXPECT_EQ(world.named(Stage::attn_out, kPosition), "");
}

TEST(SoftmaxHypotheses, AKeyTooManyAddsItsValueToAMixture) {
  World world = attention_world();
  const std::vector<double> probs = probabilities(world, {0, 0}), with_next = probabilities(world, exp_of_next(world));
  world.rows.put(Stage::attn_probs, 0, kPosition, probs);
  std::vector<double> out = mixture(world, probs);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t h = i / kDim;
    double left = 0;  // of the probability, with that key
    for (std::size_t j = 0; j < kKeys; ++j) left += with_next[h * kKeys + j];
    out[i] += (1 - left) * world.rows.row(Stage::v_cache, 0, kPosition + 1)[i];
  }
  world.rows.put(Stage::attn_out, 0, kPosition, out);
  EXPECT_EQ(world.named(Stage::attn_out, kPosition), "mask-off-by-one key=next");
}

/// exp(12) is beyond binary16: infinity over infinity, and 0 for the others; 1, e and e^2 are in binary16 what they are.
TEST(SoftmaxHypotheses, WithoutTheMaximumExponentialsOverflowOrRound) {
  World world = attention_world();
  world.rows.put(Stage::attn_scores, 0, kPosition, {12, 1, 0, 0, 1, 2});
  const double e = static_cast<double>(f16_to_f32(0x4170)), e2 = static_cast<double>(f16_to_f32(0x4764));  // 2.71875, 7.390625
  world.rows.put(Stage::attn_probs, 0, kPosition, {kNan, 0, 0, 1 / (1 + e + e2), e / (1 + e + e2), e2 / (1 + e + e2)});
  EXPECT_EQ(world.named(Stage::attn_probs, kPosition), "softmax-no-max type=f16");
}

/// Softmax without the maximum is, in F32 and where nothing overflows, the right softmax: as near to a small error as that is.
TEST(SoftmaxHypotheses, WhatIsAsNearToTheRightRowIsNoCause) {
  World world = attention_world();
  std::vector<double> probs = probabilities(world, {0, 0});
  const auto scores = world.rows.row(Stage::attn_scores, 0, kPosition);
  probs[1] += 3 * audit::softmax(scores.first(kKeys), audit::reference_arithmetic()).bound[1];
  world.rows.put(Stage::attn_probs, 0, kPosition, probs);
  EXPECT_EQ(world.named(Stage::attn_probs, kPosition), "element first=1 count=1");
}

TEST(SoftmaxHypotheses, NanOfAllHeadsIsOfPaddingUnlessAllOverflow) {
  World world = attention_world();
  const std::vector<double> nans(2 * kKeys, kNan);
  world.rows.put(Stage::attn_probs, 0, kPosition, nans);
  EXPECT_EQ(world.named(Stage::attn_probs, kPosition), "nan-padding");
  world.rows.put(Stage::attn_scores, 0, kPosition, std::vector<double>(2 * kKeys, 20));
  EXPECT_EQ(world.named(Stage::attn_probs, kPosition), "nan-heads one_of=softmax-no-max type=f16 or nan-padding");
  std::vector<double> one_head = probabilities(world, {0, 0});
  for (std::size_t j = 0; j < kKeys; ++j) one_head[kKeys + j] = kNan;
  world.rows.put(Stage::attn_probs, 0, kPosition, one_head);
  EXPECT_EQ(world.named(Stage::attn_probs, kPosition), "nan head=1");
}

// --- masks -------------------------------------------------------------------------------------------------------------------

/// Scores at `position` of a call of rows 0..last; keys for which `masked` holds are -infinity.
template <class Masked>
std::string named_mask(int position, int last, const Masked& masked) {
  World world;
  for (int p = 0; p <= last; ++p) {
    world.rows.put(Stage::k_cache, 0, p, random_row(2 * kDim, world.random));
    world.rows.put(Stage::q_rope, 0, p, random_row(2 * kDim, world.random));
    world.rows.put(Stage::attn_scores, 0, p, {0});
  }
  std::vector<double> scores;
  const auto q = world.rows.row(Stage::q_rope, 0, position);
  for (std::size_t h = 0; h < 2; ++h)
    for (int j = 0; j <= position; ++j) {
      const auto key = world.rows.row(Stage::k_cache, 0, j);
      double dot = 0;
      for (std::size_t d = h * kDim; d < (h + 1) * kDim; ++d) dot += q[d] * key[d];
      scores.push_back(masked(j) ? -kInfinity : dot * world.model.attention_scale);
    }
  world.rows.put(Stage::attn_scores, 0, position, scores);
  return world.named(Stage::attn_scores, position);
}

/// Row 4 of a mask of 8 keys, found one element early a row, begins at element 4 * 7 = 28: four elements of row 3 (keys 4 to 7,
/// which row 3 does not see), then keys 0.. of row 4.
TEST(MaskHypotheses, AStrideTooShortShowsTheEndOfTheRowBefore) {
  EXPECT_EQ(named_mask(4, 7, [](int j) { return j < 4; }), "mask-stride delta=1 call=0..7");
  EXPECT_EQ(named_mask(4, 9, [](int j) { return j == 4; }), "attention-length keys=4");
  EXPECT_EQ(named_mask(4, 7, [](int j) { return j == 4; }),
            "masked-keys one_of=attention-length keys=4 or mask-stride delta=2 call=0..7");
  EXPECT_EQ(named_mask(4, 7, [](int j) { return j == 2; }), "");
}

// --- norms -------------------------------------------------------------------------------------------------------------------

std::vector<double> normed(std::span<const double> x, double eps, std::size_t group) {
  std::vector<double> out;
  for (std::size_t first = 0; first < x.size(); first += group) {
    double squares = 0;
    for (std::size_t i = first; i < first + group; ++i) squares += x[i] * x[i];
    for (std::size_t i = first; i < first + group; ++i)
      out.push_back(x[i] / std::sqrt(squares / static_cast<double>(group) + eps) * (1 + 0.25 * static_cast<double>(i % group)));
  }
  return out;
}

MadeMatrix made_gain(std::size_t n) {
  MadeMatrix gain{{1, static_cast<std::int64_t>(n), DType::f32}, {}, {}, {}};
  for (std::size_t i = 0; i < n; ++i) gain.codes.push_back(1 + 0.25 * static_cast<double>(i));
  return gain;
}

TEST(NormHypotheses, RowsThatBeginEarlyAreMeasured) {
  World world;
  world.tensors.all["blk.0.attn_norm.weight"] = made_gain(64);
  std::vector<double> all;
  for (int p = 0; p < 4; ++p) {
    const std::vector<double> row = random_row(64, world.random);
    all.insert(all.end(), row.begin(), row.end());
    world.rows.put(Stage::x_in, 0, p, row);
  }
  world.rows.put(Stage::attn_norm, 0, 3, normed(std::span(all).subspan(3 * 64 - 15, 64), 1e-5, 64));
  EXPECT_EQ(world.named(Stage::attn_norm, 3), "row-stride elements=15 delta=5");
  world.rows.put(Stage::attn_norm, 0, 3, normed(std::span(all).subspan(2 * 64, 64), 1e-5, 64));
  EXPECT_EQ(world.named(Stage::attn_norm, 3), "input argument=0 stage=x_in layer=0 position=2");
}

TEST(NormHypotheses, EpsilonOfANormOfHeadsIsFitted) {
  World world;
  world.tensors.all["blk.0.attn_q_norm.weight"] = made_gain(kDim);
  const std::vector<double> x = random_row(2 * kDim, world.random, 0.3);
  world.rows.put(Stage::q, 0, 0, x);
  world.rows.put(Stage::q_norm, 0, 0, normed(x, 0.037, kDim));
  EXPECT_EQ(world.named(Stage::q_norm, 0), "epsilon eps=0.037");
}

// --- RoPE --------------------------------------------------------------------------------------------------------------------

/// Neighbouring pairs, base 10000.
std::vector<double> turned(std::span<const double> x, int position) {
  std::vector<double> out(x.begin(), x.end());
  for (std::size_t i = 0; i < x.size(); i += 2) {
    const double angle = position * std::pow(10000.0, -static_cast<double>(i % kDim) / kDim);
    out[i] = x[i] * std::cos(angle) - x[i + 1] * std::sin(angle);
    out[i + 1] = x[i] * std::sin(angle) + x[i + 1] * std::cos(angle);
  }
  return out;
}

TEST(RopeHypotheses, WhatTurnsByOneOtherPositionIsAClass) {
  World world;
  const std::vector<double> x = random_row(2 * kDim, world.random);
  const auto named = [&](int position, int turn) {
    world.rows.put(Stage::q, 0, position, x);
    world.rows.put(Stage::q_rope, 0, position, turned(x, turn));
    return world.named(Stage::q_rope, position);
  };
  EXPECT_EQ(named(40, 80), "rope-twice");
  EXPECT_EQ(named(40, 41), "rope-position position=41 as=+1");
  EXPECT_EQ(named(3, 6), "rope-turn one_of=rope-twice or rope-position position=6 as=+3");
  EXPECT_EQ(named(3, 0), "rope-turn one_of=rope-missing or rope-position position=0 as=-3");
}

/// K turned by 7 at position 0: turned by 0, the slot that it was stored in would give it, but that came of it.
TEST(InputHypotheses, WhatCameOfTheRowIsNoInput) {
  World world;
  const std::vector<double> x = random_row(2 * kDim, world.random);
  world.rows.put(Stage::k, 0, 0, x);
  for (const Stage stage : {Stage::k_rope, Stage::k_cache}) world.rows.put(stage, 0, 0, turned(x, 7));
  EXPECT_EQ(world.named(Stage::k_rope, 0), "");
}

// --- slots -------------------------------------------------------------------------------------------------------------------

/// Five slots of V as they should be.
World slot_world() {
  World world;
  for (int layer = 0; layer < 2; ++layer)
    for (int p = 0; p < 5; ++p) {
      const std::vector<double> row = random_row(2 * kDim, world.random);
      world.rows.put(Stage::v, layer, p, row);
      world.rows.put(Stage::v_cache, layer, p, row);
    }
  return world;
}

TEST(SlotHypotheses, TellWhereTheRowWent) {
  const auto row = [](const World& world, Stage stage, int layer, int position) {
    const auto values = world.rows.row(stage, layer, position);
    return std::vector<double>(values.begin(), values.end());
  };
  const std::vector<double> nothing(2 * kDim);
  World left = slot_world();
  left.rows.put(Stage::v_cache, 0, 2, nothing);
  EXPECT_EQ(left.named(Stage::v_cache, 2), "slot-unwritten");
  World shifted = left;
  shifted.rows.put(Stage::v_cache, 0, 3, row(left, Stage::v, 0, 2));
  EXPECT_EQ(shifted.named(Stage::v_cache, 2), "kv-slot-shift delta=+1");
  EXPECT_EQ(shifted.named(Stage::v_cache, 3), "kv-slot-shift delta=+1");
}

/// An earlier slot that a later step overwrote: what is found in it now is not what was recorded.
TEST(SlotHypotheses, TellWhoOverwroteASlotLater) {
  World world = slot_world();
  const auto last = world.rows.row(Stage::v, 0, 4);
  const std::vector<double> now(last.begin(), last.end());
  EXPECT_EQ(world.named(Stage::v_cache, 0, 0, now), "slot-stale layer=0 position=4");
  world.rows.put(Stage::v_cache, 0, 4, std::vector<double>(2 * kDim));
  EXPECT_EQ(world.named(Stage::v_cache, 0, 0, now), "kv-slot-shift delta=-4");
}

TEST(SlotHypotheses, TellWhoseRowASlotHolds) {
  const auto row = [](const World& world, int layer, int position) {
    const auto values = world.rows.row(Stage::v, layer, position);
    return std::vector<double>(values.begin(), values.end());
  };
  World stale = slot_world();
  stale.rows.put(Stage::v_cache, 0, 3, row(stale, 0, 1));
  EXPECT_EQ(stale.named(Stage::v_cache, 3), "slot-stale layer=0 position=1");
  stale.rows.put(Stage::v_cache, 0, 3, row(stale, 1, 3));
  EXPECT_EQ(stale.named(Stage::v_cache, 3), "slot-stale layer=1 position=3");
  stale.rows.put(Stage::v_cache, 0, 3, random_row(2 * kDim, stale.random));
  EXPECT_EQ(stale.named(Stage::v_cache, 3), "");
}

// --- blocks of activations ---------------------------------------------------------------------------------------------------

/// The largest of the block is 127 * 1.25, so d = 1.25 and its inverse 0.8: in two bits 0.75.
TEST(QuantisationHypotheses, ACodeIsMadeWithAShortInverse) {
  World world;
  std::vector<double> x(32), kept(32);
  for (std::size_t i = 0; i < 32; ++i) x[i] = 5 * static_cast<double>(i) - 70.25;
  x[0] = 158.75;
  for (std::size_t i = 0; i < 32; ++i) kept[i] = std::nearbyint(x[i] * 0.75) * 1.25;
  world.rows.put(Stage::attn_norm, 0, 0, x);
  world.rows.put(Stage::attn_norm_q8, 0, 0, kept);
  EXPECT_EQ(world.named(Stage::attn_norm_q8, 0), "inverse-scale bits=2");
  kept[4] += 2.5;  // another code than any inverse gives
  world.rows.put(Stage::attn_norm_q8, 0, 0, kept);
  EXPECT_EQ(world.named(Stage::attn_norm_q8, 0), "");
}

// --- outputs -----------------------------------------------------------------------------------------------------------------

TEST(OutputHypotheses, SignTailElementAndNan) {
  World world;
  const std::vector<double> a = random_row(64, world.random), b = random_row(64, world.random);
  std::vector<double> sum(64);
  for (std::size_t i = 0; i < 64; ++i) sum[i] = a[i] + b[i];
  for (int p = 0; p < 2; ++p) {
    world.rows.put(Stage::x_after_attn, 0, p, a);
    world.rows.put(Stage::mlp_out, 0, p, b);
  }
  const auto named = [&](const auto& change) {
    std::vector<double> row = sum;
    change(row);
    world.rows.put(Stage::x_after_mlp, 0, 1, row);
    return world.named(Stage::x_after_mlp, 1);
  };
  EXPECT_EQ(named([](auto& row) {
              for (double& value : row) value = -value;
            }),
            "sign of=output");
  EXPECT_EQ(named([](auto& row) { std::fill(row.begin(), row.end(), 0.0); }), "output-unwritten");
  EXPECT_EQ(named([](auto& row) { row[7] += 1; }), "element first=7 count=1");
  EXPECT_EQ(named([](auto& row) { row[7] = row[9] = 3; }), "elements first=7 count=3");
  EXPECT_EQ(named([](auto& row) { row[7] = kNan; }), "nan first=7 count=1");
  EXPECT_EQ(named([](auto& row) { row[62] = row[63] = 3; }), "tail-unwritten first=62 count=2");
  EXPECT_EQ(named([](auto& row) { row[63] = 3; }),
            "last-elements one_of=tail-unwritten first=63 count=1 or element first=63 count=1");
  std::vector<double> before = sum;
  before[63] = 3;
  world.rows.put(Stage::x_after_mlp, 0, 0, before);
  EXPECT_EQ(named([](auto& row) { row[63] = 3; }), "tail-unwritten first=63 count=1 holds=layer 0 position 0");
  EXPECT_EQ(named([](auto& row) {
              for (double& value : row) value *= 1.5;
            }),
            "factor factor=1.5");
  EXPECT_EQ(named([](auto& row) {
              for (std::size_t i = 0; i < row.size(); ++i) row[i] += i % 2 == 0 ? 1 : -2;
            }),
            "");
}

}  // namespace
}  // namespace greta::test
