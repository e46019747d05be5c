// What a reader met and did not understand: reported, never skipped in silence.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace greta {

enum class IssueKind : std::uint8_t {
  unreadable,     // no JSON, or a field of the wrong kind
  torn,           // the file ends in the middle of a line, or before its end line
  too_long,       // a line above the limit
  missing_field,  // a record that cannot be placed, or was placed by assumption
  unknown_point,  // a stage name that is neither ours nor in the name map
  unknown_event,
  unused,     // a field that is there and says nothing to us (a hash or dtype of another kind)
  duplicate,  // a key twice with the same values
  conflict,   // a key twice with different values: the first is kept
  reordered,  // all lines of our file, in another order than they were written
};
std::string_view name(IssueKind kind);

struct Issue {
  IssueKind kind = IssueKind::unreadable;
  std::string file;
  std::int64_t line = 0;   // from 1; 0: the file as a whole
  std::int64_t count = 1;  // lines that it stands for (`line` is the first)
  std::string what;        // one line
  bool ours = false;       // of a file that greta wrote: it has a header or an end line
  /// Whether something that belongs to the comparison may be missing or wrong because of it.
  bool loses_data() const {
    return kind != IssueKind::unknown_point && kind != IssueKind::unknown_event && kind != IssueKind::unused &&
           kind != IssueKind::duplicate && kind != IssueKind::reordered;
  }
  /// "trace.jsonl:12: unreadable: column 3: expected ':'".
  std::string text() const;
};

/// Lines that the issues with lost data stand for.
std::int64_t lines_lost(const std::vector<Issue>& issues);

}  // namespace greta
