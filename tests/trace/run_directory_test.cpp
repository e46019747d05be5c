#include "trace/run_directory.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "support.h"

namespace greta {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::slurp;
using test::spew;
using test::TempDir;

RunDirectoryOptions by_default(const TempDir& dir) {
  return {.out = {}, .root = dir / "artifacts", .date = "2026-01-31", .experiment = "b3_41"};
}
RunDirectoryOptions at(const fs::path& out) { return {.out = out, .root = {}, .date = "2026-01-31", .experiment = "b3_41"}; }

fs::path whole_run(const TempDir& dir) {
  RunDirectory run(by_default(dir));
  run.write("verdict.json", "{}\n");
  run.write("captures/a/p0/records.bin", std::string(1000, 'r'));
  run.write("b3_41_post_wo_p0_E1.jsonl", "{}\n");
  run.finish();
  return run.path();
}

TEST(RunDirectory, AppearsWholeUnderItsDefaultName) {
  const TempDir dir;
  RunDirectory run(by_default(dir));
  EXPECT_EQ(run.path(), dir / "artifacts/2026-01-31/b3_41");
  run.write("report.md", "text");
  run.write("captures/b/p0/capture.json", "{}");
  EXPECT_FALSE(fs::exists(run.path()));
  EXPECT_TRUE(fs::exists(run.path().string() + ".incomplete/report.md"));
  run.finish();
  EXPECT_EQ(slurp(run.path() / "report.md"), "text");
  EXPECT_FALSE(fs::exists(run.path().string() + ".incomplete"));
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(run.path())) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"captures", "manifest.json", "report.md"}));
  const Manifest manifest = verify_run_directory(run.path());
  EXPECT_EQ(manifest.experiment, "b3_41");
  ASSERT_EQ(manifest.files.size(), 2u);
  EXPECT_EQ(manifest.files[0].path, "captures/b/p0/capture.json");
  EXPECT_EQ(manifest.files[1].size, 4u);
  const auto json = nlohmann::json::parse(slurp(run.path() / "manifest.json"));
  EXPECT_EQ(json["files"][1]["path"], "report.md");
}

TEST(RunDirectory, NumbersFurtherRunsOfADay) {
  const TempDir dir;
  EXPECT_EQ(whole_run(dir).filename(), "b3_41");
  EXPECT_EQ(whole_run(dir).filename(), "b3_41-2");
  RunDirectory third(by_default(dir));
  EXPECT_EQ(third.path().filename(), "b3_41-3");
  EXPECT_EQ(RunDirectory(by_default(dir)).path().filename(), "b3_41-4");  // the third is being written
}

TEST(RunDirectory, AnExplicitDirectoryMustBeEmptyOrNew) {
  const TempDir dir;
  spew(dir / "used/notes.txt", "mine");
  spew(dir / "file", "mine");
  EXPECT_NE(error_of([&] { RunDirectory run(at(dir / "used")); }).find("not empty"), std::string::npos);
  EXPECT_EQ(slurp(dir / "used/notes.txt"), "mine");
  EXPECT_FALSE(fs::exists(dir / "used.incomplete"));
  EXPECT_NE(error_of([&] { RunDirectory run(at(dir / "file")); }).find("no directory"), std::string::npos);
  EXPECT_NE(error_of([&] { RunDirectory run(at(dir / "file/below")); }).find("cannot be made"), std::string::npos);
  EXPECT_NE(error_of([&] { RunDirectory run(at("/")); }), "");
  fs::create_directories(dir / "empty");
  for (const std::string name : {"empty", "new/deeper", "slash/", "./dot"}) {
    RunDirectory run(at(dir / name));
    run.write("f", "x");
    run.finish();
    EXPECT_EQ(slurp(dir / name / "f"), "x") << name;
    verify_run_directory(dir / name);
    EXPECT_NE(error_of([&] { RunDirectory again(at(dir / name)); }).find("not empty"), std::string::npos) << name;
  }
}

TEST(RunDirectory, AnUnfinishedRunIsRefusedByReadersAndDoesNotBlockTheNext) {
  const TempDir dir;
  const fs::path out = dir / "out";
  {
    RunDirectory run(at(out));
    run.write("half", "x");
    EXPECT_NE(error_of([&] { RunDirectory other(at(out)); }).find("another run is writing"), std::string::npos);
  }
  EXPECT_TRUE(fs::exists(dir / "out.incomplete/half"));
  EXPECT_NE(error_of([&] { verify_run_directory(out); }).find("did not finish"), std::string::npos);
  EXPECT_NE(error_of([&] { verify_run_directory(dir / "out.incomplete/"); }).find("did not finish"), std::string::npos);
  RunDirectory run(at(out));
  EXPECT_FALSE(fs::exists(dir / "out.incomplete/half"));  // nothing of the killed run gets into this one
  run.write("f", "x");
  run.finish();
  EXPECT_EQ(verify_run_directory(out).files.size(), 1u);
}

TEST(RunDirectory, ADirectoryThatGretaDidNotMakeIsNeverCleared) {
  const TempDir dir;
  spew(dir / "out.incomplete/thesis.tex", "mine");
  EXPECT_NE(error_of([&] { RunDirectory run(at(dir / "out")); }).find("in the way"), std::string::npos);
  EXPECT_EQ(slurp(dir / "out.incomplete/thesis.tex"), "mine");
  spew(dir / "artifacts/2026-01-31/b3_41.incomplete/thesis.tex", "mine");
  EXPECT_EQ(RunDirectory(by_default(dir)).path().filename(), "b3_41-2");
  fs::create_directories(dir / "early.incomplete");  // killed before it had a lock
  RunDirectory run(at(dir / "early"));
  run.finish();
}

TEST(RunDirectory, ARunThatIsKilledLeavesNothingThatPassesForWhole) {
  const TempDir dir;
  const fs::path out = dir / "out";
  for (int round = 0; round < 12; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      RunDirectory run(at(out));
      for (int i = 0; i < 40; ++i) run.write("f" + std::to_string(i), std::string(50'000, 'x'));
      run.finish();
      ::_exit(0);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(500 * round * round));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (fs::exists(out)) {
      EXPECT_EQ(verify_run_directory(out).files.size(), 40u);
      fs::remove_all(out);
    } else {
      EXPECT_NE(error_of([&] { verify_run_directory(out); }), "");
    }
  }
  RunDirectory run(at(out));
  run.finish();
}

TEST(RunDirectory, TwoRunsAtOnceTakeTwoNames) {
  const TempDir dir;
  std::vector<std::thread> threads;
  std::vector<std::string> names(8);
  for (std::size_t i = 0; i < names.size(); ++i)
    threads.emplace_back([&, i] {
      RunDirectory run(by_default(dir));
      run.write("f", std::to_string(i));
      names[i] = run.path().filename();
      run.finish();
    });
  for (std::thread& thread : threads) thread.join();
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::unique(names.begin(), names.end()), names.end());
  for (const std::string& name : names) verify_run_directory(dir / "artifacts/2026-01-31" / name);
}

TEST(RunDirectory, ChecksWhatItIsToldToBeCalled) {
  const TempDir dir;
  for (const char* id : {"", ".", "..", "a/b"}) {
    RunDirectoryOptions options = by_default(dir);
    options.experiment = id;
    EXPECT_NE(error_of([&] { RunDirectory run(options); }), "") << id;
  }
}

TEST(VerifyRunDirectory, NamesTheFileThatIsTorn) {
  const TempDir dir;
  const fs::path run = whole_run(dir);
  const auto error = [&] { return error_of([&] { verify_run_directory(run); }); };
  EXPECT_EQ(error(), "");
  const fs::path records = run / "captures/a/p0/records.bin";
  fs::resize_file(records, 999);
  EXPECT_NE(error().find("captures/a/p0/records.bin has 999 bytes, manifest.json says 1000"), std::string::npos) << error();
  spew(records, std::string(999, 'r') + "s");
  EXPECT_NE(error().find("captures/a/p0/records.bin was altered"), std::string::npos) << error();
  fs::remove(records);
  EXPECT_NE(error().find("captures/a/p0/records.bin is missing"), std::string::npos) << error();
  fs::create_symlink("/etc/passwd", records);
  EXPECT_NE(error().find("no regular file"), std::string::npos) << error();
  fs::remove(records);
  spew(records, std::string(1000, 'r'));
  spew(run / "notes.txt", "a file that somebody added");
  EXPECT_EQ(error(), "");
}

TEST(VerifyRunDirectory, RefusesManifestsThatCannotBe) {
  const TempDir dir;
  const fs::path run = whole_run(dir);
  const std::string good = slurp(run / "manifest.json");
  const auto error = [&](const std::string& manifest) {
    spew(run / "manifest.json", manifest);
    return error_of([&] { verify_run_directory(run); });
  };
  EXPECT_EQ(error(good), "");
  for (std::size_t cut = 0; cut + 2 < good.size(); cut += 3) EXPECT_NE(error(good.substr(0, cut)), "") << cut;
  const auto entry = [](const std::string& path) {
    return R"({"schema":1,"files":[{"path":")" + path + R"(","size":3,"xxh3":"0000000000000000"}]})";
  };
  for (const char* path : {"/etc/passwd", "../x", "a/../../x", "a//b", "", ".", "a/"})
    EXPECT_NE(error(entry(path)), "") << path;
  EXPECT_NE(error(entry("../x")).find("outside"), std::string::npos);
  for (const char* text :
       {"[]", "{}", R"({"schema":2,"files":[]})", R"({"schema":1})", R"({"schema":1,"files":{}})",
        R"({"schema":1,"files":[1]})", R"({"schema":1,"files":[{}]})",
        R"({"schema":1,"files":[{"path":"verdict.json","size":-3,"xxh3":"0000000000000000"}]})",
        R"({"schema":1,"files":[{"path":"verdict.json","size":4611686018427387904,"xxh3":"0000000000000000"}]})",
        R"({"schema":1,"files":[{"path":"verdict.json","size":3,"xxh3":"0"}]})"})
    EXPECT_NE(error(text), "") << text;
  fs::remove(run / "manifest.json");
  EXPECT_NE(error_of([&] { verify_run_directory(run); }).find("no manifest.json"), std::string::npos);
  EXPECT_FALSE(is_run_directory(run));
}

}  // namespace
}  // namespace greta
