#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "core/error.h"
#include "trace/capture_store.h"
#include "trace/file_io.h"
#include "trace/fingerprint.h"
#include "trace/json.h"
#include "trace/jsonl.h"
#include "trace/jsonl_events.h"
#include "trace/logits_json.h"

namespace greta {
namespace {

void append_place(json::ObjectWriter& object, const Capture& capture, Phase phase, std::int32_t position) {
  const std::string arm(1, capture.arm);
  object.field("prompt_id", capture.prompt_id).field("exp", capture.exp).field("arm", arm);
  object.field("phase", phase_label(capture, phase, position));
}

/// seq_len: rows of the forward call; tokens_total: rows up to its end; token_index: the row in the call (negative for a KV
/// slot of an earlier one). Left out where they would not follow from the position: with several sequences, after a context
/// shift (the calls count more rows than there are positions), for rows of a longer run that adds the span, without a schedule.
void append_call(json::ObjectWriter& object, const Capture& capture, const StageRecord& record) {
  if (capture.sequences > 1 || record.step < 0 || static_cast<std::size_t>(record.step) >= capture.schedule.size()) return;
  std::int64_t start = 0;
  for (std::int32_t s = 0; s < record.step; ++s) start += capture.schedule[static_cast<std::size_t>(s)];
  const std::int64_t rows = capture.schedule[static_cast<std::size_t>(record.step)];
  const std::int64_t total = std::accumulate(capture.schedule.begin(), capture.schedule.end(), std::int64_t{0});
  const auto positions = static_cast<std::int64_t>(capture.tokens.size());
  if (positions > 0 && total > positions) return;
  if (record.position >= start + rows) return;
  if (start + rows > std::numeric_limits<std::int32_t>::max()) return;
  object.field("seq_len", rows).field("tokens_total", start + rows).field("token_index", record.position - start);
}

void append_operand(std::string& out, const OperandRecord& operand) {
  json::ObjectWriter object(out);
  object.field("kind", name(operand.kind)).field("argument", operand.argument);
  if (!operand.name.empty()) object.field("name", operand.name);
  if (operand.producer_stage) {
    object.field("stage", name(*operand.producer_stage)).field("layer", operand.producer_layer);
    object.field("pos_id", operand.producer_position);
  }
  if (operand.kind == OperandKind::activation || operand.kind == OperandKind::kv)
    object.field("buffer", std::int64_t{operand.buffer}).field("generation", static_cast<std::int64_t>(operand.generation));
  if (operand.dtype) object.field("dtype", name(*operand.dtype));
  if (!operand.layout.empty()) object.field("layout", operand.layout);
  if (operand.hash) object.field("hash", to_hex(*operand.hash));
  if (operand.producer_hash) object.field("producer_hash", to_hex(*operand.producer_hash));
  if (operand.kind == OperandKind::scalar || operand.kind == OperandKind::kv) object.field("value", operand.value);
  object.end();
}

void append_print(json::ObjectWriter& object, const Fingerprint& print) {
  object.field("count", print.count).field("sample_n", static_cast<std::int64_t>(print.sample.size()));
  if (print.whole_row) object.field("hash", to_hex(print.hash));
  object.field("min", print.min).field("max", print.max).field("mean", print.mean).field("rms", print.rms);
  object.field("abs_sum", print.abs_sum).field("nan", print.nan).field("inf", print.inf);
  object.field("nz_count", print.count - print.zero);
}

}  // namespace

std::string phase_label(const Capture& capture, Phase phase, std::int32_t position) {
  if (phase == Phase::prefill)
    return capture.arm == 'a' && capture.n_prompt > 0 && position == capture.n_prompt - 1 ? "prefill_last" : "prefill";
  const std::int64_t first = capture.exp == "E0" ? capture.n_prompt : std::int64_t{capture.n_prompt} - 1;
  return fmt::format("decode{}", std::clamp<std::int64_t>(position - first, 0, trace::kMaxPosition));
}

std::string trace_line(const Capture& capture, const StageRecord& record) {
  // A KV slot that a later step found belongs to that step's phase, which its own position does not tell.
  std::int64_t at = record.position;
  if (record.reread && record.step >= 0 && static_cast<std::size_t>(record.step) < capture.schedule.size()) {
    at = 0;
    for (std::int32_t s = 0; s <= record.step; ++s) at += capture.schedule[static_cast<std::size_t>(s)];
    at = at / capture.sequences - 1;
  }
  std::string out;
  json::ObjectWriter object(out);
  object.field("event", trace::kTraceEvent);
  append_place(object, capture, record.phase, static_cast<std::int32_t>(std::min<std::int64_t>(at, trace::kMaxPosition)));
  object.field("point", name(record.stage))
      .field("layer", record.layer)
      .field("step", record.step)
      .field("pos_id", record.position);
  append_call(object, capture, record);
  object.field("token_id", record.token_id);
  if (record.reread) object.field("reread", true);
  if (record.dtype) object.field("dtype", name(*record.dtype));
  if (record.exposure == Exposure::not_exposed) {
    object.field("exposure", trace::kNotExposed);
  } else {
    append_print(object, record.print);
    object.field("offset_bytes", record.offset_bytes).field("sample", record.print.sample);
    if (!record.print.sketch.empty()) object.field("sketch", record.print.sketch);
  }
  if (!record.operands.empty()) {
    std::string& list = object.raw("operands");
    list += '[';
    for (std::size_t i = 0; i < record.operands.size(); ++i) {
      if (i > 0) list += ',';
      append_operand(list, record.operands[i]);
    }
    list += ']';
  }
  object.field("route", record.route);
  object.end();
  return out;
}

std::string logits_line(const Capture& capture, const LogitsRecord& record) {
  std::string out;
  json::ObjectWriter object(out);
  object.field("event", trace::kLogitsEvent);
  append_place(object, capture, record.phase, record.position);
  trace::append_logits(object, record);
  object.end();
  return out;
}

std::string header_line(const Capture& capture, std::span<const std::string> flags) {
  std::string out;
  json::ObjectWriter object(out);
  object.field("event", trace::kHeaderEvent).field("schema", 1);
  append_description(object, capture);
  object.field("flags", std::vector<std::string>(flags.begin(), flags.end()));
  object.end();
  return out;
}

RecordFilter aligned_or_differing(const Capture& a, const Capture& b) {
  // Hashes seen at a key: of arm a, of arm b, all of one key (a KV slot may have been found more than once).
  using Key = std::tuple<std::int32_t, std::int32_t, Stage>;
  struct Seen {
    std::set<std::pair<std::uint64_t, std::uint64_t>> hashes;
    bool in_a = false, in_b = false;
  };
  std::map<Key, Seen> seen;
  for (const Capture* capture : {&a, &b})
    for (const StageRecord& record : capture->records) {
      Seen& entry = seen[{record.position, record.layer, record.stage}];
      entry.hashes.emplace(record.print.hash.lo, record.print.hash.hi);
      (capture == &a ? entry.in_a : entry.in_b) = true;
    }
  std::set<Key> differing;
  for (const auto& [key, entry] : seen)
    if (entry.hashes.size() > 1 || !entry.in_a || !entry.in_b) differing.insert(key);
  const std::int32_t first = std::max(std::max(a.n_prompt, b.n_prompt) - 1, 0);
  return [first, differing = std::move(differing)](const Capture&, const StageRecord& record) {
    return record.position >= first || differing.contains({record.position, record.layer, record.stage});
  };
}

void write_jsonl(const std::filesystem::path& path, std::span<const Capture* const> captures, const RecordFilter& wanted,
                 std::span<const std::string> flags) {
  OutputFile file(path);
  std::int64_t lines = 0;
  const auto put = [&](std::string line) {
    line += '\n';
    file.write(line);
    ++lines;
  };
  for (const Capture* capture : captures) put(header_line(*capture, flags));
  for (const Capture* capture : captures) {
    for (const StageRecord& record : capture->records)
      if (!wanted || wanted(*capture, record)) put(trace_line(*capture, record));
    for (const LogitsRecord& record : capture->logits) put(logits_line(*capture, record));
  }
  file.write(fmt::format("{{\"event\":\"{}\",\"lines\":{}}}\n", trace::kEndEvent, lines));
  file.commit();
}

void write_jsonl(const std::filesystem::path& path, const Capture& a, const Capture& b, const RecordFilter& wanted,
                 std::span<const std::string> flags) {
  const std::array<const Capture*, 2> both{&a, &b};
  write_jsonl(path, both, wanted, flags);
}

}  // namespace greta
