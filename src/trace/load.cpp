#include "trace/load.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "core/error.h"
#include "core/quote.h"
#include "trace/capture_store.h"
#include "trace/run_directory.h"

namespace greta {
namespace {

namespace fs = std::filesystem;

using RowKey = std::tuple<std::int32_t, std::int32_t, Stage, bool, std::int32_t>;
RowKey key_of(const StageRecord& record) {
  return {record.position, record.layer, record.stage, record.reread, record.reread ? record.step : 0};
}

std::optional<Capture>& arm_of(LoadedPair& pair, char arm) { return arm == 'a' ? pair.a : pair.b; }

class Collector {
 public:
  explicit Collector(const LoadOptions& options) : options_(options) {}

  void add_store(const fs::path& directory) { add(read_capture_dir(directory), directory.string()); }
  void add_jsonl(const fs::path& path) {
    JsonlContents contents = read_jsonl(path, options_.jsonl);
    for (Issue& issue : contents.issues) out.issues.push_back(std::move(issue));
    if (contents.lines == 0) out.issues.push_back({IssueKind::torn, path.string(), 0, 1, "an empty file"});
    for (Capture& capture : contents.captures) add(std::move(capture), path.string());
  }
  LoadedCaptures finish() {
    for (LoadedPair& pair : out.pairs)
      if (pair.a && pair.b && (pair.a->foreign || pair.b->foreign)) unify_layer_counts(*pair.a, *pair.b);
    return std::move(out);
  }

  LoadedCaptures out;

 private:
  void add(Capture capture, const std::string& file) {
    LoadedPair& pair = pair_of(capture);
    std::optional<Capture>& arm = arm_of(pair, capture.arm);
    if (arm) {
      merge(*arm, std::move(capture), file);
    } else {
      arm = std::move(capture);
    }
  }

  LoadedPair& pair_of(const Capture& capture) {
    for (LoadedPair& pair : out.pairs)
      if (pair.prompt_id == capture.prompt_id && pair.exp == capture.exp) return pair;
    return out.pairs.emplace_back(LoadedPair{capture.prompt_id, capture.exp, std::nullopt, std::nullopt});
  }

  /// Of a row in both, the one with the slice stays; where their hashes differ, the first stays and it is said.
  void merge(Capture& into, Capture from, const std::string& file) {
    std::map<RowKey, std::size_t> rows;
    for (std::size_t i = 0; i < into.records.size(); ++i) rows.emplace(key_of(into.records[i]), i);
    std::int64_t conflicts = 0, duplicates = 0;
    for (StageRecord& record : from.records) {
      const auto met = rows.find(key_of(record));
      if (met == rows.end()) {
        into.records.push_back(std::move(record));
        continue;
      }
      StageRecord& known = into.records[met->second];
      if (known.print.hash != record.print.hash || known.exposure != record.exposure) {
        ++conflicts;
        continue;
      }
      if (!known.print.sample.empty() && !record.print.sample.empty()) ++duplicates;
      if (known.print.sample.size() <= record.print.sample.size()) {
        known = std::move(record);
      }
    }
    for (LogitsRecord& record : from.logits) {
      const auto met = std::find_if(into.logits.begin(), into.logits.end(), [&](const LogitsRecord& one) {
        return one.position == record.position && one.step == record.step;
      });
      if (met == into.logits.end()) {
        into.logits.push_back(record);
      } else if (met->top1_id != record.top1_id || met->hash != record.hash) {
        ++conflicts;
      }
    }
    const std::string held =
        fmt::format("rows of arm {} of prompt {} that another file held", into.arm, quote(into.prompt_id, 40));
    if (conflicts > 0)
      out.issues.push_back({IssueKind::conflict, file, 0, conflicts, held + " with other values: the first are kept"});
    if (duplicates > 0) out.issues.push_back({IssueKind::duplicate, file, 0, duplicates, held + " too: kept once"});
    if (into.foreign && !from.foreign) {
      from.records = std::move(into.records);
      from.logits = std::move(into.logits);
      into = std::move(from);
    }
  }

  const LoadOptions& options_;
};

std::vector<fs::path> jsonl_files(const fs::path& directory) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string file = it->path().filename().string();
    if (file.ends_with(".jsonl") && !file.starts_with('.') && it->is_regular_file(error)) out.push_back(it->path());
  }
  if (error) fail("{}: cannot be read: {}", directory.string(), error.message());
  std::sort(out.begin(), out.end());
  return out;
}

/// Directories with runs directly below: for the message where somebody gives the directory of a day.
std::string runs_below(const fs::path& directory) {
  std::string out;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error))
    if (is_run_directory(it->path())) out += (out.empty() ? "" : ", ") + it->path().filename().string();
  return out;
}

void load_run(const fs::path& directory, const LoadOptions& options, Collector& collector) {
  const Manifest manifest = verify_run_directory(directory);
  collector.out.verified = true;
  collector.out.experiment = manifest.experiment;
  std::size_t captures = 0;
  for (const ManifestFile& file : manifest.files) {
    const fs::path path = directory / file.path;
    if (options.stores && path.filename() == kCaptureJson) {
      collector.add_store(path.parent_path());
      ++captures;
    }
  }
  for (const ManifestFile& file : manifest.files) {
    if (!file.path.ends_with(".jsonl") || fs::path(file.path).has_parent_path()) continue;
    collector.add_jsonl(directory / file.path);
    ++captures;
  }
  if (captures == 0) fail("{}: a whole run without captures (no .jsonl, no captures/)", directory.string());
}

}  // namespace

void unify_layer_counts(Capture& a, Capture& b) {
  const std::int32_t n_layers = std::max(a.n_layers, b.n_layers);
  for (Capture* capture : {&a, &b}) {
    capture->n_layers = n_layers;
    for (StageRecord& record : capture->records)
      if (once_per_token(record.stage)) record.layer = n_layers;
  }
}

LoadedCaptures load_captures(const fs::path& path, const LoadOptions& options) {
  refuse_incomplete(path);
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status)) fail("{}: no such file or directory", path.string());
  if (fs::is_character_file(status) || fs::is_block_file(status))  // /dev/zero has no end
    fail("{}: a device, wanted a run directory, a directory of .jsonl, or a .jsonl file", path.string());
  Collector collector(options);
  if (!fs::is_directory(status)) {
    collector.add_jsonl(path);
  } else if (is_run_directory(path)) {
    load_run(path, options, collector);
  } else if (fs::exists(path / kCaptureJson, error)) {
    collector.add_store(path);
  } else {
    const std::vector<fs::path> files = jsonl_files(path);
    if (files.empty()) {
      const std::string runs = runs_below(path);
      fail("{}: neither {} nor a .jsonl file in it{}", path.string(), kManifestName,
           runs.empty() ? "" : "; runs below it: " + runs);
    }
    for (const fs::path& file : files) collector.add_jsonl(file);
  }
  LoadedCaptures out = collector.finish();
  if (out.pairs.empty() && out.issues.empty()) fail("{}: no trace lines in it", path.string());
  return out;
}

}  // namespace greta
