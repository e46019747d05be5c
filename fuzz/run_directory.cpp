// A run's directory as `analyze` and `compare` load it. The input holds several files: a byte of flags, then for each file a
// byte that picks its name, two of its length (little endian), and its bytes. Hashes stop a fuzzer at the door, so flags repair
// them: kManifest writes a manifest.json that fits the files, kRecords the hash at the end of records.bin.
#include "trace/run_directory.h"

#include <xxhash.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "fuzz/directory.h"
#include "fuzz/judged.h"

namespace greta::fuzz {
namespace {

namespace fs = std::filesystem;

enum Flag : std::uint8_t { kManifest = 1, kRecords = 2, kNoStores = 4, kBare = 8 };
constexpr std::array<std::string_view, 8> kNames{"manifest.json",
                                                 "captures/a/p0/capture.json",
                                                 "captures/a/p0/records.bin",
                                                 "captures/b/p0/capture.json",
                                                 "captures/b/p0/records.bin",
                                                 "b3_41_post_wo_p0_E1.jsonl",
                                                 "other.jsonl",
                                                 "verdict.json"};

void repair_records(std::string& bytes) {
  if (bytes.size() < 8) return;
  const std::uint64_t sum = XXH3_64bits(bytes.data(), bytes.size() - 8);
  std::memcpy(bytes.data() + bytes.size() - 8, &sum, 8);
}

void unpack(std::string_view in, const fs::path& directory) {
  const auto byte = [&] {
    const auto out = in.empty() ? std::uint8_t{0} : static_cast<std::uint8_t>(in.front());
    in.remove_prefix(std::min<std::size_t>(1, in.size()));
    return out;
  };
  const std::uint8_t flags = byte();
  std::string entries;
  std::array<bool, kNames.size()> written{};
  while (!in.empty()) {
    const std::size_t index = byte() % kNames.size();
    std::size_t length = byte();
    length += std::size_t{byte()} << 8;
    std::string content(in.substr(0, length));
    in.remove_prefix(content.size());
    const std::string_view name = kNames[index];
    if (std::exchange(written[index], true) || (index == 0 && (flags & (kManifest | kBare)) != 0)) continue;
    if (name.ends_with(".bin") && (flags & kRecords) != 0) repair_records(content);
    write(directory / name, content);
    entries += fmt::format(R"({}{{"path":"{}","size":{},"xxh3":"{:016x}"}})", entries.empty() ? "" : ",", name, content.size(),
                           XXH3_64bits(content.data(), content.size()));
  }
  if ((flags & kManifest) != 0 && (flags & kBare) == 0)
    write(directory / kManifestName, R"({"schema":1,"experiment":"b3_41","files":[)" + entries + "]}");
}

}  // namespace
}  // namespace greta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace greta;
  using namespace greta::fuzz;
  static const Directory directory({"captures/a/p0", "captures/b/p0"});
  for (const std::string_view name : kNames) ::unlink((directory.path() / name).c_str());
  unpack(text_of(data, size), directory.path());
  LoadOptions options;
  options.stores = size == 0 || (data[0] & kNoStores) == 0;
  options.jsonl.max_issues = 8;
  accepts([&] {
    LoadedCaptures loaded = load_captures(directory.path(), options);
    for (const Issue& issue : loaded.issues) require_one_line(issue.text());
    judge_pairs(std::move(loaded.pairs), loaded.unreadable_lines());
  });
  return 0;
}
