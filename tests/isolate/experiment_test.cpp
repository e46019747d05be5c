// The experiment file: what it may say, and how it is refused.
#include "isolate/experiment.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/error.h"

namespace greta::isolate {
namespace {

std::string error_of(const std::string& toml) {
  try {
    (void)parse_experiment(toml, "x.toml", ".");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Experiment, PromptsThatAreChats) {
  const std::string head = "[[prompts]]\nid = \"a\"\ntext = \"hi\"\n";
  const auto prompt = [&](const std::string& keys) { return parse_experiment(head + keys, "x.toml", ".").prompts[0]; };
  EXPECT_FALSE(prompt("").chat);
  EXPECT_FALSE(prompt("chat = false\n").chat);
  EXPECT_TRUE(prompt("chat = true\n").chat);
  EXPECT_FALSE(prompt("chat = true\n").system);
  EXPECT_EQ(prompt("chat = true\nsystem = \"be brief\"\n").system, "be brief");
  EXPECT_EQ(error_of(head + "system = \"x\"\n"), "x.toml: prompts[0]: system is the system turn of a chat; add chat = true");
  EXPECT_EQ(error_of(head + "chat = 1\n"), "x.toml: prompts[0]: chat (line 4) is not true or false");
}

TEST(Experiment, TheBuiltInOneIsTheFileOfTheRepository) {
  const ExperimentSpec& spec = builtin_experiment();
  EXPECT_EQ(spec.id, "b3_41");
  EXPECT_EQ(spec.title, "B3.41 Post-WO Collapse Isolation (prefill_last vs decode0)");
  EXPECT_EQ(spec.exp, ExpMode::aligned);
  EXPECT_TRUE(spec.layers.all);
  EXPECT_TRUE(spec.stages.empty());
  EXPECT_EQ(spec.sample, 1024);
  EXPECT_EQ(spec.span, 1);
  EXPECT_EQ(spec.thresholds.mae, 1e-6);
  EXPECT_EQ(spec.thresholds.rel, 1e-6);
  EXPECT_FALSE(spec.collapse_token);
  ASSERT_EQ(spec.prompts.size(), 3u);
  EXPECT_EQ(spec.prompts[0].id, "p0_short");
  EXPECT_EQ(spec.prompts[0].text, "Hi");
  EXPECT_EQ(spec.prompts[1].id, "p4_sys");
  EXPECT_TRUE(spec.prompts[1].text.starts_with("<|start_header_id|>system<|end_header_id|>\n\n"));
  EXPECT_TRUE(spec.prompts[1].text.ends_with("<|start_header_id|>assistant<|end_header_id|>\n\n"));
  EXPECT_EQ(spec.prompts[2].id, "p6_long");
  EXPECT_GT(spec.prompts[2].text.size(), 1300u);
  EXPECT_EQ(spec.prompts[2].text.find('\\'), std::string::npos);
  for (const PromptSpec& prompt : spec.prompts) EXPECT_TRUE(prompt.built_in);

  const ExperimentSpec file = load_experiment(std::filesystem::path(GRETA_SOURCE_DIR) / "experiments/b3_41_post_wo.toml");
  ASSERT_EQ(file.prompts.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(file.prompts[i].text, spec.prompts[i].text);
    EXPECT_TRUE(file.prompts[i].built_in);  // the same texts under the same names
  }
}

TEST(Experiment, EveryKeyIsRead) {
  const ExperimentSpec spec = parse_experiment(R"(
    id = "mine"
    exp = "as_designed"
    layers = [0, 3, -1]
    stages = ["ffn_norm", "mlp_out"]
    sample = 64
    span = 16
    seed = 9
    collapse_token = 5
    [thresholds]
    mae = 1e-3
    rel = 2
    [arms.a]
    plan = "float64"
    [arms.b]
    plan = "reference"
    threads = 2
    "route.matmul" = "reference"
    [[prompts]]
    id = "one"
    text = "x"
  )",
                                               "x.toml", ".");
  EXPECT_EQ(spec.id, "mine");
  EXPECT_EQ(spec.title, "mine");
  EXPECT_EQ(spec.exp, ExpMode::as_designed);
  EXPECT_EQ(spec.layers.layers, (std::vector<int>{0, 3, -1}));
  EXPECT_EQ(spec.stages, (std::vector<Stage>{Stage::ffn_norm, Stage::mlp_out}));
  EXPECT_EQ(spec.sample, 64);
  EXPECT_EQ(spec.span, 16);
  EXPECT_EQ(spec.seed, 9u);
  EXPECT_EQ(spec.collapse_token, 5);
  EXPECT_EQ(spec.thresholds.mae, 1e-3);
  EXPECT_EQ(spec.thresholds.rel, 2.0);
  EXPECT_EQ(spec.arm_a.at("plan"), "float64");
  EXPECT_EQ(spec.arm_b.at("threads"), "2");
  EXPECT_EQ(spec.arm_b.at("route.matmul"), "reference");
  EXPECT_FALSE(spec.prompts.front().built_in);
}

TEST(Experiment, ContextShiftIsKeepAndDiscard) {
  const ExperimentSpec spec = parse_experiment("shift = '4:8'\n[arms.b]\nbatch = 3\nisa = 'scalar'", "x.toml", ".");
  ASSERT_TRUE(spec.shift);
  EXPECT_EQ(spec.shift->keep, 4);
  EXPECT_EQ(spec.shift->discard, 8);
  EXPECT_EQ(spec.shift->text(), "4:8");
  EXPECT_EQ(spec.shift->fewest_tokens(), 14);
  EXPECT_EQ(spec.arm_b.at("batch"), "3");
  EXPECT_FALSE(parse_experiment("", "x.toml", ".").shift);
  for (const char* bad : {"4", "4:", ":8", "4:0", "-1:8", "4:8:1", "4,8", "4:99999999999"})
    EXPECT_NE(error_of(std::string("shift = '") + bad + "'").find("x.toml: context shift '" + std::string(bad)),
              std::string::npos)
        << bad;
  EXPECT_NE(error_of("shift = 4").find("is not a string"), std::string::npos);
}

TEST(Experiment, UnknownKeysNameTheNearest) {
  EXPECT_NE(error_of("smaple = 3").find("unknown key 'smaple'; did you mean 'sample'"), std::string::npos)
      << error_of("smaple = 3");
  EXPECT_NE(error_of("[thresholds]\nmaes = 1").find("did you mean 'mae'"), std::string::npos);
  EXPECT_NE(error_of("[[prompts]]\nid='a'\ntxt='b'").find("did you mean 'text'"), std::string::npos);
  EXPECT_NE(error_of("[arms.a]\nplam='b'").find("did you mean 'plan'"), std::string::npos);
  EXPECT_NE(error_of("[arms.c]\nplan='b'").find("unknown key 'c'"), std::string::npos);
  EXPECT_NE(error_of("stages = ['fn_norm']").find("did you mean 'ffn_norm'"), std::string::npos);
}

TEST(Experiment, WrongValuesAreRefusedWithOneLine) {
  for (const char* toml : {"id = 3",
                           "id = '../x'",
                           "id = ''",
                           "exp = 'E2'",
                           "sample = 0",
                           "sample = -1",
                           "sample = 'x'",
                           "span = 0",
                           "span = 1.5",
                           "layers = 'x'",
                           "layers = [1.5]",
                           "layers = []",
                           "collapse_token = -1",
                           "seed = -1",
                           "[thresholds]\nmae = -1",
                           "[thresholds]\nmae = nan",
                           "thresholds = 3",
                           "prompts = 3",
                           "prompts = [3]",
                           "[[prompts]]\nid='a'",
                           "[[prompts]]\nid='a'\ntext=''",
                           "[[prompts]]\ntext='a'",
                           "[[prompts]]\nid='a'\ntext='x'\nfile='y'",
                           "[[prompts]]\nid='a'\nfile='/no/such/file'",
                           "[[prompts]]\nid='a'\ntext='x'\n[[prompts]]\nid='a'\ntext='y'",
                           "x = ",
                           "id = 'a\nb'",
                           "arms = 1",
                           "[arms.a]\nplan = 1.5"}) {
    const std::string error = error_of(toml);
    EXPECT_TRUE(error.starts_with("x.toml")) << toml << " -> " << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
  EXPECT_NE(error_of("id = 'a'\nx = ").find("line 2"), std::string::npos);
  EXPECT_NE(error_of("id = \"\xff\"").find("invalid UTF-8 at byte 6"), std::string::npos);
}

TEST(Experiment, LayersCountFromTheEndToo) {
  EXPECT_EQ(LayerSelection::parse("0,3,-1").resolve(6), (std::vector<int>{0, 3, 5}));
  EXPECT_EQ(LayerSelection::parse("all").resolve(3), (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(LayerSelection::parse("-1,5,5").resolve(6), (std::vector<int>{5}));
  EXPECT_THROW((void)LayerSelection::parse("6").resolve(6), Error);
  EXPECT_THROW((void)LayerSelection::parse("-7").resolve(6), Error);
  EXPECT_THROW((void)LayerSelection::parse("1,,2"), Error);
  EXPECT_THROW((void)LayerSelection::parse(""), Error);
  EXPECT_TRUE(LayerSelection::parse("-1").holds(5, 6));
  EXPECT_FALSE(LayerSelection::parse("-1").holds(4, 6));
  EXPECT_EQ(LayerSelection::parse("0,-1").text(), "0,-1");
}

TEST(Experiment, StagesByNameAndBySet) {
  EXPECT_EQ(parse_stages("mlp_out,ffn_norm"), (std::vector<Stage>{Stage::ffn_norm, Stage::mlp_out}));
  EXPECT_EQ(parse_stages("post_wo").size(), 6u);
  EXPECT_EQ(parse_stages("witnesses,q").size(), 5u);
  EXPECT_TRUE(parse_stages("all").empty());
  EXPECT_THROW((void)parse_stages("ffn"), Error);
}

TEST(Experiment, APromptFileKeepsItsBytesAndGivesItsStemAsId) {
  const std::filesystem::path file = std::filesystem::path(::testing::TempDir()) / "p7_own.txt";
  std::ofstream(file, std::ios::binary) << "  two lines\r\n";
  const PromptSpec prompt = prompt_from_file(file);
  EXPECT_EQ(prompt.id, "p7_own");
  EXPECT_EQ(prompt.text, "  two lines\r\n");
  EXPECT_FALSE(prompt.built_in);
  std::ofstream(file, std::ios::binary) << "";
  EXPECT_THROW((void)prompt_from_file(file), Error);
  std::ofstream(file, std::ios::binary) << "\xc3";
  EXPECT_THROW((void)prompt_from_file(file), Error);
  std::filesystem::remove(file);
  EXPECT_THROW((void)prompt_from_file(file), Error);
}

TEST(Experiment, ModesByEitherName) {
  EXPECT_EQ(exp_mode_from_name("e1"), ExpMode::aligned);
  EXPECT_EQ(exp_mode_from_name("As_Designed"), ExpMode::as_designed);
  EXPECT_FALSE(exp_mode_from_name("E2"));
  EXPECT_EQ(alignment_flags(ExpMode::aligned), (std::vector<std::string>{"token", "position", "history", "routes"}));
  EXPECT_TRUE(alignment_flags(ExpMode::as_designed).empty());
}

}  // namespace
}  // namespace greta::isolate
