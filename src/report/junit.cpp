#include "report/junit.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/utf8.h"
#include "report/gate.h"

namespace greta::report {
namespace {

using isolate::Check;
using isolate::CheckResult;

std::string_view replacement(std::string_view character) {
  switch (character[0]) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '"':
      return "&quot;";
    case '\t':
      return "&#9;";
    case '\n':
      return "&#10;";
    case '\r':
      return "&#13;";
    default:
      break;
  }
  if (static_cast<unsigned char>(character[0]) < 0x20) return kReplacementCharacter;
  if (character == "\xEF\xBF\xBE" || character == "\xEF\xBF\xBF") return kReplacementCharacter;  // U+FFFE, U+FFFF
  return character;
}

std::string testcase(const isolate::GateOutcome& gate, const Check& check) {
  const std::string title = check.prompt.empty() ? check.what : check.prompt + ": " + check.what;
  std::string out =
      fmt::format("    <testcase classname=\"{}\" name=\"{}\"", xml_text("greta.gate." + gate.id), xml_text(title));
  if (check.result == CheckResult::pass) return out + "/>\n";
  const char* tag = check.result == CheckResult::fail ? "failure" : check.result == CheckResult::skipped ? "skipped" : "error";
  return out + fmt::format(">\n      <{} message=\"{}\"/>\n    </testcase>\n", tag, xml_text(gate_line(check)));
}

}  // namespace

std::string xml_text(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    out += step.kind == Utf8Step::Kind::valid ? replacement(text.substr(0, step.bytes)) : kReplacementCharacter;
    text.remove_prefix(std::min(step.bytes, text.size()));
  }
  return out;
}

std::string gate_junit(const isolate::GateOutcome& gate) {
  const auto count = [&](CheckResult result) {
    return std::count_if(gate.checks.begin(), gate.checks.end(), [&](const Check& check) { return check.result == result; });
  };
  const std::string counts =
      fmt::format("tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\"", gate.checks.size(), count(CheckResult::fail),
                  count(CheckResult::cannot_tell), count(CheckResult::skipped));
  std::string out = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"greta gate\" {}>\n  <testsuite name=\"{}\" {}>\n", counts,
      xml_text(gate.id), counts);
  for (const Check& check : gate.checks) out += testcase(gate, check);
  return out + "  </testsuite>\n</testsuites>\n";
}

}  // namespace greta::report
