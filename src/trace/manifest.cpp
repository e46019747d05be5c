// manifest.json: what a whole run directory holds, and the check that it still does.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/quote.h"
#include "trace/file_io.h"
#include "trace/json.h"
#include "trace/run_directory.h"

namespace greta {
namespace {

namespace fs = std::filesystem;
constexpr std::uint64_t kMaxManifest = std::uint64_t{64} << 20;

[[noreturn]] void refuse(const fs::path& directory, const std::string& what) {
  fail("{}: {}; run the experiment again, or take a copy that is whole", directory.string(), what);
}

std::optional<std::uint64_t> hash_from_text(std::string_view text) {
  std::uint64_t hash = 0;
  const char* const end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, hash, 16);
  if (text.size() != 16 || read.ec != std::errc{} || read.ptr != end) return std::nullopt;
  return hash;
}

/// Relative, inside the directory.
bool is_inside(const std::string& text) {
  const fs::path path(text);
  if (text.empty() || path.is_absolute() || path.has_root_path()) return false;
  return std::all_of(path.begin(), path.end(), [](const fs::path& part) { return is_file_name(part.string()); });
}

ManifestFile parse_file(const fs::path& directory, const json::Value& entry) {
  const json::Value *path = entry.find("path"), *size = entry.find("size"), *hash = entry.find("xxh3");
  const std::int64_t bytes = size ? size->integer().value_or(-1) : -1;
  const auto sum = hash && hash->string() ? hash_from_text(*hash->string()) : std::nullopt;
  if (!path || !path->string() || bytes < 0 || !sum)
    refuse(directory, "manifest.json is not greta's (an entry without path, size and xxh3)");
  if (!is_inside(*path->string()))
    refuse(directory, fmt::format("manifest.json names {}, outside of the directory", quote(*path->string())));
  return {*path->string(), static_cast<std::uint64_t>(bytes), *sum};
}

Manifest parse_manifest(const fs::path& directory, std::string_view text) {
  const auto parsed = json::parse(text, {.depth = 8, .values = 4'000'000});
  if (!parsed) refuse(directory, "manifest.json is torn: " + parsed.error());
  const json::Value *schema = parsed->find("schema"), *files = parsed->find("files"), *experiment = parsed->find("experiment");
  if (!schema || schema->integer() != 1)
    refuse(directory, "manifest.json has no schema 1; it was written by another version or another program");
  Manifest manifest;
  if (experiment && experiment->string()) manifest.experiment = *experiment->string();
  if (!files || (!files->array() && !(files->numbers() && files->numbers()->empty())))
    refuse(directory, "manifest.json has no list of files");
  if (files->array() != nullptr)
    for (const json::Value& entry : *files->array()) manifest.files.push_back(parse_file(directory, entry));
  return manifest;
}

void check_file(const fs::path& directory, const ManifestFile& file) {
  std::error_code error;
  const fs::path path = directory / file.path;
  const auto status = fs::symlink_status(path, error);
  if (!fs::exists(status)) refuse(directory, fmt::format("{} is missing (manifest.json names it)", file.path));
  if (!fs::is_regular_file(status)) refuse(directory, fmt::format("{} is no regular file", file.path));
  const FileSummary found = summarise_file(path);
  if (found.size != file.size)
    refuse(directory, fmt::format("{} has {} bytes, manifest.json says {}", file.path, found.size, file.size));
  if (found.xxh3 != file.xxh3)
    refuse(directory,
           fmt::format("{} was altered: XXH3-64 is {:016x}, manifest.json says {:016x}", file.path, found.xxh3, file.xxh3));
}

}  // namespace

bool is_run_directory(const fs::path& directory) {
  std::error_code error;
  return fs::is_regular_file(directory / kManifestName, error);
}

void refuse_incomplete(const fs::path& path) {
  std::error_code error;
  std::string text = path.lexically_normal().string();
  while (text.size() > 1 && text.ends_with('/')) text.pop_back();
  if (text.ends_with(kIncompleteSuffix))
    fail("{}: the run that wrote it did not finish (killed, or still running); run the experiment again", text);
  if (!fs::exists(text, error) && fs::is_directory(text + std::string(kIncompleteSuffix), error))
    fail("{}: only {}{} is there: the run that wrote it did not finish; run the experiment again", text, text,
         kIncompleteSuffix);
}

Manifest verify_run_directory(const fs::path& directory) {
  refuse_incomplete(directory);
  if (!is_run_directory(directory)) fail("{}: no {} in it; give a run directory", directory.string(), kManifestName);
  Manifest manifest = parse_manifest(directory, read_file(directory / kManifestName, kMaxManifest));
  for (const ManifestFile& file : manifest.files) check_file(directory, file);
  return manifest;
}

}  // namespace greta
