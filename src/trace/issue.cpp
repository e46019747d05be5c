#include "trace/issue.h"

#include <fmt/format.h>

#include <array>

namespace greta {
namespace {
constexpr std::array<std::string_view, 10> kNames{"unreadable",    "torn",   "too long",  "missing field", "unknown point",
                                                  "unknown event", "unused", "duplicate", "conflict",      "reordered"};
}

std::string_view name(IssueKind kind) { return kNames[static_cast<std::size_t>(kind)]; }

std::string Issue::text() const {
  std::string out = file;
  if (line > 0) out += fmt::format(":{}", line);
  out += fmt::format(": {}: {}", name(kind), what);
  if (count > 1) out += fmt::format(" ({} lines in all)", count);
  return out;
}

std::int64_t lines_lost(const std::vector<Issue>& issues) {
  std::int64_t sum = 0;
  for (const Issue& issue : issues)
    if (issue.loses_data()) sum += issue.count;
  return sum;
}

}  // namespace greta
