// Captures out of nothing, and places to write them.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"
#include "trace/fingerprint.h"
#include "trace/record.h"

namespace greta::test {

/// A directory of its own, removed at the end unless the test failed (then its name is printed).
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "greta_trace_XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TempDir() {
    if (testing::Test::HasFailure()) {
      std::printf("kept: %s\n", path_.c_str());
      return;
    }
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline std::string slurp(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void spew(const std::filesystem::path& path, const std::string& content) {
  std::filesystem::create_directories(path.parent_path());
  std::error_code ignored;
  std::filesystem::remove(path, ignored);  // writing over a file makes some file systems wait for the disk
  std::ofstream(path, std::ios::binary) << content;
}
/// what() of the Error that `f` throws; empty where it throws none. Every message is one line.
inline std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "";
}

inline std::uint64_t bits(double x) { return std::bit_cast<std::uint64_t>(x); }
/// Bit for bit, but all NaN are one (JSON has one).
inline bool same(double a, double b) { return bits(a) == bits(b) || (std::isnan(a) && std::isnan(b)); }
inline bool same(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!same(a[i], b[i])) return false;
  return true;
}

inline void expect_same(const OperandRecord& a, const OperandRecord& b) {
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.argument, b.argument);
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.producer_stage, b.producer_stage);
  EXPECT_EQ(a.producer_layer, b.producer_layer);
  EXPECT_EQ(a.producer_position, b.producer_position);
  EXPECT_EQ(a.buffer, b.buffer);
  EXPECT_EQ(a.generation, b.generation);
  EXPECT_EQ(a.dtype, b.dtype);
  EXPECT_EQ(a.layout, b.layout);
  EXPECT_EQ(a.hash, b.hash);
  EXPECT_EQ(a.producer_hash, b.producer_hash);
  EXPECT_TRUE(same(a.value, b.value));
}

/// `details`: slices, sketches and operands too.
inline void expect_same(const StageRecord& a, const StageRecord& b, bool details = true) {
  SCOPED_TRACE(std::string(name(a.stage)) + " layer " + std::to_string(a.layer) + " position " + std::to_string(a.position));
  EXPECT_EQ(a.stage, b.stage);
  EXPECT_EQ(a.layer, b.layer);
  EXPECT_EQ(a.position, b.position);
  EXPECT_EQ(a.token_id, b.token_id);
  EXPECT_EQ(a.phase, b.phase);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.reread, b.reread);
  EXPECT_EQ(a.exposure, b.exposure);
  EXPECT_EQ(a.dtype, b.dtype);
  EXPECT_EQ(a.offset_bytes, b.offset_bytes);
  EXPECT_EQ(a.route, b.route);
  EXPECT_EQ(a.print.hash, b.print.hash);
  EXPECT_EQ(a.print.count, b.print.count);
  EXPECT_EQ(a.print.whole_row, b.print.whole_row);
  EXPECT_TRUE(same(a.print.min, b.print.min));
  EXPECT_TRUE(same(a.print.max, b.print.max));
  EXPECT_TRUE(same(a.print.mean, b.print.mean));
  EXPECT_TRUE(same(a.print.rms, b.print.rms));
  EXPECT_TRUE(same(a.print.abs_sum, b.print.abs_sum));
  EXPECT_EQ(a.print.nan, b.print.nan);
  EXPECT_EQ(a.print.inf, b.print.inf);
  EXPECT_EQ(a.print.zero, b.print.zero);
  if (!details) return;
  EXPECT_TRUE(same(a.print.sample, b.print.sample));
  EXPECT_TRUE(same(a.print.sketch, b.print.sketch));
  ASSERT_EQ(a.operands.size(), b.operands.size());
  for (std::size_t i = 0; i < a.operands.size(); ++i) expect_same(a.operands[i], b.operands[i]);
}

inline void expect_same(const LogitsRecord& a, const LogitsRecord& b) {
  EXPECT_EQ(a.position, b.position);
  EXPECT_EQ(a.token_id, b.token_id);
  EXPECT_EQ(a.phase, b.phase);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.hash, b.hash);
  EXPECT_EQ(a.has_hash, b.has_hash);
  EXPECT_TRUE(same(a.mean, b.mean));
  EXPECT_TRUE(same(a.min, b.min));
  EXPECT_TRUE(same(a.max, b.max));
  EXPECT_EQ(a.top1_id, b.top1_id);
  EXPECT_EQ(a.top2_id, b.top2_id);
  EXPECT_TRUE(same(a.top1_logit, b.top1_logit));
  EXPECT_TRUE(same(a.top2_logit, b.top2_logit));
  EXPECT_EQ(a.tie, b.tie);
  EXPECT_EQ(a.vocab, b.vocab);
}

inline void expect_same_description(const Capture& a, const Capture& b) {
  EXPECT_EQ(a.prompt_id, b.prompt_id);
  EXPECT_EQ(a.exp, b.exp);
  EXPECT_EQ(a.arm, b.arm);
  EXPECT_EQ(a.foreign, b.foreign);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.n_prompt, b.n_prompt);
  EXPECT_EQ(a.n_layers, b.n_layers);
  EXPECT_EQ(a.schedule, b.schedule);
  EXPECT_EQ(a.kv_slots_read_from_earlier_steps, b.kv_slots_read_from_earlier_steps);
  EXPECT_EQ(a.backend, b.backend);
  EXPECT_EQ(a.plan, b.plan);
  EXPECT_EQ(a.build, b.build);
  EXPECT_EQ(a.host, b.host);
  EXPECT_EQ(a.threads, b.threads);
  EXPECT_EQ(a.model_hash, b.model_hash);
  EXPECT_EQ(a.tokenizer_hash, b.tokenizer_hash);
  EXPECT_EQ(a.routes, b.routes);
  EXPECT_EQ(a.fault_effects, b.fault_effects);
  EXPECT_EQ(a.fault_planted, b.fault_planted);
}

inline void expect_same(const Capture& a, const Capture& b, bool details = true) {
  expect_same_description(a, b);
  ASSERT_EQ(a.records.size(), b.records.size());
  for (std::size_t i = 0; i < a.records.size(); ++i) expect_same(a.records[i], b.records[i], details);
  ASSERT_EQ(a.logits.size(), b.logits.size());
  for (std::size_t i = 0; i < a.logits.size(); ++i) expect_same(a.logits[i], b.logits[i]);
}

/// Fingerprint of a row of `n` values drawn from `seed`, with what a trace must survive in it.
inline Fingerprint print_of_row(unsigned seed, std::size_t n, std::int64_t sample) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> row(n);
  for (float& x : row) x = normal(random);
  if (seed % 7 == 0) row[1] = std::numeric_limits<float>::quiet_NaN();
  if (seed % 11 == 0) row[2] = -std::numeric_limits<float>::infinity();
  if (seed % 5 == 0) row[0] = -0.0f;
  if (seed % 3 == 0) row[3] = std::numeric_limits<float>::denorm_min();
  return fingerprint(reinterpret_cast<const std::byte*>(row.data()), DType::f32, static_cast<std::int64_t>(n),
                     {.sample = sample});
}

/// What an arm of E1 would record: arm a prefills n tokens at once; arm b n-1, then decodes one. Every stage, 2 layers; rows of
/// both arms are equal. `sample` elements of each row.
inline Capture make_capture(char arm, std::int32_t n = 4, std::int64_t sample = 8, const std::string& prompt = "p0") {
  Capture capture;
  capture.prompt_id = prompt;
  capture.exp = "E1";
  capture.arm = arm;
  capture.n_prompt = n;
  capture.n_layers = 2;
  for (std::int32_t i = 0; i < n; ++i) capture.tokens.push_back(100 + i);
  capture.schedule = arm == 'a' ? std::vector<std::int32_t>{n} : std::vector<std::int32_t>{n - 1, 1};
  capture.kv_slots_read_from_earlier_steps = arm == 'a' ? 0 : n - 1;
  capture.backend = "cpu";
  capture.plan = "reference";
  capture.build = "0.1.0 \"quoted\"\n";
  capture.host = "höst";
  capture.threads = 3;
  capture.model_hash = "0123456789abcdef";
  capture.tokenizer_hash = "fedcba9876543210";
  capture.routes = {{"matmul", "reference"}, {"pv", "reference"}};
  capture.fault_planted = arm == 'b';
  capture.fault_effects = arm == 'b' ? 12 : 0;
  for (std::int32_t p = 0; p < n; ++p) {
    const bool decoded = arm == 'b' && p == n - 1;
    for (const Stage stage : all_stages()) {
      for (std::int32_t layer = 0; layer < (once_per_token(stage) ? 1 : 2); ++layer) {
        StageRecord record;
        record.stage = stage;
        record.layer = once_per_token(stage) ? 2 : layer;
        record.position = p;
        record.token_id = 100 + p;
        record.phase = decoded ? Phase::decode : Phase::prefill;
        record.step = decoded ? 1 : 0;
        record.dtype = DType::f32;
        record.offset_bytes = decoded ? 0 : p * 64;
        record.route = stage == Stage::x_out ? "" : "reference";
        const auto seed = static_cast<unsigned>((p * 2 + layer) * kStageCount) + static_cast<unsigned>(stage) + 1;
        if (stage == Stage::q_norm) {
          record.exposure = Exposure::not_exposed;
          record.dtype.reset();
          record.offset_bytes = 0;
          record.print = {};
        } else {
          record.print = print_of_row(seed, 16, sample);
        }
        if (stage == Stage::ffn_norm) {
          record.operands.push_back({OperandKind::activation, "x", "", Stage::x_after_attn, layer, p, 7, 1234567, DType::f32,
                                     "", Hash128{1, 2}, Hash128{3, 4}, 0});
          record.operands.push_back({OperandKind::weight, "weight", "blk.0.ffn_norm.weight", std::nullopt, -1, -1, 0, 0,
                                     DType::q8_0, "row_major", Hash128{~0ull, 5}, std::nullopt, 0});
          record.operands.push_back(
              {OperandKind::scalar, "eps", "", std::nullopt, -1, -1, 0, 0, std::nullopt, "", std::nullopt, std::nullopt, 1e-5});
          record.operands.push_back(
              {OperandKind::kv, "k", "", Stage::k_cache, layer, p, 0, 0, DType::f16, "", Hash128{9, 9}, std::nullopt, p + 1.0});
        }
        capture.records.push_back(record);
      }
    }
    LogitsRecord logits;
    logits.position = p;
    logits.token_id = 100 + p;
    logits.phase = decoded ? Phase::decode : Phase::prefill;
    logits.step = decoded ? 1 : 0;
    logits.hash = {static_cast<std::uint64_t>(p) + 10, 20};
    logits.mean = 0.1 * p;
    logits.min = -3.25;
    logits.max = 1.0 / 3;
    logits.top1_id = 41 + p;
    logits.top2_id = 3;
    logits.top1_logit = 1.0 / 3;
    logits.top2_logit = p == 2 ? 1.0 / 3 : 0.25;
    logits.tie = p == 2;
    logits.vocab = 512;
    capture.logits.push_back(logits);
  }
  if (arm == 'b') {  // a KV slot as the decode step found it
    StageRecord record = capture.records.front();
    record.stage = Stage::k_cache;
    record.layer = 1;
    record.position = 1;
    record.token_id = 101;
    record.phase = Phase::decode;
    record.step = 1;
    record.reread = true;
    record.print = print_of_row(4242, 16, sample);
    capture.records.push_back(record);
  }
  return capture;
}

}  // namespace greta::test
