#include "trace/file_io.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

namespace greta {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::slurp;
using test::spew;
using test::TempDir;

std::size_t entries(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

TEST(OutputFile, ReplacesWholeOrNotAtAll) {
  const TempDir dir;
  const fs::path path = dir / "file";
  atomic_write_file(path, "first");
  EXPECT_EQ(slurp(path), "first");
  {
    OutputFile file(path);
    file.write("second, never finished");
    EXPECT_EQ(slurp(path), "first");
  }
  EXPECT_EQ(slurp(path), "first");
  EXPECT_EQ(entries(dir.path()), 1u);  // the temporary file is gone
  const std::string large(3'000'000, 'x');
  OutputFile file(path);
  for (std::size_t at = 0; at < large.size(); at += 7777) file.write(std::string_view(large).substr(at, 7777));
  EXPECT_EQ(slurp(path), "first");
  file.commit();
  EXPECT_EQ(slurp(path), large);
  EXPECT_EQ(entries(dir.path()), 1u);
}

TEST(OutputFile, FollowsALinkInsteadOfReplacingIt) {
  const TempDir dir;
  spew(dir / "target", "old");
  fs::create_symlink("target", dir / "link");
  atomic_write_file(dir / "link", "new");
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(slurp(dir / "target"), "new");
}

TEST(OutputFile, NamesWhatCannotBeWritten) {
  const TempDir dir;
  EXPECT_NE(error_of([&] { atomic_write_file(dir / "no" / "such" / "file", "x"); }).find("cannot be written"),
            std::string::npos);
  EXPECT_NE(error_of([&] { atomic_write_file(dir.path(), "x"); }).find("is a directory"), std::string::npos);
  EXPECT_NE(error_of([&] { atomic_write_file("", "x"); }).find("names no file"), std::string::npos);
  EXPECT_NE(error_of([&] { atomic_write_file(dir / "new/", "x"); }).find("names no file"), std::string::npos);
}

TEST(OutputFile, AFullDiskIsAnErrorAndADeviceIsNeverReplaced) {
  if (!fs::exists("/dev/full")) {
    std::printf("no /dev/full: passed over\n");
    return;
  }
  const std::string error = error_of([] { atomic_write_file("/dev/full", "x"); });
  EXPECT_NE(error.find("/dev/full"), std::string::npos) << error;
  EXPECT_NE(error.find("No space left"), std::string::npos) << error;
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
  atomic_write_file("/dev/null", "x");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

// A limit on the size of files stands for a disk that fills up halfway.
TEST(OutputFile, AWriteThatFailsHalfwayLeavesTheOldFile) {
  const TempDir dir;
  const fs::path path = dir / "file";
  spew(path, "old");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1'500'000, 1'500'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    std::string message;
    try {
      atomic_write_file(path, std::string(4'000'000, 'x'));
    } catch (const Error& error) {
      message = error.what();
    }
    ::_exit(message.find("1500000 bytes") != std::string::npos ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(slurp(path), "old");
  EXPECT_EQ(entries(dir.path()), 1u);
}

TEST(ReadFile, HasALimitAndTakesRegularFilesOnly) {
  const TempDir dir;
  spew(dir / "file", "12345");
  EXPECT_EQ(read_file(dir / "file", 5), "12345");
  EXPECT_NE(error_of([&] { read_file(dir / "file", 4); }).find("5 bytes"), std::string::npos);
  EXPECT_NE(error_of([&] { read_file(dir / "none", 4); }).find("cannot be opened"), std::string::npos);
  EXPECT_NE(error_of([&] { read_file(dir.path(), 4); }), "");
  EXPECT_NE(error_of([&] { read_file("/dev/zero", 4); }).find("no regular file"), std::string::npos);
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);  // nobody writes to it: waiting would never end
  EXPECT_NE(error_of([&] { read_file(dir / "pipe", 4); }).find("no regular file"), std::string::npos);
}

TEST(SummariseFile, IsSizeAndXxh3) {
  const TempDir dir;
  spew(dir / "empty", "");
  EXPECT_EQ(summarise_file(dir / "empty").size, 0u);
  EXPECT_EQ(summarise_file(dir / "empty").xxh3, 0x2d06800538d394c2u);  // published: XXH3-64 of nothing, seed 0
  spew(dir / "file", std::string(2'500'000, 'a'));
  EXPECT_EQ(summarise_file(dir / "file").size, 2'500'000u);
}

TEST(IsFileName, TakesOneComponent) {
  for (const char* good : {"p0", "p4_sys", "a.b", "...", "-x", "é"}) EXPECT_TRUE(is_file_name(good)) << good;
  for (const std::string& bad : {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("a\nb"),
                                 std::string("a\0b", 3), std::string(201, 'x')})
    EXPECT_FALSE(is_file_name(bad)) << bad;
}

}  // namespace
}  // namespace greta
