// Captures that must not be compared, or that somebody has spoiled: each is named in one line, none agrees, and nobody's op is
// blamed for another prompt, model, tokeniser or weight type. The same captures unspoiled still agree.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "tests/support/command.h"

namespace greta::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Lines = std::vector<std::string>;

constexpr const char* kJsonl = "b3_41_post_wo_prompt_E1.jsonl";

Lines lines_of(const std::string& text) {
  Lines out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

std::string joined(const Lines& lines) {
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

std::string from_line_2(const std::string& table) { return table.substr(table.find('\n') + 1); }

/// Whether one line of `text` holds all words.
bool one_line_holds(const std::string& text, const std::vector<std::string>& words) {
  const Lines lines = lines_of(text);
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) {
    return std::all_of(words.begin(), words.end(), [&](const auto& word) { return line.find(word) != line.npos; });
  });
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) text.replace(at, from.size(), to);
  return text;
}

/// Every JSON line of the arm (of both with '*') that is a row of `stage` (all with ""), altered.
Lines with_rows(const Lines& lines, char arm, const std::string& stage, const std::function<void(Json&)>& alter) {
  Lines out;
  for (const std::string& line : lines) {
    Json object = Json::parse(line);
    if (object["event"] == "post_wo_trace" && (arm == '*' || object["arm"] == std::string(1, arm)) &&
        (stage.empty() || object["point"] == stage))
      alter(object);
    out.push_back(object.dump());
  }
  return out;
}

class BadCapture : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (folder_ == nullptr) folder_ = std::make_unique<TemporaryDirectory>();
  }
  void TearDown() override {
    if (HasFailure()) folder_->keep();
  }
  static std::string path(const std::string& name) { return folder_->path() / name; }

  /// The model's file, made where it is first asked for.
  static std::string model(const std::string& name) {
    const std::string file = path(name + ".gguf");
    if (fs::exists(file)) return file;
    if (name == "q4") {
      done(greta({"models", "quantize", model("f32"), file, "--type", "q4_k_m"}), 0);
    } else if (name == "vocab") {
      write_file(file, replaced(read_file(model("f32")), "<|reserved_special_token_2|>", "<|reserved_special_token_9|>"));
    } else {
      std::vector<std::string> arguments{"models", "synth", "--shape", "tiny", "--out", file};
      arguments.insert(arguments.end(), {"--layers", name == "deep" ? "3" : "2", "--seed", name == "seed" ? "2" : "1"});
      if (name == "f16") arguments.insert(arguments.end(), {"--type", "f16"});
      if (name == "wide") arguments.insert(arguments.end(), {"--d-model", "128", "--heads", "2", "--kv-heads", "1"});
      done(greta(arguments), 0);
    }
    return file;
  }

  /// The directory of a run: of the model of its name, or of f32 and unlike the others in what its name says.
  static std::string run(const std::string& name) {
    const std::string dir = path(name);
    if (fs::exists(dir)) return dir;
    struct Own {
      std::string prompt = kPrompt;
      std::vector<std::string> more;
    };
    const std::map<std::string, Own> of_f32{
        {"again", {}},
        {"prompt", {"The quick brown dog", {}}},
        {"longer", {"The quick brown fox jumps", {}}},
        {"kv", {kPrompt, {"--kv", "f16"}}},
        {"faulty", {kPrompt, {"--fault", "rmsnorm-epsilon@any:layer=1:stage=ffn_norm:eps=0.1"}}}};
    const auto known = of_f32.find(name);
    const bool own_model = known == of_f32.end();
    const Own own = own_model ? Own{} : known->second;
    std::vector<std::string> arguments{"isolate",   model(own_model ? name : "f32"), "--out",    dir,
                                       "--threads", own_model ? "1" : "2",           "--prompt", own.prompt};
    arguments.insert(arguments.end(), own.more.begin(), own.more.end());
    done(greta(arguments), name == "faulty" ? 1 : 0);
    return dir;
  }
  static void done(const CommandResult& result, int exit_code) { EXPECT_EQ(result.exit_code, exit_code) << result.err; }

  /// The lines of a run's trace in a directory of their own.
  static std::string bare(const std::string& name, const Lines& lines) {
    fs::create_directories(path(name));
    write_file(fs::path(path(name)) / kJsonl, joined(lines));
    return path(name);
  }
  static Lines trace_of(const std::string& name) { return lines_of(read_file(fs::path(run(name)) / kJsonl)); }

  static constexpr const char* kPrompt = "The quick brown fox";
  static inline std::unique_ptr<TemporaryDirectory> folder_;
};

TEST_F(BadCapture, CompareNamesWhatIsNotTheSame) {
  struct Case {
    const char* other;
    int exit_code;
    const char* reason;
    std::vector<std::string> words;
  };
  const std::vector<Case> cases{
      {"again", 0, "bit_equal", {"keys are bit-equal"}},
      {"prompt", 2, "misaligned", {"position ", "token ", "in A", "in B"}},
      {"longer", 2, "misaligned", {"the prompt has ", "tokens in A", "in B"}},
      {"vocab", 2, "misaligned", {"the tokenisers differ", "in A", "in B"}},
      {"wide", 2, "misaligned", {"the shapes differ", "x_in layer 0 position 0", "256 elements in A, 128 in B"}},
      {"deep", 2, "misaligned", {"the models differ", "2 layers in A, 3 in B"}},
      {"seed", 2, "weights_differ", {"weights that both arms read differ", "token_embd.weight", "other bytes"}},
      {"f16", 2, "weights_differ", {"weights that both arms read differ", "'token_embd.weight' is f32 in A, f16 in B"}},
      {"q4", 2, "weights_differ", {"weights that both arms read differ", "is f32 in A, q"}},
      {"kv", 1, "above_threshold", {"k_cache layer 0", "f32 in A, f16 in B"}},
  };
  for (const Case& one : cases) {
    const CommandResult result = greta({"compare", run("f32"), run(one.other), "--json"});
    EXPECT_EQ(result.exit_code, one.exit_code) << one.other << "\n" << result.err;
    const Json verdict = Json::parse(result.out, nullptr, false);
    ASSERT_TRUE(verdict.is_object()) << one.other << "\n" << result.err;
    EXPECT_EQ(verdict["reason"], one.reason) << one.other << "\n" << result.err;
    EXPECT_TRUE(one_line_holds(result.err, one.words)) << one.other << "\n" << result.err;
    if (one.exit_code != 2) continue;
    for (const Json& prompt : verdict["prompts"]) EXPECT_EQ(prompt["first"], nullptr) << one.other << ": an op is blamed";
  }
}

TEST_F(BadCapture, IsolateRefusesTwoModelsAndBlamesNobodyForOtherWeights) {
  const auto arm_b = [](const std::string& name) {
    return greta({"isolate", model("f32"), "--arm-b", "model=" + model(name), "--prompt", kPrompt, "--no-bounds", "--json",
                  "--out", path("two_" + name)});
  };
  const std::vector<std::pair<std::string, std::string>> refused{
      {"wide", "d_model"}, {"deep", "n_layers"}, {"vocab", "tokenisers"}};
  for (const auto& [name, word] : refused) {
    const CommandResult result = arm_b(name);
    EXPECT_EQ(result.exit_code, 2) << name;
    EXPECT_EQ(lines_of(result.err).size(), 1u) << result.err;
    EXPECT_TRUE(one_line_holds(result.err, {word, "f32.gguf", name + ".gguf"})) << result.err;
    EXPECT_FALSE(fs::exists(path("two_" + name)));
  }
  for (const char* name : {"seed", "q4"}) {
    const CommandResult result = arm_b(name);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    const Json verdict = Json::parse(result.out, nullptr, false);
    EXPECT_EQ(verdict["reason"], "weights_differ") << result.err;
    EXPECT_EQ(verdict["prompts"][0]["first"], nullptr);
    EXPECT_EQ(verdict["cause"]["state"], "none");
    const CommandResult norm = greta({"audit", "rmsnorm", path(std::string("two_") + name)});
    EXPECT_EQ(norm.exit_code, 2) << norm.out;
    EXPECT_TRUE(one_line_holds(norm.err, {"weights that both arms read differ", "no norm is to blame"})) << norm.err;
  }
}

/// Lines in another order, or twice, are the same capture: the same table and the same exit code.
TEST_F(BadCapture, ShuffledAndDuplicatedLinesGiveTheSameTable) {
  std::mt19937 random(11);
  for (const std::string name : {"f32", "faulty"}) {
    const Lines lines = trace_of(name);
    const CommandResult whole = greta({"analyze", "--dir", run(name)});
    Lines twice = lines, some = lines;
    twice.insert(twice.end(), lines.begin(), lines.end());
    some.insert(some.end(), lines.begin() + 3, lines.begin() + 9);
    for (const Lines& start : {lines, twice, some}) {
      for (const bool shuffle : {false, true}) {
        Lines spoiled = start;
        if (shuffle) std::shuffle(spoiled.begin(), spoiled.end(), random);
        const CommandResult result = greta({"analyze", "--dir", bare("spoiled", spoiled)});
        EXPECT_EQ(result.exit_code, whole.exit_code) << name << " " << spoiled.size() << "\n" << result.err;
        EXPECT_EQ(from_line_2(result.out), from_line_2(whole.out)) << name << " " << spoiled.size();
        EXPECT_EQ(one_line_holds(result.err, {"reordered"}), shuffle || start.size() == 2 * lines.size()) << result.err;
      }
    }
  }
}

/// A line that is lost may be the one that differs first: nothing is said of the rest.
TEST_F(BadCapture, CutLinesAreANamedRefusal) {
  for (const std::string name : {"f32", "faulty"}) {
    const Lines lines = trace_of(name);
    const auto without = [&](std::size_t i, std::size_t n) {
      Lines out = lines;
      out.erase(out.begin() + static_cast<std::ptrdiff_t>(i), out.begin() + static_cast<std::ptrdiff_t>(i + n));
      return out;
    };
    Lines lost_and_doubled = without(20, 1), in_a_line = lines, flipped = lines;
    lost_and_doubled.push_back(lines[30]);
    in_a_line.resize(40);
    in_a_line.back().resize(50);
    flipped[25][flipped[25].size() / 2] = '\0';
    const std::vector<std::pair<Lines, std::string>> cases{{without(20, 1), "torn"},
                                                           {without(0, 1), "torn"},
                                                           {without(lines.size() - 1, 1), "torn"},
                                                           {without(lines.size() / 2, lines.size() / 2), "torn"},
                                                           {lost_and_doubled, "torn"},
                                                           {in_a_line, "unreadable"},
                                                           {flipped, "unreadable"}};
    for (const auto& [spoiled, word] : cases) {
      const std::string dir = bare("spoiled", spoiled);
      for (const CommandResult& result : {greta({"analyze", "--dir", dir}), greta({"compare", run("again"), dir})}) {
        EXPECT_EQ(result.exit_code, 2) << result.err;
        EXPECT_EQ(result.out, "");
        EXPECT_EQ(lines_of(result.err).size(), 1u) << result.err;
        EXPECT_TRUE(one_line_holds(result.err, {kJsonl, word})) << word << ": " << result.err;
      }
    }
  }
}

TEST_F(BadCapture, WhatIsNoCaptureIsRefusedInOneLine) {
  write_file(path("empty.jsonl"), "");
  write_file(path("zeros.jsonl"), std::string(1 << 20, '\0'));
  for (const std::string& other :
       {path("empty.jsonl"), path("zeros.jsonl"), model("f32"), path("nowhere"), std::string("/dev/zero")}) {
    const CommandResult result = greta({"compare", run("f32"), other});
    EXPECT_EQ(result.exit_code, 2) << other << "\n" << result.err;
    EXPECT_EQ(lines_of(result.err).size(), 1u) << result.err;
    EXPECT_TRUE(one_line_holds(result.err, {other})) << result.err;
  }
}

TEST_F(BadCapture, AlteredRowsAreNamed) {
  const Lines lines = trace_of("f32");
  const auto nan = [](Json& row) {
    row["nan"] = 1;
    row["sample"][0] = "NaN";
    row["hash"] = std::string(32, row["arm"] == "a" ? '1' : '2');
  };
  const auto no_operands = [](Json& row) { row.erase("operands"); };
  const auto no_weight = [](Json& row) {
    auto& operands = row["operands"];
    operands.erase(std::remove_if(operands.begin(), operands.end(), [](const Json& one) { return one["kind"] == "weight"; }),
                   operands.end());
  };
  struct Case {
    Lines lines;
    int exit_code;
    std::string reason;
    std::vector<std::string> words;
  };
  const std::vector<Case> cases{
      {lines, 0, "bit_equal", {"keys are bit-equal"}},
      {with_rows(lines, 'b', "ffn_norm", nan), 1, "nan_in_b", {"ffn_norm layer 0", "1 NaN"}},
      {with_rows(lines, 'a', "ffn_norm", nan), 2, "nan_in_a", {"ffn_norm layer 0"}},
      {with_rows(lines, '*', "ffn_norm", nan), 2, "nan_on_both_sides", {"ffn_norm layer 0"}},
      {with_rows(lines, '*', "", no_operands), 2, "missing_operands", {"x_in layer 0", "lacks its operands in A"}},
      {with_rows(lines, 'b', "", no_operands), 2, "missing_operands", {"x_in layer 0", "lacks its operands in B"}},
      {with_rows(lines, 'b', "q", no_weight), 2, "missing_operands", {"q layer 0", "lacks operand 'w", "weight", "in B"}},
      {with_rows(lines, 'b', "mlp_out", [](Json& row) { row["dtype"] = "f16"; }),
       2,
       "below_threshold",
       {"mlp_out layer 0", "f32 in A, f16 in B"}},
      {with_rows(lines, 'b', "mlp_out", [](Json& row) { row["count"] = 255; }),
       1,
       "above_threshold",
       {"mlp_out layer 0", "256 elements in A, 255 in B"}},
      {with_rows(lines, 'b', "x_in", [](Json& row) { row["count"] = 255; }),
       2,
       "misaligned",
       {"the shapes differ", "x_in layer 0"}},
      {with_rows(lines, 'b', "", [](Json& row) { row["token_id"] = 7; }), 2, "misaligned", {"token ", "in A, 7 in B"}},
      {with_rows(lines, '*', "", [](Json& row) { row["count"] = 1e300; }), 2, "", {"unreadable", "count"}},
  };
  for (const Case& one : cases) {
    const CommandResult result = greta({"analyze", "--dir", bare("spoiled", one.lines), "--json"});
    EXPECT_EQ(result.exit_code, one.exit_code) << one.reason << "\n" << result.err;
    const Json verdict = Json::parse(result.out, nullptr, false);
    EXPECT_EQ(verdict.is_object() ? verdict.value("reason", "") : "", one.reason) << result.err;
    EXPECT_TRUE(one_line_holds(result.err, one.words)) << one.reason << "\n" << result.err;
  }
}

/// A weight that one arm's kernel was given altered is that arm's fault, where both arms had one file.
TEST_F(BadCapture, AWeightThatOneArmAlteredIsStillItsFault) {
  const Lines altered = with_rows(trace_of("faulty"), 'b', "ffn_norm", [](Json& row) {
    for (Json& operand : row["operands"])
      if (operand["kind"] == "weight") operand["hash"] = std::string(32, '7');
  });
  const CommandResult result = greta({"analyze", "--dir", bare("spoiled", altered), "--json"});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_EQ(Json::parse(result.out)["prompts"][0]["first"]["stage"], "ffn_norm");
}

/// Writers that know neither hash keep what they had: weights are told apart by what the records say of them.
TEST_F(BadCapture, HeadersWithoutHashesAreRead) {
  const auto stripped = [](const std::string& name) {
    Lines out;
    for (const std::string& line : trace_of(name)) {
      Json object = Json::parse(line);
      object.erase("model_hash");
      object.erase("tokenizer_hash");
      out.push_back(object.dump());
    }
    return out;
  };
  const std::string left = bare("left", stripped("f32"));
  EXPECT_EQ(greta({"compare", left, bare("right", stripped("again"))}).exit_code, 0);
  const CommandResult other = greta({"compare", left, bare("right", stripped("q4"))});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_TRUE(one_line_holds(other.err, {"weights that both arms read differ"})) << other.err;
}

class SceneBadInput : public BadCapture {
 protected:
  static std::string stripped(const std::string& from, const std::string& name) {
    const fs::path to = path(name);
    fs::remove_all(to);
    fs::copy(run(from), to, fs::copy_options::recursive);
    for (const char* file : {"manifest.json", "verdict.json", "audit.json", "report.md", "b3_41_E1_prompt.log"})
      fs::remove(to / file);
    for (const auto& entry : fs::recursive_directory_iterator(to)) {
      if (entry.path().filename() != "capture.json" && entry.path().extension() != ".jsonl") continue;
      Lines lines;
      for (const std::string& line : lines_of(read_file(entry.path()))) {
        Json object = Json::parse(line);
        object.erase("fault_planted");
        object.erase("fault_effects");
        lines.push_back(object.dump());
      }
      write_file(entry.path(), joined(lines));
    }
    return to;
  }
  /// The run with its one scene altered: `alter` gets the two files' bytes.
  static std::string with_scene(const std::function<void(std::string& json, std::string& rows)>& alter) {
    const std::string dir = stripped("faulty", "scene");
    const fs::path stem = fs::path(dir) / "audit" / "000_prompt";
    std::string json = read_file(stem.string() + ".json"), rows = read_file(stem.string() + ".safetensors");
    alter(json, rows);
    write_file(stem.string() + ".json", json);
    write_file(stem.string() + ".safetensors", rows);
    return dir;
  }
};

TEST_F(SceneBadInput, ARunWithoutItsNameAndEveryWordOfTheFaultGivesTheSameAudit) {
  const CommandResult before = greta({"audit", run("faulty"), "--json"});
  ASSERT_EQ(before.exit_code, 1) << before.err;
  EXPECT_EQ(Json::parse(before.out)["cause"]["name"], "epsilon") << before.out;
  const std::string dir = stripped("faulty", "another name");
  for (const auto& entry : fs::recursive_directory_iterator(dir)) {
    if (!entry.is_regular_file()) continue;
    EXPECT_EQ(read_file(entry.path()).find("fault"), std::string::npos) << entry.path();
  }
  const CommandResult after = greta({"audit", dir, "--json"});
  EXPECT_EQ(after.exit_code, 1) << after.err;
  EXPECT_EQ(after.out, before.out);
  // The report on the norm reads the capture stores too, which a directory is believed to have by its manifest alone.
  const CommandResult norm = greta({"audit", "rmsnorm", run("faulty"), "--out", path("norm")});
  fs::copy(run("faulty"), path("renamed"), fs::copy_options::recursive);
  EXPECT_EQ(greta({"audit", "rmsnorm", path("renamed"), "--out", path("norm")}).out, norm.out);
  EXPECT_THAT(greta({"audit", "rmsnorm", dir, "--out", path("norm")}).out, ::testing::EndsWith("\tB_norm_stats\n"));
}

TEST_F(SceneBadInput, AReproducerReplaysUnderAnyName) {
  ASSERT_EQ(greta({"reproduce", run("faulty"), "--out", path("repro")}).exit_code, 0);
  const CommandResult before = greta({"reproduce", path("repro")});
  EXPECT_EQ(before.exit_code, 1) << before.err;
  fs::rename(path("repro"), path("moved"));
  const CommandResult after = greta({"reproduce", path("moved")});
  EXPECT_EQ(after.exit_code, 1) << after.err;
  EXPECT_EQ(after.out, before.out);
  // Another model in its place is not taken for it.
  fs::copy_file(model("seed"), fs::path(path("moved")) / "op.gguf", fs::copy_options::overwrite_existing);
  const CommandResult other = greta({"reproduce", path("moved")});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_TRUE(one_line_holds(other.err, {"op.gguf", "weights differ"})) << other.err;
}

TEST_F(SceneBadInput, SpoiledScenesAreRefusedInOneLine) {
  using Alter = std::function<void(std::string&, std::string&)>;
  const auto field = [](const std::string& key, Json value) {
    return [=](std::string& json, std::string&) {
      Json object = Json::parse(json);
      object[key] = value;
      json = object.dump();
    };
  };
  // The header of a safetensors file: 8 bytes of its length, then JSON.
  const auto header = [](const std::string& from, const std::string& to) {
    return [=](std::string&, std::string& rows) {
      const std::size_t at = rows.find(from);
      ASSERT_NE(at, std::string::npos) << from;
      ASSERT_EQ(from.size(), to.size());
      rows.replace(at, from.size(), to);
    };
  };
  // What the guilty norm reads, 13 rows of 256, as one row: its gain ends long before.
  const Alter wide_input = [](std::string&, std::string& rows) {
    const std::string shape = "[13,256]";
    const std::size_t at = rows.find(shape, rows.find("\"1.x_after_attn\""));
    ASSERT_NE(at, std::string::npos);
    rows.replace(at, shape.size(), "[1,3328]");
  };
  const std::vector<std::pair<Alter, std::vector<std::string>>> cases{
      {[](std::string& json, std::string&) { json.resize(json.size() / 2); }, {"000_prompt.json"}},
      {[](std::string& json, std::string&) { json[json.size() / 3] = '\x01'; }, {"000_prompt.json"}},
      {[](std::string&, std::string& rows) { rows.resize(rows.size() / 2); }, {"000_prompt.safetensors", "not a whole"}},
      {[](std::string&, std::string& rows) { rows[6] = '\x7f'; }, {"000_prompt.safetensors", "a header of "}},
      {[](std::string&, std::string& rows) { rows.clear(); }, {"000_prompt.safetensors", "0 bytes"}},
      {header("\"shape\":[", "\"shape\":9"), {"000_prompt.safetensors"}},
      {wide_input, {"000_prompt.json", "x_after_attn layer 1 position 0 has 3328 elements, wanted 256"}},
      {header("\"0.x_in\"", "\"9.x_in\""), {"000_prompt.safetensors", "9.x_in", "layer"}},
      {header("\"0.q\"", "\"0.k\""), {"000_prompt"}},
      {header("\"1.x_after_attn\"", "\"1.ffn_gate\"    "), {"000_prompt"}},
      {field("layer", 77), {"000_prompt.json", "layer"}},
      {field("position", 1e9), {"000_prompt.json", "position"}},
      {field("position", -1), {"000_prompt.json", "position"}},
      {field("stage", "nowhere"), {"000_prompt.json", "stage"}},
      {field("arm", "c"), {"000_prompt.json", "arm", "'c'"}},
      {field("n_layers", 7), {"000_prompt.json", "7 layers", "2"}},
      {field("n_layers", 1e18), {"000_prompt.json", "n_layers"}},
      {field("tokens", Json::array({1, 2, 3, 999999})), {"000_prompt.json", "token 999999"}},
      {field("tokens", Json::array({1})), {"000_prompt.json"}},
      {field("model", "/nowhere/m.gguf"), {"/nowhere/m.gguf", "--model"}},
      {field("model_hash", "0123456789abcdef"), {"another file", "weights differ"}},
      {field("schema", 2), {"000_prompt.json", "schema"}},
      {field("places", Json::array({Json{{"layer", 0}, {"stage", "q"}, {"dtype", "q4_k"}, {"route", "reference"}}})),
       {"000_prompt.json", "dtype"}},
  };
  for (const auto& [alter, words] : cases) {
    const std::string dir = with_scene(alter);
    for (const std::vector<std::string>& verb :
         {std::vector<std::string>{"audit", dir}, {"reproduce", dir}, {"audit", "rmsnorm", dir, "--out", path("norm")}}) {
      const CommandResult result = greta(verb);
      EXPECT_EQ(result.exit_code, 2) << words.back() << ": " << verb[1] << "\n" << result.out << result.err;
      EXPECT_EQ(lines_of(result.err).size(), 1u) << result.err;
      EXPECT_TRUE(one_line_holds(result.err, words)) << words.back() << ": " << result.err;
    }
  }
  const CommandResult healthy = greta({"audit", with_scene([](std::string&, std::string&) {})});
  EXPECT_EQ(healthy.exit_code, 1) << healthy.err;
}

}  // namespace
}  // namespace greta::test
