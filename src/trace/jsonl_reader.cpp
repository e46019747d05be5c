#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <map>
#include <set>
#include <system_error>
#include <tuple>

#include "core/error.h"
#include "core/quote.h"
#include "trace/capture_store.h"
#include "trace/jsonl.h"
#include "trace/jsonl_events.h"

namespace greta {
namespace {

using trace::LogitsLine;
using trace::Place;
using trace::Refusal;
using trace::TraceLine;

/// The same words about several lines are one issue that counts them; beyond a limit of each kind the last counts the rest.
class IssueList {
 public:
  IssueList(std::string file, std::size_t max_of_kind) : file_(std::move(file)), max_of_kind_(max_of_kind) {}

  void add(IssueKind kind, std::int64_t line, std::string what) {
    const auto known = same_words_.find({kind, what});
    if (known != same_words_.end()) {
      ++issues_[known->second].count;
      return;
    }
    std::size_t& of_kind = of_kind_[kind];
    if (of_kind >= max_of_kind_) {
      Issue& rest = issues_[rest_of_kind_.at(kind)];
      if (rest.count++ == 1) rest.what += "; more of this kind are only counted";
      return;
    }
    ++of_kind;
    rest_of_kind_[kind] = issues_.size();
    same_words_.emplace(std::pair(kind, what), issues_.size());
    issues_.push_back({kind, file_, line, 1, std::move(what)});
  }
  std::vector<Issue> take() { return std::move(issues_); }
  const std::string& file() const { return file_; }

 private:
  std::string file_;
  std::size_t max_of_kind_;
  std::vector<Issue> issues_;
  std::map<std::pair<IssueKind, std::string>, std::size_t> same_words_;
  std::map<IssueKind, std::size_t> of_kind_, rest_of_kind_;
};

/// Takes lines, gives captures.
class JsonlReader {
 public:
  JsonlReader(const std::string& file, const JsonlOptions& options)
      : options_(options), issues_(file, std::max<std::size_t>(options.max_issues, 1)) {
    default_prompt_ = options.default_prompt.empty() ? std::filesystem::path(file).stem().string() : options.default_prompt;
  }

  void line(std::string_view text) {
    ++number_;
    if (number_ == 1 && text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // byte order mark
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (text.find_first_not_of(" \t") == std::string_view::npos) return;
    ++lines_;
    if (text.size() > options_.max_line) {
      too_long();
      return;
    }
    const auto object = json::parse(text);
    if (!object) return issue(IssueKind::unreadable, object.error());
    if (object->object() == nullptr) return issue(IssueKind::unreadable, fmt::format("{}, wanted an object", object->kind()));
    dispatch(*object);
  }
  /// A line of which only its being too long is known.
  void long_line() {
    ++number_;
    ++lines_;
    too_long();
  }
  /// The last line, which has no newline: whole all the same where it can be parsed.
  void last_line(std::string_view text) {
    if (text.size() <= options_.max_line && !json::parse(text.ends_with('\r') ? text.substr(0, text.size() - 1) : text)) {
      ++number_;
      ++lines_;
      issue(IssueKind::torn, "the file ends in the middle of this line");
      torn_ = true;
      return;
    }
    line(text);
  }
  JsonlContents finish();

 private:
  using Key = std::tuple<std::size_t, std::int32_t, std::int32_t, Stage, bool, std::int32_t>;
  struct Met {
    std::size_t index = 0;
    std::int64_t line = 0;
  };

  void issue(IssueKind kind, std::string what) { issues_.add(kind, number_, std::move(what)); }
  void too_long() { issue(IssueKind::too_long, fmt::format("a line of more than {} bytes", options_.max_line)); }
  void refused(const Refusal& refusal) { issue(refusal.kind, refusal.what); }

  void dispatch(const json::Value& object);
  void take_trace(TraceLine line);
  void take_logits(LogitsLine line);
  void take_header(const json::Value& object);
  void take_end(const json::Value& object);
  std::size_t capture_of(const Place& place);
  std::optional<std::int32_t> position_of(const Place& place);
  bool whole_but_reordered() const;
  void same_key_again(bool same, std::int64_t first_line, const std::string& what);

  const JsonlOptions& options_;
  IssueList issues_;
  std::string default_prompt_;
  std::int64_t number_ = 0, lines_ = 0;
  // Between a header and its end line:
  bool open_ = false, torn_ = false;
  std::int64_t segment_start_ = 0, segment_duplicates_ = 0;
  // Over the file, whose lines may be in any order:
  std::int64_t duplicates_ = 0, end_lines_ = 0;
  std::multiset<std::int64_t> announced_;  // by the end lines
  struct Broken {
    std::int64_t line = 0;
    std::string what;
  };
  std::vector<Broken> broken_;  // segments that do not hold what their end lines say

  std::vector<Capture> captures_;
  std::vector<std::int64_t> header_line_;  // of each capture; 0: none
  std::map<std::tuple<std::string, std::string, char>, std::size_t> capture_index_;
  std::map<Key, Met> records_;
  std::map<std::tuple<std::size_t, std::int32_t, std::int32_t>, Met> logits_;  // capture, position, step
  struct Seen {
    std::int32_t last = -1, first_decode = -1;
  };
  // Positions of prefill_last and of the first decode step, of each capture; only those that a line gave: an assumed one says
  // nothing of the prompt's length.
  std::vector<Seen> seen_;
};

void JsonlReader::dispatch(const json::Value& object) {
  const json::Value* event = object.find("event");
  std::string_view word;
  if (event != nullptr && event->string() != nullptr) {
    word = *event->string();
  } else if (object.find("point") != nullptr) {
    word = trace::kTraceEvent;
  } else if (object.find("top1_id") != nullptr || object.find("logits_hash") != nullptr) {
    word = trace::kLogitsEvent;
  }
  if (word == trace::kTraceEvent) {
    auto line = trace::parse_trace(object, options_.names);
    if (!line) return refused(line.error());
    take_trace(std::move(*line));
  } else if (word == trace::kLogitsEvent) {
    auto line = trace::parse_logits_line(object);
    if (!line) return refused(line.error());
    take_logits(std::move(*line));
  } else if (word == trace::kHeaderEvent) {
    take_header(object);
  } else if (word == trace::kEndEvent) {
    take_end(object);
  } else if (word.empty()) {
    issue(IssueKind::missing_field, "no field 'event', and neither 'point' nor 'top1_id'");
  } else {
    issue(IssueKind::unknown_event, "event " + quote(word, 40));
  }
}

std::size_t JsonlReader::capture_of(const Place& place) {
  std::string prompt = place.prompt_id.empty() ? default_prompt_ : place.prompt_id;
  std::string exp = place.exp.empty() ? "E1" : place.exp;
  const auto [entry, is_new] = capture_index_.try_emplace({prompt, exp, place.arm}, captures_.size());
  if (is_new) {
    Capture& capture = captures_.emplace_back();
    capture.prompt_id = std::move(prompt);
    capture.exp = std::move(exp);
    capture.arm = place.arm;
    capture.foreign = true;  // until a header says otherwise
    header_line_.push_back(0);
    seen_.emplace_back();
  }
  return entry->second;
}

/// Where the line's row is; what a line without pos_id leaves open is assumed and said.
std::optional<std::int32_t> JsonlReader::position_of(const Place& place) {
  if (place.position) return place.position;
  if (place.phase.phase == Phase::prefill && !place.phase.last) {
    issue(IssueKind::missing_field, "a prefill row without pos_id: left out");
    return std::nullopt;
  }
  issue(IssueKind::missing_field, "no pos_id: prefill_last and decode0 are assumed to be the same position");
  return std::max(place.phase.decode, 0);
}

void JsonlReader::same_key_again(bool same, std::int64_t first_line, const std::string& what) {
  ++segment_duplicates_;
  ++duplicates_;
  if (same) {
    issue(IssueKind::duplicate, fmt::format("{} again, as in line {}: kept once", what, first_line));
  } else {
    issue(IssueKind::conflict, fmt::format("{} again, with other values than line {}: the first is kept", what, first_line));
  }
}

void JsonlReader::take_trace(TraceLine line) {
  for (trace::Remark& remark : line.remarks) issue(remark.kind, std::move(remark.what));
  const auto position = position_of(line.place);
  if (!position) return;
  const std::size_t index = capture_of(line.place);
  Capture& capture = captures_[index];
  StageRecord& record = line.record;
  record.position = *position;
  if (line.place.phase.last && line.place.position) seen_[index].last = *position;
  if (record.phase == Phase::decode && !record.reread && line.place.position) {
    std::int32_t& first = seen_[index].first_decode;
    const std::int32_t decode0 = *position - std::max(line.place.phase.decode, 0);
    first = first < 0 ? decode0 : std::min(first, decode0);
  }
  const Key key{index, record.position, record.layer, record.stage, record.reread, record.reread ? record.step : 0};
  const auto [met, is_new] = records_.try_emplace(key, Met{capture.records.size(), number_});
  if (!is_new) {
    const bool same = trace_line(capture, capture.records[met->second.index]) == trace_line(capture, record);
    return same_key_again(same, met->second.line,
                          fmt::format("{} layer {} position {}", name(record.stage), record.layer, record.position));
  }
  capture.records.push_back(std::move(record));
}

void JsonlReader::take_logits(LogitsLine line) {
  const auto position = position_of(line.place);
  if (!position) return;
  const std::size_t index = capture_of(line.place);
  Capture& capture = captures_[index];
  line.record.position = *position;
  if (line.place.phase.last && line.place.position) seen_[index].last = *position;
  const auto [met, is_new] = logits_.try_emplace({index, *position, line.record.step}, Met{capture.logits.size(), number_});
  if (!is_new) {
    const bool same = logits_line(capture, capture.logits[met->second.index]) == logits_line(capture, line.record);
    return same_key_again(same, met->second.line, fmt::format("logits of position {}", *position));
  }
  capture.logits.push_back(line.record);
}

void JsonlReader::take_header(const json::Value& object) {
  const json::Value* schema = object.find("schema");
  if (schema == nullptr || schema->integer() != 1) return issue(IssueKind::unreadable, "a header without schema 1");
  auto description = parse_description(object);
  if (!description) return issue(IssueKind::unreadable, "header: " + description.error());
  if (!open_) {
    open_ = true;
    segment_start_ = lines_ - 1;
    segment_duplicates_ = 0;
  }
  Place place;
  place.prompt_id = description->prompt_id;
  place.exp = description->exp;
  place.arm = description->arm;
  const std::size_t index = capture_of(place);
  Capture& capture = captures_[index];
  if (header_line_[index] != 0) {
    const bool same = header_line(capture, {}) == header_line(*description, {});
    return same_key_again(same, header_line_[index],
                          fmt::format("header of arm {} of prompt {}", place.arm, quote(capture.prompt_id, 40)));
  }
  header_line_[index] = number_;
  description->records = std::move(capture.records);
  description->logits = std::move(capture.logits);
  description->prompt_id = capture.prompt_id;
  description->exp = capture.exp;
  capture = std::move(*description);
}

void JsonlReader::take_end(const json::Value& object) {
  const json::Value* lines = object.find("lines");
  const std::int64_t said = lines == nullptr ? -1 : lines->integer().value_or(-1);
  const std::int64_t found = lines_ - 1 - segment_start_;
  ++end_lines_;
  announced_.insert(said);
  if (!open_) {
    broken_.push_back({number_, fmt::format("an end line of {} lines without the header that began them", said)});
  } else if (said != found - segment_duplicates_) {
    broken_.push_back(
        {number_, fmt::format("{} lines since the header, the end line says {}", found - segment_duplicates_, said)});
  }
  open_ = false;
}

/// Every line that the end lines announce is there, if not where it was written. An end line may have been copied with the
/// rest.
bool JsonlReader::whole_but_reordered() const {
  if (torn_ || announced_.empty()) return false;
  const std::int64_t found = lines_ - end_lines_ - duplicates_;
  std::int64_t all = 0, each = 0;
  for (auto said = announced_.begin(); said != announced_.end(); ++said) {
    if (*said < 0 || *said > lines_) return false;
    all += *said;
    if (said == announced_.begin() || *said != *std::prev(said)) each += *said;
  }
  return found == all || found == each;
}

JsonlContents JsonlReader::finish() {
  if (open_ && !torn_) broken_.push_back({number_, "the file ends before the end line that its header announced"});
  bool reordered = false;
  if (!broken_.empty() && whole_but_reordered()) {
    reordered = true;
  } else {
    for (Broken& one : broken_) issues_.add(IssueKind::torn, one.line, std::move(one.what));
  }
  for (std::size_t i = 0; i < captures_.size(); ++i) {
    Capture& capture = captures_[i];
    if (header_line_[i] != 0) continue;
    if (capture.arm == 'a' && seen_[i].last >= 0) {
      capture.n_prompt = seen_[i].last + 1;
    } else if (seen_[i].first_decode >= 0) {
      capture.n_prompt = seen_[i].first_decode + (capture.exp == "E0" ? 0 : 1);
    }
    for (const StageRecord& record : capture.records)
      if (!once_per_token(record.stage)) capture.n_layers = std::max(capture.n_layers, record.layer + 1);
  }
  for (Capture& capture : captures_)
    for (StageRecord& record : capture.records)
      if (once_per_token(record.stage)) record.layer = capture.n_layers;
  std::vector<Issue> issues = issues_.take();
  if (reordered)  // of the file as a whole: before the many duplicates that there may be
    issues.insert(issues.begin(), {IssueKind::reordered, issues_.file(), 0, 1,
                                   "every line of the file is there, in another order than it was written"});
  const bool ours = end_lines_ > 0 || std::any_of(header_line_.begin(), header_line_.end(), [](auto line) { return line > 0; });
  for (Issue& one : issues) one.ours = ours;
  return {std::move(captures_), std::move(issues), lines_};
}

}  // namespace

JsonlContents parse_jsonl(std::string_view text, const std::string& file, const JsonlOptions& options) {
  JsonlReader reader(file, options);
  while (true) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) break;
    reader.line(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  if (!text.empty()) reader.last_line(text);
  return reader.finish();
}

JsonlContents read_jsonl(const std::filesystem::path& path, const JsonlOptions& options) {
  const auto stop = [&] { fail("{}: cannot be read: {}", path.string(), std::generic_category().message(errno)); };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) stop();
  const std::unique_ptr<const int, void (*)(const int*)> closer(&fd, [](const int* open) { ::close(*open); });
  JsonlReader reader(path.string(), options);
  std::string chunk(std::size_t{1} << 20, '\0');
  std::string carry;      // the beginning of a line that is not whole yet
  bool skipping = false;  // in a line that is too long
  while (true) {
    const ssize_t got = ::read(fd, chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) stop();
    if (got == 0) break;
    std::string_view rest(chunk.data(), static_cast<std::size_t>(got));
    for (std::size_t end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
      if (skipping) {
        reader.long_line();
        skipping = false;
      } else if (carry.empty()) {
        reader.line(rest.substr(0, end));
      } else {
        carry.append(rest.substr(0, end));
        reader.line(carry);
        carry.clear();
      }
      rest.remove_prefix(end + 1);
    }
    if (!skipping) carry.append(rest);
    if (carry.size() > options.max_line + 1) {  // one more for '\r'
      carry.clear();
      skipping = true;
    }
  }
  if (skipping) reader.long_line();
  if (!carry.empty()) reader.last_line(carry);
  return reader.finish();
}

}  // namespace greta
