// `greta audit`: every audit of one engine against itself, healthy and with a fault that it must find.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/command.h"

namespace greta::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::json;

class SelfAudit : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryDirectory();
    make("f32", {"--type", "f32", "--layers", "2", "--seed", "5"});
    make("q4_k", {"--type", "q4_k", "--layers", "2", "--seed", "6"});
    make("qwen2", {"--arch", "qwen2", "--layers", "2", "--seed", "7"});  // biases, a tied head
    make("gemma3", {"--arch", "gemma3", "--layers", "2", "--window", "8", "--seed", "8"});
  }
  static void TearDownTestSuite() { delete folder_; }
  static void make(const std::string& name, std::vector<std::string> shape) {
    shape.insert(shape.begin(), {"models", "synth", "--shape", "tiny", "--out", model(name)});
    ASSERT_EQ(greta(shape).exit_code, 0);
  }
  static std::string model(const std::string& name) { return folder_->path() / (name + ".gguf"); }

  /// Runs an audit with --json; prompts are given to those that take one.
  static Json audit(const std::string& which, const std::string& name, const std::vector<std::string>& extra, int exit_code) {
    std::vector<std::string> arguments{"audit", which, model(name), "--json"};
    if (which != "layout" && which != "rope") arguments.insert(arguments.end(), {"--prompt", "Hello there"});
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    const CommandResult result = greta(arguments);
    EXPECT_EQ(result.exit_code, exit_code) << which << " " << name << "\n" << result.out << result.err;
    const Json parsed = Json::parse(result.out, nullptr, false);
    EXPECT_TRUE(parsed.is_object()) << result.out;
    if (!parsed.is_object()) return {{"rows", Json::array()}};
    EXPECT_EQ(parsed["audit"], which);
    EXPECT_EQ(parsed["verdict"], exit_code == 0 ? "AGREE" : exit_code == 1 ? "DIVERGED" : "VACUOUS");
    return parsed;
  }
  static Json healthy(const std::string& which, const std::string& name, const std::vector<std::string>& extra = {}) {
    return audit(which, name, extra, 0)["rows"];
  }
  /// The rows that do not hold.
  static Json faulty(const std::string& which, const std::string& name, const std::string& fault,
                     const std::vector<std::string>& extra = {}) {
    std::vector<std::string> all{"--fault", fault};
    all.insert(all.end(), extra.begin(), extra.end());
    Json found = Json::array();
    const Json whole = audit(which, name, all, 1);
    for (const Json& row : whole["rows"])
      if (row["holds"] == false) found.push_back(row);
    return found;
  }
  static std::set<std::string> values(const Json& rows, const char* column) {
    std::set<std::string> out;
    for (const Json& row : rows) out.insert(row[column].is_string() ? row[column].get<std::string>() : row[column].dump());
    return out;
  }
  static void expect_one_line_error(const std::vector<std::string>& arguments, const std::vector<std::string>& parts) {
    const CommandResult result = greta(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.out;
    EXPECT_THAT(result.err, StartsWith("greta: error: "));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    for (const std::string& part : parts) EXPECT_THAT(result.err, HasSubstr(part));
  }

  static inline TemporaryDirectory* folder_ = nullptr;
};

// determinism

TEST_F(SelfAudit, DeterminismComparesEveryRepeat) {
  const Json rows = healthy("determinism", "f32", {"--runs", "4"});
  ASSERT_EQ(rows.size(), 3u);
  for (const Json& row : rows) {
    EXPECT_EQ(row["rows"].get<int>() % (2 * 21 + 3), 0) << row;  // 21 stages a layer, 3 of the head, whole positions
    EXPECT_GT(row["rows"], 200) << row;
    EXPECT_EQ(row["differing"], 0);
  }
  EXPECT_EQ(healthy("determinism", "f32").size(), 4u);  // five runs
}

TEST_F(SelfAudit, DeterminismFindsARowThatDiffersInOneBit) {
  const Json found = faulty("determinism", "f32", "perturb@decode:layer=1:stage=attn_out:index=3");
  EXPECT_EQ(found.size(), 4u);  // the first run is healthy
  for (const Json& row : found) EXPECT_THAT(row["first"].get<std::string>(), StartsWith("attn_out layer 1 position"));
  const Json logits = faulty("determinism", "f32", "perturb@prefill:stage=logits:position=2:index=0");
  for (const Json& row : logits) {
    EXPECT_EQ(row["first"], "logits position 2");
    EXPECT_EQ(row["differing"], 1);
  }
}

// invariance

TEST_F(SelfAudit, InvarianceHoldsForEveryVariantOnBothPlans) {
  for (const auto& [name, plan] : {std::pair{"f32", "reference"}, {"q4_k", "q8"}, {"gemma3", "float64"}}) {
    const Json rows = healthy("invariance", name, {"--plan", plan});
    EXPECT_EQ(values(rows, "variant"),
              (std::set<std::string>{"chunk", "decode", "batch", "order", "duplicates", "threads", "isa"}));
    for (const Json& row : rows) EXPECT_EQ(row["rows"], rows[0]["rows"]) << row;
    for (const Json& row : rows)  // of 8 rows that are prefilled
      if (row["variant"] == "chunk") {
        EXPECT_EQ(row["calls"], row["value"] == "16" || row["value"] == "all" ? "as base" : "own") << row;
      }
    for (const char* value : {"1", "2", "3", "7"})
      EXPECT_TRUE(std::any_of(rows.begin(), rows.end(), [&](const Json& row) {
        return row["variant"] == "chunk" && row["value"] == value;
      })) << value;
  }
}

TEST_F(SelfAudit, InvarianceOfALongPromptCutsItAroundATile) {
  std::string prompt;
  for (int i = 0; i < 20; ++i) prompt += "Hello there ";
  const auto rows_of = [&](const std::vector<std::string>& more, int exit_code) {
    std::vector<std::string> arguments{"audit", "invariance", model("f32"), "--json", "--prompt", prompt};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult result = greta(arguments);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    const Json whole = Json::parse(result.out, nullptr, false);
    std::map<std::string, Json> chunks;
    for (const Json& row : whole["rows"])
      if (row["variant"] == "chunk") chunks[row["value"].get<std::string>()] = row;
    return chunks;
  };
  auto healthy = rows_of({}, 0);
  EXPECT_EQ(healthy.size(), 9u);  // 1, 2, 3, 7, 16, 64, 65, all but one, all
  int longest = 0;
  for (const auto& [value, row] : healthy) {
    EXPECT_EQ(row["calls"], value == "all" ? "as base" : "own") << row;
    if (value != "all") longest = std::max(longest, std::stoi(value));
  }
  EXPECT_GT(longest, 65);
  auto faulty = rows_of({"--fault", "chunk-slot-map@prefill:layer=0:stage=k_cache"}, 1);
  for (const std::string& value : {std::string("64"), std::string("65"), std::to_string(longest)})
    EXPECT_EQ(faulty[value]["holds"], false) << value;
}

TEST_F(SelfAudit, InvarianceSaysThatThereIsNoPadding) {
  const Json whole = audit("invariance", "f32", {}, 0);
  EXPECT_THAT(whole["notes"].dump(), HasSubstr("padding: the engine has none"));
}

TEST_F(SelfAudit, InvarianceFindsWhatDependsOnTheCallsRows) {
  const Json broadcast = faulty("invariance", "f32", "position-broadcast@prefill:layer=1");
  for (const Json& row : broadcast) {
    EXPECT_THAT(row["first"].get<std::string>(), StartsWith("q_rope layer 1 position")) << row;
    EXPECT_FALSE(row["variant"] == "chunk" && row["value"] == "1") << row;  // its rows are alone in their calls
    EXPECT_NE(row["variant"], "decode") << row;
  }
  EXPECT_GT(broadcast.size(), 5u);
  // A chunk's own slots: right where the call begins at position 0.
  const Json slots = faulty("invariance", "f32", "chunk-slot-map@prefill:layer=0:stage=k_cache");
  EXPECT_EQ(values(slots, "variant"), std::set<std::string>{"chunk"});
  // Position 2 is a decode step in one variant only.
  const Json decoded = faulty("invariance", "f32", "perturb@decode:layer=1:stage=mlp_out:position=2");
  ASSERT_EQ(decoded.size(), 1u);
  EXPECT_EQ(decoded[0]["variant"], "decode");
  EXPECT_EQ(decoded[0]["first"], "mlp_out layer 1 position 2");
}

// kv

TEST_F(SelfAudit, KvCountsEverySlotOnceAndEveryRead) {
  for (const char* kv : {"f32", "f16", "q8_0"}) {
    const Json rows = healthy("kv", "f32", {"--kv", kv, "--decode", "3"});
    ASSERT_EQ(rows.size(), 4u);  // 2 layers, K and V
    for (const Json& row : rows) {
      const auto n = row["slots"].get<int>();
      EXPECT_EQ(row["writes"], n);
      EXPECT_EQ(row["reads"], (n - 3) + (n - 2) + (n - 1) + n);  // one prefill call, three decode steps
    }
  }
  // In chunks of 4, each call reads all before it; window and batch change nothing.
  const Json chunks = healthy("kv", "gemma3", {"--chunk", "4", "--batch", "2", "--decode", "1"});
  for (const Json& row : chunks) {
    const auto n = row["slots"].get<int>();
    int reads = n;
    for (int end = 4; end < n - 1 + 4; end += 4) reads += std::min(end, n - 1);
    EXPECT_EQ(row["reads"], reads);
  }
}

TEST_F(SelfAudit, KvFindsSlotsThatAreNotWhatWasWritten) {
  const std::vector<std::tuple<std::string, std::string, std::string>> plants{
      {"kv-stale@decode:layer=1:stage=k_cache", "k", "misplaced"},
      {"kv-stale@decode:layer=1:stage=v_cache:position=-1:row=0", "v", "unwritten"},
      {"kv-slot-shift@decode:layer=1:stage=v_cache", "v", "misplaced"},
      {"kv-slot-shift@prefill:layer=1:stage=k_cache:position=3:delta=-1", "k", "rewritten"},
      {"chunk-slot-map@decode:layer=1:stage=k_cache", "k", "rewritten"},
      {"perturb@decode:layer=1:stage=k_cache:position=1:index=3", "k", "changed"},
      {"nan@prefill:layer=1:stage=v_cache:position=2:index=0", "v", "changed"},
      {"kv-wrong-layer@decode:layer=1:stage=attn_out", "v", "misplaced"},
      {"kv-wrong-layer@decode:layer=1:stage=attn_scores", "k", "misplaced"},
  };
  for (const auto& [fault, part, column] : plants) {
    const Json found = faulty("kv", "f32", fault);
    ASSERT_EQ(found.size(), 1u) << fault << "\n" << found;
    EXPECT_EQ(found[0]["layer"], 1) << fault;
    EXPECT_EQ(found[0]["part"], part) << fault;
    EXPECT_GT(found[0][column], 0) << fault << "\n" << found;
  }
  EXPECT_THAT(faulty("kv", "f32", "perturb@decode:layer=1:stage=k_cache:position=1:index=3")[0]["finding"].get<std::string>(),
              HasSubstr("read position 1, which changed after it was written"));
}

// layout

TEST_F(SelfAudit, LayoutReadsEveryTensorOfTheFile) {
  for (const auto& [name, plan] :
       {std::pair{"f32", "reference"}, {"q4_k", "reference"}, {"q4_k", "q8"}, {"qwen2", "float64"}, {"gemma3", "reference"}}) {
    const Json whole = audit("layout", name, {"--plan", plan}, 0);
    const std::set<std::string> read = values(whole["rows"], "tensor");
    const Json info = Json::parse(greta({"models", "info", model(name), "--json"}).out, nullptr, false);
    ASSERT_TRUE(info.is_object());
    ASSERT_FALSE(info["tensors"].empty());
    for (const Json& tensor : info["tensors"]) EXPECT_TRUE(read.contains(tensor["name"])) << name << " " << tensor["name"];
    EXPECT_THAT(whole["notes"].dump(), ::testing::Not(HasSubstr("no op reads it")));
  }
}

TEST_F(SelfAudit, LayoutFindsWeightsReadWrongly) {
  const std::vector<std::tuple<std::string, std::string, std::string>> plants{
      {"f32", "weight-transposed@any:layer=1:stage=q", "blk.1.attn_q.weight"},
      {"f32", "row-shifted@any:layer=0:stage=ffn_gate", "blk.0.ffn_gate.weight"},
      {"f32", "row-shifted@decode:layer=1:stage=v:delta=-3", "blk.1.attn_v.weight"},
      {"f32", "tail-dropped@any:layer=1:stage=mlp_out", "blk.1.ffn_down.weight"},
      {"f32", "tail-dropped@prefill:stage=logits:block=7", "output.weight"},
      {"f32", "qk-permuted@any:layer=1:stage=k", "blk.1.attn_k.weight"},
      {"q4_k", "block-scale@any:layer=1:stage=wo_out:as=one", "blk.1.attn_output.weight"},
      {"q4_k", "block-min@any:layer=0:stage=ffn_up", "blk.0.ffn_up.weight"},
      {"f32", "embedding-row@any", "token_embd.weight"},
  };
  for (const auto& [name, fault, tensor] : plants) {
    const Json found = faulty("layout", name, fault);
    ASSERT_EQ(found.size(), 1u) << fault << "\n" << found;
    EXPECT_EQ(found[0]["tensor"], tensor) << fault;
  }
  EXPECT_EQ(values(faulty("layout", "qwen2", "bias-missing@any:layer=1:stage=k"), "tensor"),
            (std::set<std::string>{"blk.1.attn_k.weight", "blk.1.attn_k.bias"}));
  EXPECT_EQ(values(faulty("layout", "q4_k", "block-scale@any:layer=1:stage=q:as=one", {"--plan", "q8"}), "tensor"),
            std::set<std::string>{"blk.1.attn_q.weight"});
}

/// Zeros read the same in every layout: that is said, and a window of zeros is moved.
TEST_F(SelfAudit, LayoutMovesWindowsOfZerosAndSaysWhereThereAreOnlyZeros) {
  const Json info = Json::parse(greta({"models", "info", model("f32"), "--json"}).out);
  std::string bytes = read_file(model("f32"));
  for (const Json& tensor : info["tensors"]) {
    const auto offset = tensor["offset"].get<std::size_t>(), size = tensor["bytes"].get<std::size_t>();
    if (tensor["name"] == "blk.0.attn_v.weight") bytes.replace(offset, size, size, '\0');
    if (tensor["name"] != "blk.1.attn_k.weight") continue;
    const std::size_t cols = tensor["shape"][0].get<std::size_t>();  // the first columns of every row
    for (std::size_t at = offset; at < offset + size; at += cols * sizeof(float)) bytes.replace(at, 40, 40, '\0');
  }
  write_file(model("zeros"), bytes);
  const Json whole = audit("layout", "zeros", {}, 0);
  EXPECT_THAT(whole["notes"].dump(), HasSubstr("blk.0.attn_v.weight: zeros alone"));
  EXPECT_THAT(whole["notes"].dump(), ::testing::Not(HasSubstr("attn_k")));
  expect_one_line_error({"audit", "layout", model("zeros"), "--fault", "row-shifted@any:layer=0:stage=v"}, {"changed nothing"});
  for (const Json& tensor : info["tensors"]) {
    const auto offset = tensor["offset"].get<std::size_t>(), size = tensor["bytes"].get<std::size_t>();
    bytes.replace(offset, size, size, '\0');
  }
  write_file(model("only-zeros"), bytes);
  EXPECT_THAT(audit("layout", "only-zeros", {}, 2)["reason"].get<std::string>(), HasSubstr("zeros alone"));
  const Json moved = faulty("layout", "zeros", "row-shifted@any:layer=1:stage=k");
  ASSERT_EQ(moved.size(), 1u);
  EXPECT_EQ(moved[0]["tensor"], "blk.1.attn_k.weight");
}

// precision

TEST_F(SelfAudit, PrecisionNamesTheTypeOfEachPlansSums) {
  for (const auto& [name, plan, type] :
       {std::tuple{"f32", "reference", "f32"}, {"f32", "float64", "f64"}, {"q4_k", "q8", "f32"}}) {
    const Json rows = healthy("precision", name, {"--plan", plan});
    int named = 0;
    for (const Json& row : rows) {
      EXPECT_LE(row["worst"], 1) << row;
      EXPECT_LE(row["median"], row["worst"]) << row;
      if (row["runs_at"].is_null()) continue;
      EXPECT_EQ(row["runs_at"], type) << plan << " " << row;
      EXPECT_LT(row["f32"], row["f16"]) << row;
      EXPECT_LT(row["f16"], row["bf16"]) << row;
      EXPECT_LE(row["f64"], row["f32"]) << row;
      ++named;
    }
    EXPECT_EQ(named, 14) << plan;  // 3 norms, 8 products with the head, scores, probabilities, mixture
  }
}

TEST_F(SelfAudit, PrecisionFindsSumsInBinary16) {
  for (const auto& [stage, op] : {std::pair{"wo_out", "matmul"}, {"attn_scores", "qk"}, {"attn_out", "pv"}}) {
    const Json found = faulty("precision", "f32", std::string("f16-accumulate@any:layer=1:stage=") + stage);
    ASSERT_EQ(found.size(), 1u) << stage << "\n" << found;
    EXPECT_EQ(found[0]["stage"], stage);
    EXPECT_EQ(found[0]["op"], op);
    EXPECT_EQ(found[0]["runs_at"], "f16") << found;
    EXPECT_GT(found[0]["worst"], 1);
  }
}

// rope

TEST_F(SelfAudit, RopeKeepsItsPrecisionToTheLastPosition) {
  for (const char* plan : {"reference", "float64"}) {
    const Json rows = healthy("rope", "gemma3", {"--plan", plan});
    ASSERT_EQ(rows.size(), 20u);  // 0, 18 powers of two, 131071
    std::vector<int> positions;
    for (const Json& row : rows) positions.push_back(row["position"].get<int>());
    EXPECT_EQ(positions.front(), 0);
    EXPECT_EQ(positions.back(), 131072);
    EXPECT_EQ(positions[18], 131071);
    for (const Json& row : rows) {
      EXPECT_LE(row["ratio"], 1) << row;
      EXPECT_LT(row["error"], 4e-7) << row;  // a few roundings of numbers up to 1.5, at every position
    }
    // An F32 angle is off by up to 2^-24 of itself: by thousandths of a radian at the end.
    EXPECT_EQ(rows[0]["f32_angle"], 0);
    EXPECT_LT(rows[1]["f32_angle"], 1e-6);
    EXPECT_GT(rows[19]["f32_angle"], 1e-4);
    EXPECT_LT(rows[19]["f32_angle"], 131072 * 1.5 * 3 * std::ldexp(1.0, -24));
  }
}

TEST_F(SelfAudit, RopeFindsWrongPositionsBasesAndNarrowPositions) {
  EXPECT_EQ(faulty("rope", "f32", "rope-position@any").size(), 20u);
  EXPECT_EQ(faulty("rope", "f32", "rope-position@decode:layer=1:stage=k_rope:position=64").size(), 1u);
  EXPECT_EQ(faulty("rope", "f32", "rope-theta@any").size(), 19u);  // nothing turns at position 0
  EXPECT_EQ(values(faulty("rope", "f32", "position-narrow@any:bits=16"), "position"),
            (std::set<std::string>{"65536", "131071", "131072"}));
}

// what all share

TEST_F(SelfAudit, TablesNameTheFirstDifferenceAndTheVerdict) {
  const CommandResult good = greta({"audit", "kv", model("f32"), "--prompt", "Hello there"});
  EXPECT_EQ(good.exit_code, 0);
  EXPECT_THAT(good.out, HasSubstr("audit kv: AGREE\n"));
  const CommandResult bad =
      greta({"audit", "rope", "--model", model("f32"), "--fault", "position-narrow@decode:bits=16:layer=1"});
  EXPECT_EQ(bad.exit_code, 1);
  EXPECT_THAT(bad.out, HasSubstr("NO: q_rope layer 1 (decode)"));
  EXPECT_THAT(bad.out, HasSubstr("audit rope: DIVERGED\n"));
}

TEST_F(SelfAudit, TheDemoModelIsTheDefault) {
  const CommandResult result = greta({"audit", "kv", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(values(Json::parse(result.out)["rows"], "prompt"), (std::set<std::string>{"p0_short", "p4_sys"}));
  EXPECT_EQ(greta({"audit", "precision", "--prompt", "Hi"}).exit_code, 0);
  EXPECT_EQ(greta({"audit", "layout"}).exit_code, 0);
}

using SelfAuditBadInput = SelfAudit;

TEST_F(SelfAuditBadInput, IsRefusedInOneLine) {
  const std::string m = model("f32");
  expect_one_line_error({"audit"}, {"name of an audit"});
  expect_one_line_error({"audit", "kv", folder_->path() / "none.gguf"}, {"none.gguf"});
  expect_one_line_error({"audit", "determinism", m, "--runs", "1"}, {"--runs"});
  expect_one_line_error({"audit", "kv", m, "--decode", "0"}, {"--decode"});
  expect_one_line_error({"audit", "kv", m, "--prompt", ""}, {"--prompt", "empty"});
  expect_one_line_error({"audit", "kv", m, "--prompt", "a", "--prompt-file", m}, {"--prompt-file"});
  expect_one_line_error({"audit", "kv", m, "--kv", "q4_0"}, {"q4_0"});
  expect_one_line_error({"audit", "kv", m, "--fault", "no-such-fault@any"}, {"no-such-fault"});
  expect_one_line_error({"audit", "kv", m, "--prompt", std::string(5000, 'x')}, {"context"});
  // Faults that cannot act, or that the arm cannot have.
  expect_one_line_error({"audit", "determinism", m, "--fault", "rope-position@decode:layer=1:delta=0"}, {"changed nothing"});
  expect_one_line_error({"audit", "invariance", m, "--fault", "perturb@decode:layer=1:stage=q:position=0"},
                        {"changed nothing"});
  expect_one_line_error({"audit", "layout", m, "--fault", "rope-position@any"}, {"changed nothing"});
  expect_one_line_error({"audit", "layout", m, "--fault", "block-scale@any"}, {"no blocks"});
  expect_one_line_error({"audit", "rope", m, "--fault", "position-narrow@any:bits=31"}, {"changed nothing"});
  expect_one_line_error({"audit", "rope", m, "--fault", "rope-position@any:layer=9"}, {"layer 9"});
}

}  // namespace
}  // namespace greta::test
