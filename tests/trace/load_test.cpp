#include "trace/load.h"

#include <gtest/gtest.h>

#include <random>

#include "support.h"
#include "trace/capture_store.h"
#include "trace/run_directory.h"

namespace greta {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::make_capture;
using test::slurp;
using test::spew;
using test::TempDir;

const std::vector<std::string> kFlags{"token"};

/// A run as `isolate` leaves it: two prompts, the rows that matter as JSONL, all as stores.
fs::path whole_run(const TempDir& dir) {
  RunDirectory run({.out = dir / "run", .root = {}, .date = "", .experiment = "b3_41"});
  for (const std::string prompt : {"p0", "p1"}) {
    const Capture a = make_capture('a', 5, 8, prompt), b = make_capture('b', 5, 8, prompt);
    write_jsonl(run.file("b3_41_post_wo_" + prompt + "_E1.jsonl"), a, b, aligned_or_differing(a, b), kFlags);
    write_capture_dir(run.file("captures/a/" + prompt), a);
    write_capture_dir(run.file("captures/b/" + prompt), b);
  }
  run.write("verdict.json", "{}");
  run.finish();
  return run.path();
}

std::string issues_of(const LoadedCaptures& loaded) {
  std::string out;
  for (const Issue& issue : loaded.issues) out += issue.text() + "\n";
  return out;
}

TEST(LoadCaptures, TakesARunDirectoryWhole) {
  const TempDir dir;
  const LoadedCaptures loaded = load_captures(whole_run(dir));
  EXPECT_EQ(issues_of(loaded), "");
  EXPECT_TRUE(loaded.verified);
  EXPECT_EQ(loaded.experiment, "b3_41");
  ASSERT_EQ(loaded.pairs.size(), 2u);
  EXPECT_EQ(loaded.pairs[0].prompt_id, "p0");
  for (const LoadedPair& pair : loaded.pairs) {
    ASSERT_TRUE(pair.a && pair.b);
    const Capture a = make_capture('a', 5, 8, pair.prompt_id);
    test::expect_same_description(*pair.a, a);
    test::expect_same_description(*pair.b, make_capture('b', 5, 8, pair.prompt_id));
    ASSERT_EQ(pair.a->records.size(), a.records.size());
    for (std::size_t i = 0; i < a.records.size(); ++i)  // the aligned row with its details, the prefix without
      test::expect_same(pair.a->records[i], a.records[i], a.records[i].position == 4);
    EXPECT_EQ(pair.a->logits.size(), a.logits.size());
  }
}

TEST(LoadCaptures, CanLeaveTheStoresOut) {
  const TempDir dir;
  const LoadedCaptures loaded = load_captures(whole_run(dir), {.jsonl = {}, .stores = false});
  for (const StageRecord& record : loaded.pairs.at(0).a->records)
    EXPECT_TRUE(record.position == 4 || (record.stage == Stage::k_cache && record.position == 1)) << name(record.stage);
}

TEST(LoadCaptures, RefusesARunThatIsTornAndNamesTheFile) {
  const TempDir dir;
  const fs::path run = whole_run(dir);
  fs::resize_file(run / "captures/b/p1/records.bin", 100);
  EXPECT_NE(error_of([&] { load_captures(run); }).find("captures/b/p1/records.bin"), std::string::npos);
  fs::rename(run, dir / "run.incomplete");
  EXPECT_NE(error_of([&] { load_captures(run); }).find("did not finish"), std::string::npos);
  EXPECT_NE(error_of([&] { load_captures(dir / "run.incomplete"); }).find("did not finish"), std::string::npos);
}

TEST(LoadCaptures, DoesNotReadWhatTheManifestDoesNotName) {
  const TempDir dir;
  const fs::path run = whole_run(dir);
  spew(run / "smuggled.jsonl", trace_line(make_capture('a', 5, 8, "px"), make_capture('a').records[0]) + "\n");
  EXPECT_EQ(load_captures(run).pairs.size(), 2u);
}

TEST(LoadCaptures, TakesABareDirectoryOfJsonlAndOneFile) {
  const TempDir dir;
  const fs::path run = whole_run(dir);
  fs::remove(run / "manifest.json");
  fs::remove_all(run / "captures");
  const LoadedCaptures bare = load_captures(run);
  EXPECT_FALSE(bare.verified);
  EXPECT_EQ(issues_of(bare), "");
  ASSERT_EQ(bare.pairs.size(), 2u);
  EXPECT_FALSE(bare.pairs[0].a->foreign);  // the header came with the lines
  EXPECT_EQ(bare.pairs[0].b->schedule, (std::vector<std::int32_t>{4, 1}));
  const LoadedCaptures one = load_captures(run / "b3_41_post_wo_p1_E1.jsonl");
  ASSERT_EQ(one.pairs.size(), 1u);
  EXPECT_EQ(one.pairs[0].prompt_id, "p1");
}

TEST(LoadCaptures, JoinsArmsFromTwoFilesAndSaysWhatTheyDoNotAgreeOn) {
  const TempDir dir;
  const Capture a = make_capture('a'), b = make_capture('b');
  const auto file = [&](const std::string& name, const Capture& capture) {
    const Capture* const one[] = {&capture};
    write_jsonl(dir / name, one, {}, kFlags);
  };
  file("a.jsonl", a);
  file("b.jsonl", b);
  LoadedCaptures loaded = load_captures(dir.path());
  EXPECT_EQ(issues_of(loaded), "");
  ASSERT_EQ(loaded.pairs.size(), 1u);
  test::expect_same(*loaded.pairs[0].a, a);
  test::expect_same(*loaded.pairs[0].b, b);

  file("c.jsonl", a);  // a copy
  loaded = load_captures(dir.path());
  ASSERT_EQ(loaded.issues.size(), 1u) << issues_of(loaded);
  EXPECT_EQ(loaded.issues[0].kind, IssueKind::duplicate);
  EXPECT_EQ(loaded.unreadable_lines(), 0);

  Capture other = a;
  other.records[8].print.hash.lo ^= 1;
  file("c.jsonl", other);
  loaded = load_captures(dir.path());
  EXPECT_EQ(loaded.unreadable_lines(), 1) << issues_of(loaded);
  test::expect_same(*loaded.pairs[0].a, a);
}

TEST(LoadCaptures, TakesOneCaptureDirectory) {
  const TempDir dir;
  const LoadedCaptures loaded = load_captures(whole_run(dir) / "captures/b/p1");
  ASSERT_EQ(loaded.pairs.size(), 1u);
  EXPECT_FALSE(loaded.pairs[0].a);
  EXPECT_EQ(loaded.pairs[0].b->prompt_id, "p1");
}

TEST(LoadCaptures, SaysWhatAPathIsNot) {
  const TempDir dir;
  EXPECT_NE(error_of([&] { load_captures(dir / "none"); }).find("no such file"), std::string::npos);
  EXPECT_NE(error_of([&] { load_captures(dir.path()); }).find("neither manifest.json nor a .jsonl"), std::string::npos);
  whole_run(dir);
  EXPECT_NE(error_of([&] { load_captures(dir.path()); }).find("runs below it: run"), std::string::npos);
  spew(dir / "empty.jsonl", "");
  const LoadedCaptures loaded = load_captures(dir / "empty.jsonl");
  EXPECT_TRUE(loaded.pairs.empty());
  EXPECT_EQ(loaded.unreadable_lines(), 1);
}

TEST(UnifyLayerCounts, PutsStagesOfATokenAfterTheLastLayerOfEither) {
  const auto of = [](const std::string& phase, int layers) {
    std::string text;
    for (int l = 0; l < layers; ++l)
      text += R"({"phase":")" + phase + R"(","point":"q","layer":)" + std::to_string(l) + R"(,"pos_id":1,"sample":[1]})" + "\n";
    return text + R"({"phase":")" + phase + R"(","point":"logits","pos_id":1,"sample":[1]})" + "\n";
  };
  const TempDir dir;
  spew(dir / "t.jsonl", of("prefill_last", 5) + of("decode0", 2));
  const LoadedCaptures loaded = load_captures(dir / "t.jsonl");
  const LoadedPair& pair = loaded.pairs.at(0);
  EXPECT_EQ(pair.a->n_layers, 5);
  EXPECT_EQ(pair.b->n_layers, 5);
  EXPECT_EQ(pair.a->records.back().layer, 5);
  EXPECT_EQ(pair.b->records.back().layer, 5);
}

// Whatever happens to a trace, it is read or reported: no crash, no hang.
TEST(LoadCaptures, DamagedTracesNeverCrash) {
  const TempDir dir;
  const Capture a = make_capture('a', 2, 3), b = make_capture('b', 2, 3);
  write_jsonl(
      dir / "t.jsonl", a, b, [](const Capture&, const StageRecord& r) { return r.stage == Stage::ffn_norm; }, kFlags);
  const std::string good = slurp(dir / "t.jsonl");
  std::mt19937 random(12);
  for (int i = 0; i < 400; ++i) {
    std::string text = good;
    for (auto n = random() % 6 + 1; n > 0; --n) {
      const std::size_t at = random() % text.size();
      if (random() % 3 == 0) {
        text.erase(at, random() % 40);
      } else if (random() % 2 == 0) {
        text.insert(at, text.substr(random() % text.size(), random() % 60));
      } else {
        text[at] = static_cast<char>(random());
      }
      if (text.empty()) text = "x";
    }
    const JsonlContents read = parse_jsonl(text, "t.jsonl");
    EXPECT_TRUE(text == good || !read.issues.empty() || read.captures.size() >= 1);
  }
}

}  // namespace
}  // namespace greta
