// Traces that our writer did not write.
#include <gtest/gtest.h>

#include "support.h"
#include "trace/jsonl.h"
#include "trace/load.h"

namespace greta {
namespace {

std::string issues_of(const std::vector<Issue>& issues) {
  std::string out;
  for (const Issue& issue : issues) out += issue.text() + "\n";
  return out;
}

// As a printf of an engine in C writes it: few fields, integers where floats are meant, bare nan and inf.
const char kPrinted[] =
    R"({"event":"post_wo_trace","prompt_id":"p0","phase":"prefill_last","point":"x_in","layer":0,"pos_id":4,"token_id":17,"sample":[1,-2,0.5]}
{"event":"post_wo_trace","prompt_id":"p0","phase":"prefill_last","point":"l_out","layer":0,"pos_id":4,"token_id":17,"sample":[0.25,nan,-inf]}
{"event":"post_wo_trace","prompt_id":"p0","phase":"prefill_last","point":"blk.1.ffn_norm","pos_id":4,"token_id":17,"sample":[3]}
{"event":"post_wo_trace","prompt_id":"p0","phase":"prefill_last","point":"final_rms","layer":-1,"pos_id":4,"token_id":17,"sample":[9,9]}
{"event":"post_wo_logits","prompt_id":"p0","phase":"prefill_last","pos_id":4,"top1_id":93590}
{"event":"post_wo_trace","prompt_id":"p0","phase":"decode0","point":"x_in","layer":0,"pos_id":4,"token_id":17,"sample":[1,-2,0.5]}
{"event":"post_wo_trace","prompt_id":"p0","phase":"decode0","point":"final_rms","pos_id":4,"token_id":17,"sample":[9,8]}
{"event":"post_wo_logits","prompt_id":"p0","phase":"decode0","pos_id":4,"top1_id":96965,"top1_logit":12.5}
)";

JsonlOptions with_names() {
  JsonlOptions options;
  options.names.add("l_out", "x_out");
  options.names.add("blk.{layer}.ffn_norm", "ffn_norm");
  return options;
}

TEST(ForeignJsonl, IsReadWithItsOwnNames) {
  const JsonlContents read = parse_jsonl(kPrinted, "t", with_names());
  EXPECT_EQ(issues_of(read.issues), "");
  ASSERT_EQ(read.captures.size(), 2u);
  const Capture &a = read.captures[0], &b = read.captures[1];
  EXPECT_EQ(a.arm, 'a');  // prefill_last is A, decode0 is B
  EXPECT_EQ(b.arm, 'b');
  EXPECT_EQ(a.exp, "E1");
  EXPECT_TRUE(a.foreign && b.foreign);
  EXPECT_EQ(a.n_prompt, 5);
  EXPECT_EQ(b.n_prompt, 5);
  EXPECT_EQ(a.n_layers, 2);
  ASSERT_EQ(a.records.size(), 4u);
  EXPECT_EQ(a.records[0].stage, Stage::x_in);
  EXPECT_EQ(a.records[0].token_id, 17);
  EXPECT_EQ(a.records[0].position, 4);
  EXPECT_EQ(a.records[1].stage, Stage::x_out);
  EXPECT_TRUE(test::same(a.records[1].print.sample,
                         {0.25, std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity()}));
  EXPECT_EQ(a.records[1].print.nan, 1);
  EXPECT_EQ(a.records[1].print.inf, 1);
  EXPECT_EQ(a.records[2].layer, 1);  // from the name
  EXPECT_EQ(a.records[3].layer, 2);  // once a token: the number of layers
  EXPECT_EQ(b.records[0].step, 1);
  ASSERT_EQ(a.logits.size(), 1u);
  EXPECT_EQ(a.logits[0].top1_id, 93590);
  EXPECT_EQ(a.logits[0].top2_id, -1);
  EXPECT_FALSE(a.logits[0].has_hash);
  EXPECT_TRUE(std::isnan(a.logits[0].mean));
  EXPECT_EQ(b.logits[0].top1_logit, 12.5);
}

TEST(ForeignJsonl, WithoutAHashTheSliceIsHashed) {
  const JsonlContents read = parse_jsonl(kPrinted, "t", with_names());
  const Fingerprint &a = read.captures[0].records[0].print, &b = read.captures[1].records[0].print;
  EXPECT_FALSE(a.whole_row);
  EXPECT_EQ(a.hash, b.hash);
  const std::vector<double> slice{1, -2, 0.5};
  EXPECT_EQ(a.hash, row_hash(reinterpret_cast<const std::byte*>(slice.data()), DType::f64, 3));
  EXPECT_EQ(a.count, 3);
  EXPECT_EQ(a.max, 1);
  EXPECT_EQ(a.mean, -0.5 / 3);
  EXPECT_TRUE(a.sketch.empty());
  EXPECT_NE(read.captures[0].records[3].print.hash, read.captures[1].records[1].print.hash);
}

TEST(ForeignJsonl, ASliceThatIsTheWholeRowIsAsGoodAsTheRow) {
  const std::string line = R"({"point":"q","layer":0,"phase":"decode0","pos_id":1,"count":3,"sample":[1,2,0]})";
  const JsonlContents read = parse_jsonl(line + "\n", "t");
  const Fingerprint& print = read.captures.at(0).records.at(0).print;
  EXPECT_TRUE(print.whole_row);
  EXPECT_EQ(print.sketch.size(), 64u);
  EXPECT_EQ(print.zero, 1);
}

TEST(ForeignJsonl, UnknownPointsAreNamedOnceAndCounted) {
  const std::string line = R"({"event":"post_wo_trace","phase":"prefill","point":"Qcur-0","layer":0,"pos_id":0,"sample":[1]})";
  const JsonlContents read = parse_jsonl(line + "\n" + line + "\n" + kPrinted, "t");
  std::vector<Issue> unknown;
  for (const Issue& issue : read.issues)
    if (issue.kind == IssueKind::unknown_point) unknown.push_back(issue);
  ASSERT_EQ(unknown.size(), 3u) << issues_of(read.issues);  // Qcur-0, l_out, blk.1.ffn_norm
  EXPECT_EQ(unknown[0].count, 2);
  EXPECT_EQ(unknown[0].line, 1);
  EXPECT_NE(unknown[0].what.find("'Qcur-0'"), std::string::npos);
  EXPECT_EQ(lines_lost(read.issues), 0);
}

TEST(ForeignJsonl, EventsFieldsAndHashesOfOthersAreSaidNotSwallowed) {
  const std::string text =
      R"({"event":"kv_audit","x":1}
{"event":"kv_audit","x":2}
{"event":"post_wo_trace","phase":"prefill","point":"q","layer":0,"pos_id":0,"sample":[1],"hash":"0x1234","dtype":"int4","color":"red"}
{"x":1}
)";
  const JsonlContents read = parse_jsonl(text, "t");
  ASSERT_EQ(read.issues.size(), 4u) << issues_of(read.issues);
  EXPECT_EQ(read.issues[0].kind, IssueKind::unknown_event);
  EXPECT_EQ(read.issues[0].count, 2);
  EXPECT_EQ(read.issues[1].kind, IssueKind::unused);
  EXPECT_EQ(read.issues[2].kind, IssueKind::unused);
  EXPECT_EQ(read.issues[3].kind, IssueKind::missing_field);
  EXPECT_EQ(lines_lost(read.issues), 1);
  EXPECT_EQ(read.captures.at(0).records.at(0).print.whole_row, false);
}

TEST(ForeignJsonl, PhasePointAndSampleAreEnoughForATable) {
  const std::string text =
      R"({"phase":"prefill_last","point":"ffn_norm","sample":[1,2]}
{"phase":"decode0","point":"ffn_norm","sample":[1,3]}
{"phase":"prefill_last","top1_id":1}
{"phase":"decode0","top1_id":2}
)";
  const JsonlContents read = parse_jsonl(text, "dir/p6_long.jsonl");
  ASSERT_EQ(read.captures.size(), 2u);
  EXPECT_EQ(read.captures[0].prompt_id, "p6_long");  // the file's stem
  EXPECT_EQ(read.captures[0].records.at(0).position, read.captures[1].records.at(0).position);
  EXPECT_EQ(read.captures[0].logits.at(0).top1_id, 1);
  EXPECT_EQ(read.captures[1].logits.at(0).top1_id, 2);
  EXPECT_EQ(read.captures[0].n_prompt, 0);  // unknown: an assumed position is no length
  EXPECT_EQ(read.captures[1].n_prompt, 0);
  // What was assumed is said, and enough to keep anybody from concluding that the arms agree.
  EXPECT_GT(lines_lost(read.issues), 0);
  EXPECT_NE(issues_of(read.issues).find("pos_id"), std::string::npos);
  EXPECT_NE(issues_of(read.issues).find("layer"), std::string::npos);
}

TEST(ForeignJsonl, PositionsFollowFromCountsWhereTheyAreGiven) {
  const std::string text =
      R"({"phase":"prefill","point":"q","layer":0,"token_index":2,"sample":[1]}
{"phase":"prefill_last","point":"q","layer":0,"tokens_total":7,"sample":[1]}
{"phase":"decode1","point":"q","layer":0,"tokens_total":8,"sample":[1]}
)";
  const JsonlContents read = parse_jsonl(text, "t");
  EXPECT_EQ(issues_of(read.issues), "");
  EXPECT_EQ(read.captures.at(0).records.at(0).position, 2);
  EXPECT_EQ(read.captures.at(0).records.at(1).position, 6);
  EXPECT_EQ(read.captures.at(0).n_prompt, 7);
  EXPECT_EQ(read.captures.at(1).records.at(0).position, 7);
  EXPECT_EQ(read.captures.at(1).n_prompt, 7);  // decode1 at 7: decode0 was at 6
}

TEST(ForeignJsonl, AnExplicitArmWins) {
  const std::string text =
      R"({"phase":"prefill","arm":"B","point":"q","layer":0,"pos_id":0,"sample":[1]}
{"phase":"decode0","arm":"a","point":"q","layer":0,"pos_id":1,"sample":[1]}
{"phase":"decode0","arm":"left","point":"q","layer":0,"pos_id":1,"sample":[1]}
)";
  const JsonlContents read = parse_jsonl(text, "t");
  EXPECT_EQ(read.captures.at(0).arm, 'b');
  EXPECT_EQ(read.captures.at(1).arm, 'a');
  EXPECT_EQ(lines_lost(read.issues), 1);
}

TEST(ForeignJsonl, ThePrefillsLastRowPrintedTwiceIsADuplicate) {
  const std::string row = R"(,"point":"q","layer":0,"pos_id":3,"sample":[1]})";
  const JsonlContents read = parse_jsonl(R"({"phase":"prefill")" + row + "\n" + R"({"phase":"prefill_last")" + row + "\n", "t");
  ASSERT_EQ(read.issues.size(), 1u) << issues_of(read.issues);
  EXPECT_EQ(read.issues[0].kind, IssueKind::duplicate);
}

TEST(ForeignJsonl, NullsInASampleAreNan) {
  const JsonlContents read = parse_jsonl(R"({"phase":"prefill","point":"q","layer":0,"pos_id":0,"sample":[1,null,2]})", "t");
  EXPECT_TRUE(test::same(read.captures.at(0).records.at(0).print.sample, {1, std::nan(""), 2}));
  EXPECT_EQ(issues_of(read.issues), "");
}

TEST(ForeignJsonl, ASampleShorterThanItSaysLosesData) {
  const JsonlContents read =
      parse_jsonl(R"({"phase":"prefill","point":"q","layer":0,"pos_id":0,"sample_n":1024,"sample":[1,2]})", "t");
  EXPECT_EQ(lines_lost(read.issues), 1);
  EXPECT_EQ(read.captures.at(0).records.size(), 1u);
}

TEST(ForeignJsonl, ExtremePlacesAreRefused) {
  for (const char* place :
       {R"("layer":-1,"pos_id":0)", R"("layer":70000,"pos_id":0)", R"("layer":1e30,"pos_id":0)", R"("layer":0,"pos_id":-1)",
        R"("layer":0,"pos_id":4611686018427387904)", R"("layer":0.5,"pos_id":0)", R"("layer":0,"pos_id":0,"step":-3)",
        R"("layer":0,"pos_id":0,"token_id":-7)"}) {
    const JsonlContents read =
        parse_jsonl(std::string(R"({"phase":"prefill","point":"q",)") + place + R"(,"sample":[1]})" + "\n", "t");
    EXPECT_EQ(lines_lost(read.issues), 1) << place;
    EXPECT_TRUE(read.captures.empty()) << place;
  }
}

}  // namespace
}  // namespace greta
