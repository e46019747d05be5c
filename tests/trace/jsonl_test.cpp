#include "trace/jsonl.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "support.h"

namespace greta {
namespace {

using test::make_capture;
using test::slurp;
using test::spew;
using test::TempDir;

const std::vector<std::string> kFlags{"token", "position", "history", "routes"};

std::string written(const Capture& a, const Capture& b, const RecordFilter& wanted = {}) {
  const TempDir dir;
  write_jsonl(dir / "t.jsonl", a, b, wanted, kFlags);
  return slurp(dir / "t.jsonl");
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::size_t at = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', at)) {
    out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  EXPECT_EQ(at, text.size()) << "the last line has no newline";
  return out;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

std::string issues_of(const JsonlContents& contents) {
  std::string out;
  for (const Issue& issue : contents.issues) out += issue.text() + "\n";
  return out;
}

const StageRecord& record_of(const Capture& capture, Stage stage, std::int32_t layer, std::int32_t position) {
  for (const StageRecord& record : capture.records)
    if (record.stage == stage && record.layer == layer && record.position == position && !record.reread) return record;
  throw std::runtime_error("no such record");
}

TEST(Jsonl, GivesBackEveryFieldExactly) {
  const Capture a = make_capture('a'), b = make_capture('b');
  const JsonlContents read = parse_jsonl(written(a, b), "t.jsonl");
  EXPECT_EQ(issues_of(read), "");
  ASSERT_EQ(read.captures.size(), 2u);
  test::expect_same(read.captures[0], a);
  test::expect_same(read.captures[1], b);
}

TEST(Jsonl, EveryLineIsJsonWithTheFieldsOfTheFormat) {
  const Capture a = make_capture('a'), b = make_capture('b');
  int traces = 0, logits = 0;
  for (const std::string& line : lines_of(written(a, b))) {
    const nlohmann::json object = nlohmann::json::parse(line);
    const std::string event = object.at("event");
    std::vector<std::string> wanted;
    if (event == "post_wo_trace") {
      wanted = {"prompt_id", "exp",     "arm",          "phase",       "point",    "layer", "step",
                "pos_id",    "seq_len", "tokens_total", "token_index", "token_id", "route"};
      if (!object.contains("exposure"))
        for (const char* more : {"sample_n", "hash", "min", "max", "mean", "rms", "abs_sum", "nan", "inf", "nz_count",
                                 "offset_bytes", "sample", "count", "dtype", "sketch"})
          wanted.emplace_back(more);
      ++traces;
    } else if (event == "post_wo_logits") {
      wanted = {"prompt_id",  "exp",         "arm",         "phase",      "step",       "pos_id",
                "token_id",   "logits_hash", "logits_mean", "logits_min", "logits_max", "top1_id",
                "top1_logit", "top2_id",     "top2_logit",  "gap",        "vocab"};
      ++logits;
    }
    for (const std::string& field : wanted) EXPECT_TRUE(object.contains(field)) << field << " in " << line;
  }
  EXPECT_EQ(traces, static_cast<int>(a.records.size() + b.records.size()));
  EXPECT_EQ(logits, 8);
}

TEST(Jsonl, FieldsHaveTheirMeaning) {
  const Capture a = make_capture('a'), b = make_capture('b');
  const auto trace = [](const Capture& capture, const StageRecord& record) {
    return nlohmann::json::parse(trace_line(capture, record));
  };
  const auto last = trace(a, record_of(a, Stage::ffn_norm, 1, 3));
  EXPECT_EQ(last["phase"], "prefill_last");
  EXPECT_EQ(last["arm"], "a");
  EXPECT_EQ(last["point"], "ffn_norm");
  EXPECT_EQ(last["layer"], 1);
  EXPECT_EQ(last["seq_len"], 4);
  EXPECT_EQ(last["tokens_total"], 4);
  EXPECT_EQ(last["token_index"], 3);
  EXPECT_EQ(last["token_id"], 103);
  EXPECT_EQ(last["count"], 16);
  EXPECT_EQ(last["sample_n"], 8);
  EXPECT_EQ(last["sample"].size(), 8u);
  EXPECT_EQ(last["sketch"].size(), 64u);
  EXPECT_EQ(last["nz_count"], 16 - record_of(a, Stage::ffn_norm, 1, 3).print.zero);
  EXPECT_EQ(last["operands"].size(), 4u);
  EXPECT_EQ(last["operands"][0]["stage"], "x_after_attn");
  EXPECT_EQ(last["operands"][1]["name"], "blk.0.ffn_norm.weight");
  EXPECT_EQ(last["operands"][2]["value"], 1e-5);
  const auto decoded = trace(b, record_of(b, Stage::ffn_norm, 1, 3));
  EXPECT_EQ(decoded["phase"], "decode0");
  EXPECT_EQ(decoded["arm"], "b");
  EXPECT_EQ(decoded["step"], 1);
  EXPECT_EQ(decoded["pos_id"], 3);
  EXPECT_EQ(decoded["seq_len"], 1);
  EXPECT_EQ(decoded["tokens_total"], 4);
  EXPECT_EQ(decoded["token_index"], 0);
  EXPECT_EQ(trace(b, record_of(b, Stage::ffn_norm, 1, 2))["phase"], "prefill");
  EXPECT_EQ(trace(a, record_of(a, Stage::ffn_norm, 1, 2))["phase"], "prefill");
  const auto reread = trace(b, b.records.back());  // slot 1 as the decode step found it
  EXPECT_EQ(reread["phase"], "decode0");
  EXPECT_EQ(reread["reread"], true);
  EXPECT_EQ(reread["token_index"], -2);
}

TEST(Jsonl, PhaseLabelsFollowArmModeAndPosition) {
  Capture capture = make_capture('a', 5);
  EXPECT_EQ(phase_label(capture, Phase::prefill, 4), "prefill_last");
  EXPECT_EQ(phase_label(capture, Phase::prefill, 3), "prefill");
  EXPECT_EQ(phase_label(capture, Phase::prefill, 5), "prefill");  // a span: arm a prefills its forced tokens too
  capture.arm = 'b';
  EXPECT_EQ(phase_label(capture, Phase::prefill, 4), "prefill");
  EXPECT_EQ(phase_label(capture, Phase::decode, 4), "decode0");
  EXPECT_EQ(phase_label(capture, Phase::decode, 20), "decode16");
  capture.exp = "E0";
  EXPECT_EQ(phase_label(capture, Phase::decode, 5), "decode0");
  EXPECT_EQ(phase_label(capture, Phase::decode, 7), "decode2");
}

TEST(Jsonl, HeaderCarriesTheFlags) {
  const auto header = nlohmann::json::parse(header_line(make_capture('a'), kFlags));
  EXPECT_EQ(header["event"], "post_wo_header");
  EXPECT_EQ(header["flags"], (std::vector<std::string>{"token", "position", "history", "routes"}));
  EXPECT_FALSE(header.contains("fault"));
}

TEST(Jsonl, AlignedOrDifferingTakesTheRowsThatMatter) {
  const Capture a = make_capture('a', 6);
  Capture b = make_capture('b', 6);
  for (StageRecord& record : b.records)
    if (record.stage == Stage::v_cache && record.layer == 0 && record.position == 2) record.print.hash.lo ^= 1;
  std::erase_if(b.records, [](const StageRecord& r) { return r.stage == Stage::q && r.layer == 1 && r.position == 1; });
  const RecordFilter wanted = aligned_or_differing(a, b);
  for (const Capture* capture : {&a, static_cast<const Capture*>(&b)})
    for (const StageRecord& record : capture->records) {
      const bool differs = record.stage == Stage::v_cache && record.layer == 0 && record.position == 2;
      const bool alone = record.stage == Stage::q && record.layer == 1 && record.position == 1;
      const bool slot =
          record.stage == Stage::k_cache && record.layer == 1 && record.position == 1;  // reread with another hash
      EXPECT_EQ(wanted(*capture, record), record.position == 5 || differs || alone || slot)
          << name(record.stage) << record.layer << record.position;
    }
  const JsonlContents read = parse_jsonl(written(a, b, wanted), "t");
  EXPECT_EQ(issues_of(read), "");
  EXPECT_LT(read.captures[0].records.size(), a.records.size() / 4);
}

TEST(Jsonl, ReadsTheSameFromAFileInPieces) {
  const TempDir dir;
  Capture a = make_capture('a', 40, 16), b = make_capture('b', 40, 16);  // several megabytes: more than one chunk
  a.records[8].print = test::print_of_row(1, 200'000, 200'000);          // and a line of several chunks
  write_jsonl(dir / "t.jsonl", a, b, {}, kFlags);
  EXPECT_GT(std::filesystem::file_size(dir / "t.jsonl"), 2'500'000u);
  const JsonlContents read = read_jsonl(dir / "t.jsonl");
  EXPECT_EQ(issues_of(read), "");
  ASSERT_EQ(read.captures.size(), 2u);
  test::expect_same(read.captures[0], a);
  test::expect_same(read.captures[1], b);
}

TEST(Jsonl, CarriesSeveralPromptsAndTakesWindowsLineEnds) {
  std::string text = written(make_capture('a', 3, 4, "p0"), make_capture('b', 3, 4, "p0")) +
                     written(make_capture('a', 3, 4, "p1"), make_capture('b', 3, 4, "p1"));
  std::string windows = "\xef\xbb\xbf";
  for (const std::string& line : lines_of(text)) windows += line + "\r\n\r\n";
  for (const std::string& form : {text, windows}) {
    const JsonlContents read = parse_jsonl(form, "t");
    EXPECT_EQ(issues_of(read), "");
    ASSERT_EQ(read.captures.size(), 4u);
    EXPECT_EQ(read.captures[2].prompt_id, "p1");
  }
}

// A cut anywhere is noticed: in a line, at the end of a line, and before the end line.
TEST(Jsonl, ACutFileIsTornWhereverItIsCut) {
  const std::string text = written(make_capture('a', 2, 2), make_capture('b', 2, 2), [](const Capture&, const StageRecord& r) {
    return r.stage == Stage::ffn_norm || r.stage == Stage::logits;
  });
  for (std::size_t cut = 1; cut < text.size(); ++cut) {
    if (cut % 23 != 0 && text[cut - 1] != '\n' && text[cut] != '\n') continue;
    const JsonlContents read = parse_jsonl(text.substr(0, cut), "t");
    const std::string found = issues_of(read);
    if (cut == text.size() - 1) continue;  // only the last newline is missing
    ASSERT_GT(lines_lost(read.issues), 0) << "cut at " << cut;
    ASSERT_NE(found.find("torn"), std::string::npos) << "cut at " << cut << ": " << found;
    ASSERT_EQ(lines_lost(read.issues), 1) << "said more than once, cut at " << cut << ": " << found;
  }
  const JsonlContents whole = parse_jsonl(text.substr(0, text.size() - 1), "t");
  EXPECT_EQ(issues_of(whole), "");
}

TEST(Jsonl, ALostLineIsNoticed) {
  std::vector<std::string> lines = lines_of(written(make_capture('a'), make_capture('b')));
  lines.erase(lines.begin() + 30);
  const JsonlContents read = parse_jsonl(joined(lines), "t");
  EXPECT_NE(issues_of(read).find("torn"), std::string::npos);
}

TEST(Jsonl, LinesInAnyOrderAreTheSameCapture) {
  const std::vector<std::string> lines = lines_of(written(make_capture('a'), make_capture('b')));
  std::vector<std::string> backwards(lines.rbegin(), lines.rend());
  const JsonlContents read = parse_jsonl(joined(backwards), "t");
  ASSERT_EQ(read.issues.size(), 1u) << issues_of(read);
  EXPECT_EQ(read.issues[0].kind, IssueKind::reordered);
  EXPECT_EQ(lines_lost(read.issues), 0);
  for (const Capture& capture : read.captures) {
    const Capture whole = make_capture(capture.arm);
    test::expect_same_description(capture, whole);
    EXPECT_EQ(capture.records.size(), whole.records.size());
  }
  // One is lost and another there twice: the number of lines is right, and it is torn all the same, in either order.
  backwards.erase(backwards.begin() + 10);
  backwards.push_back(backwards[20]);
  EXPECT_NE(issues_of(parse_jsonl(joined(backwards), "t")).find("torn"), std::string::npos);
  std::vector<std::string> forwards = lines;
  forwards.erase(forwards.begin() + 10);
  forwards.insert(forwards.begin() + 20, forwards[15]);
  EXPECT_NE(issues_of(parse_jsonl(joined(forwards), "t")).find("torn"), std::string::npos);
  // What end lines of other numbers say is believed of none.
  for (const char* end : {R"({"event":"post_wo_end","lines":9223372036854775807})", R"({"event":"post_wo_end","lines":-1})"}) {
    std::vector<std::string> more(lines.rbegin(), lines.rend());
    more.emplace_back(end);
    more.emplace_back(end);
    EXPECT_NE(issues_of(parse_jsonl(joined(more), "t")).find("torn"), std::string::npos);
  }
}

TEST(Jsonl, DuplicatedLinesAreToldFromConflicts) {
  const std::vector<std::string> lines = lines_of(written(make_capture('a'), make_capture('b')));
  const auto with = [&](const std::string& extra) {
    std::vector<std::string> more = lines;
    more.insert(more.begin() + 20, extra);
    return parse_jsonl(joined(more), "t");
  };
  const JsonlContents twice = with(lines[5]);
  ASSERT_EQ(twice.issues.size(), 1u) << issues_of(twice);
  EXPECT_EQ(twice.issues[0].kind, IssueKind::duplicate);
  EXPECT_EQ(twice.issues[0].line, 21);
  EXPECT_NE(twice.issues[0].what.find("line 6"), std::string::npos);
  EXPECT_EQ(lines_lost(twice.issues), 0);
  test::expect_same(twice.captures[0], make_capture('a'));

  // The same record with its fields in another order is still the same.
  const JsonlContents reordered = with(nlohmann::json::parse(lines[5]).dump());
  ASSERT_EQ(reordered.issues.size(), 1u);
  EXPECT_EQ(reordered.issues[0].kind, IssueKind::duplicate) << issues_of(reordered);

  nlohmann::json other = nlohmann::json::parse(lines[5]);
  other["mean"] = 17.0;
  const JsonlContents conflict = with(other.dump());
  ASSERT_EQ(conflict.issues.size(), 1u);
  EXPECT_EQ(conflict.issues[0].kind, IssueKind::conflict);
  EXPECT_EQ(lines_lost(conflict.issues), 1);
  test::expect_same(conflict.captures[0], make_capture('a'));  // the first is kept

  const auto logits =
      std::find_if(lines.begin(), lines.end(), [](const std::string& l) { return l.find("post_wo_logits") != l.npos; });
  EXPECT_EQ(with(*logits).issues.at(0).kind, IssueKind::duplicate);
  nlohmann::json other_logits = nlohmann::json::parse(*logits);
  other_logits["top1_id"] = 7;
  EXPECT_EQ(with(other_logits.dump()).issues.at(0).kind, IssueKind::conflict);
}

TEST(Jsonl, LinesThatCannotBeReadAreReportedAndTheRestIsKept) {
  std::vector<std::string> lines = lines_of(written(make_capture('a'), make_capture('b')));
  nlohmann::json wrong_layer = nlohmann::json::parse(lines[8]), wrong_sample = nlohmann::json::parse(lines[9]);
  wrong_layer["layer"] = "two";
  wrong_sample["sample"] = {1, "x"};
  lines.insert(lines.begin() + 2,
               {"not json", "[1,2]", wrong_layer.dump(), wrong_sample.dump(), "{\"event\":\"post_wo_trace\"}",
                std::string(100000, '['), R"({"event":"post_wo_trace","point":"q","phase":"warmup","pos_id":1})",
                R"({"event":"post_wo_trace","point":"q","phase":"prefill","pos_id":1e999})"});
  const JsonlContents read = parse_jsonl(joined(lines), "t");
  EXPECT_GE(lines_lost(read.issues), 8) << issues_of(read);
  for (std::int64_t line = 3; line <= 10; ++line)
    EXPECT_TRUE(std::any_of(read.issues.begin(), read.issues.end(), [&](const Issue& i) {
      return i.line == line && i.loses_data();
    })) << line;
  ASSERT_EQ(read.captures.size(), 2u);
  test::expect_same(read.captures[0], make_capture('a'));
  for (const Issue& issue : read.issues) EXPECT_EQ(issue.text().find('\n'), std::string::npos);
}

TEST(Jsonl, ALineAboveTheLimitIsReportedAndTheNextOneRead) {
  const TempDir dir;
  const std::string good = trace_line(make_capture('a'), make_capture('a').records[3]);
  JsonlOptions options;
  options.max_line = 100'000;
  spew(dir / "t.jsonl", good + "\n{\"x\":\"" + std::string(5'000'000, 'y') + "\"}\n" +
                            trace_line(make_capture('a'), make_capture('a').records[5]) + "\n" + std::string(200'000, ' ') +
                            "1\n" + std::string(3'000'000, '{'));
  const JsonlContents read = read_jsonl(dir / "t.jsonl", options);
  ASSERT_EQ(read.captures.size(), 1u);
  EXPECT_EQ(read.captures[0].records.size(), 2u);
  ASSERT_EQ(read.issues.size(), 1u) << issues_of(read);  // three lines, the same words
  EXPECT_EQ(read.issues[0].kind, IssueKind::too_long);
  EXPECT_EQ(read.issues[0].line, 2);
  EXPECT_EQ(read.issues[0].count, 3);
  EXPECT_EQ(lines_lost(read.issues), 3);
}

// However long a line is, reading it takes no more memory than the limit: measured in a process of its own.
TEST(Jsonl, ALineOfHalfAGigabyteTakesNoMemory) {
  const TempDir dir;
  spew(dir / "t.jsonl", "{}\n");
  std::filesystem::resize_file(dir / "t.jsonl", 500'000'000);  // zeros that take no room on the disk
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    rusage before{}, after{};
    ::getrusage(RUSAGE_SELF, &before);
    const JsonlContents read = read_jsonl(dir / "t.jsonl");
    ::getrusage(RUSAGE_SELF, &after);
    const bool said = read.issues.size() == 2 && read.issues[1].kind == IssueKind::too_long;
    ::_exit(said && after.ru_maxrss - before.ru_maxrss < 200'000 ? 0 : 1);  // kilobytes
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(Jsonl, ManyIssuesAreCountedNotListed) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += std::string(static_cast<std::size_t>(i % 977), ' ') + "?\n";
  JsonlOptions options;
  options.max_issues = 50;
  const JsonlContents read = parse_jsonl(text, "t", options);
  EXPECT_LE(read.issues.size(), 50u);
  EXPECT_EQ(lines_lost(read.issues), 5000);
  EXPECT_EQ(read.lines, 5000);
}

TEST(Jsonl, CannotBeWrittenWhereThereIsNoPlace) {
  const Capture a = make_capture('a'), b = make_capture('b');
  EXPECT_NE(test::error_of([&] { write_jsonl("/nonexistent/t.jsonl", a, b, {}, kFlags); }), "");
  EXPECT_NE(test::error_of([&] { read_jsonl("/nonexistent/t.jsonl"); }).find("cannot be read"), std::string::npos);
  const TempDir dir;
  EXPECT_NE(test::error_of([&] { read_jsonl(dir.path()); }), "");
}

}  // namespace
}  // namespace greta
