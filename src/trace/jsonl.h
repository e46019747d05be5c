// The JSONL trace: one object a line, written by greta or by anybody (docs/formats.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trace/issue.h"
#include "trace/name_map.h"
#include "trace/record.h"

namespace greta {

/// "prefill", "prefill_last" (arm a's row n-1), "decode0", "decode1", …: decode0 is position n-1 in E1, n in E0.
std::string phase_label(const Capture& capture, Phase phase, std::int32_t position);

/// One line without its newline.
std::string trace_line(const Capture& capture, const StageRecord& record);
std::string logits_line(const Capture& capture, const LogitsRecord& record);
/// `flags`: the alignment flags that were on.
std::string header_line(const Capture& capture, std::span<const std::string> flags);

using RecordFilter = std::function<bool(const Capture&, const StageRecord&)>;
/// Rows from position n-1 on of both arms, and prefix rows (KV slots as a later step found them among them) whose hashes differ
/// between the arms or that only one arm has. `a` and `b` must outlive the filter.
RecordFilter aligned_or_differing(const Capture& a, const Capture& b);

/// Writes, atomically: a header line a capture, the records that `wanted` takes (empty: all), all logits, an end line with the
/// number of lines. Throws Error where the file cannot be written.
void write_jsonl(const std::filesystem::path& path, std::span<const Capture* const> captures, const RecordFilter& wanted,
                 std::span<const std::string> flags);
void write_jsonl(const std::filesystem::path& path, const Capture& a, const Capture& b, const RecordFilter& wanted,
                 std::span<const std::string> flags);

struct JsonlOptions {
  NameMap names;
  /// Of lines without prompt_id; empty: the file's stem.
  std::string default_prompt;
  std::size_t max_line = std::size_t{16} << 20;  // bytes
  std::size_t max_issues = 200;                  // of each kind; further ones are counted in the last
};

struct JsonlContents {
  std::vector<Capture> captures;  // one for each (prompt_id, exp, arm), in order of appearance
  std::vector<Issue> issues;      // in order of lines
  std::int64_t lines = 0;         // that were not empty
};

/// Reads lines of greta and of others: more or fewer fields, any order. `arm` missing: prefill* is a, decode* is b. A hash
/// missing: of the slice as f64, marked by Fingerprint::whole_row false. Nothing that cannot be read is skipped in silence: see
/// `issues`. Throws Error only where the file itself cannot be read.
JsonlContents read_jsonl(const std::filesystem::path& path, const JsonlOptions& options = {});
/// The same from memory; `file` names it in issues.
JsonlContents parse_jsonl(std::string_view text, const std::string& file, const JsonlOptions& options = {});

}  // namespace greta
