// JUnit XML, as CI servers read it.
#pragma once

#include <string>
#include <string_view>

#include "isolate/gate.h"

namespace greta::report {

/// `text` for an XML 1.0 attribute or element: & < > " escaped; tab, newline and carriage return as character references, so
/// that an attribute keeps them; whatever XML 1.0 cannot hold (other control characters, U+FFFE, U+FFFF, bytes that are no
/// UTF-8) as U+FFFD.
std::string xml_text(std::string_view text);

/// One testsuite, a testcase for every check: <failure> for fail, <error> for cannot_tell, <skipped> for skipped. No times and
/// no host: equal outcomes give equal bytes.
std::string gate_junit(const isolate::GateOutcome& gate);

}  // namespace greta::report
