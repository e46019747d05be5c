// Causes that one row may not tell apart, and what may be said of a row that several candidates reproduce.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "audit/hypothesis.h"

namespace greta::audit {

/// Hypotheses that give the same numbers at some rows.
struct CauseClass {
  std::string_view name;
  std::span<const std::string_view> members;  // names of candidates
  std::string_view why;                       // one row cannot tell them apart
};

/// The one place where such causes are declared.
std::span<const CauseClass> cause_classes();

/// Whether `a` and `b` are one hypothesis or members of one class.
bool same_class(std::string_view a, std::string_view b);

/// What may be named as the cause.
struct NamedCause {
  std::string name;                                         // of a hypothesis, or of a class
  std::vector<std::pair<std::string, std::string>> params;  // the hypothesis's; of a class {"one_of", "A x=1 or B"}

  bool operator==(const NamedCause&) const = default;
};

/// `rows` are the answers of explain() for rows of one bug, one at least. The hypothesis that reproduces every one of them, if
/// it is the only one; the class, if several do that are members of one; nothing otherwise. Parameters are those of the first
/// row.
std::optional<NamedCause> named_cause(std::span<const std::vector<Explained>> rows);

}  // namespace greta::audit
