// A JSONL trace, ours or another engine's: read from memory and from a file, written and read again, judged.
#include "trace/jsonl.h"

#include <string>
#include <vector>

#include "core/utf8.h"
#include "fuzz/judged.h"

namespace greta::fuzz {
namespace {

JsonlOptions options() {
  JsonlOptions out;
  out.default_prompt = "p";
  out.max_line = 16384;
  out.max_issues = 8;
  out.names.add("l_out", "x_out");
  out.names.add("blk.{layer}.norm", "ffn_norm");
  return out;
}

/// Every line of the captures, as greta writes them.
std::string lines_of(const std::vector<Capture>& captures) {
  std::string out;
  for (const Capture& capture : captures) {
    out += header_line(capture, {}) + "\n";
    for (const StageRecord& record : capture.records) out += trace_line(capture, record) + "\n";
    for (const LogitsRecord& record : capture.logits) out += logits_line(capture, record) + "\n";
  }
  return out;
}

std::string words_of(const std::vector<Issue>& issues) {
  std::string out;
  for (const Issue& issue : issues) {
    require_one_line(issue.what);
    out += fmt::format("{}:{}:{}: {}\n", issue.line, name(issue.kind), issue.count, issue.what);
  }
  return out;
}

std::vector<LoadedPair> pairs_of(std::vector<Capture> captures) {
  std::vector<LoadedPair> pairs;
  for (Capture& capture : captures) {
    auto pair = std::find_if(pairs.begin(), pairs.end(), [&](const LoadedPair& known) {
      return known.prompt_id == capture.prompt_id && known.exp == capture.exp;
    });
    if (pair == pairs.end()) pair = pairs.insert(pair, {capture.prompt_id, capture.exp, std::nullopt, std::nullopt});
    (capture.arm == 'a' ? pair->a : pair->b) = std::move(capture);
  }
  return pairs;
}

}  // namespace
}  // namespace greta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace greta;
  using namespace greta::fuzz;
  static MemoryFile file;
  static const JsonlOptions how = options();
  const std::string_view text = text_of(data, size);
  JsonlContents contents = parse_jsonl(text, "input.jsonl", how);
  const std::string written = lines_of(contents.captures);

  file.fill(text);
  const JsonlContents again = read_jsonl(file.path(), how);
  require(lines_of(again.captures) == written, "the same captures from memory and from a file");
  require(words_of(again.issues) == words_of(contents.issues), "the same issues from memory and from a file");

  // What greta writes, it reads.
  JsonlOptions unlimited = how;
  unlimited.max_line = std::size_t{1} << 30;
  for (const Issue& issue : parse_jsonl(written, "written.jsonl", unlimited).issues)
    require(issue.kind != IssueKind::unreadable && issue.kind != IssueKind::unknown_point, "readable lines written",
            issue.what);

  judge_pairs(pairs_of(std::move(contents.captures)), lines_lost(contents.issues));
  return 0;
}
