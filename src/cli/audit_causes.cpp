// `greta audit causes`: what the search for a cause knows: hypotheses, and classes of those that a row may not tell apart.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>

#include "audit/bucket.h"
#include "audit/cause_classes.h"
#include "audit/hypothesis.h"
#include "cli/audit_verbs.h"

namespace greta::cli {
namespace {

void print_text() {
  for (const audit::Hypothesis& one : audit::all_hypotheses())
    fmt::print("{:<22} {:<18} {}\n", one.name, audit::name(audit::bucket_of(one.name)), one.doc);
  fmt::print("\nclasses: the class is named where one row does not tell its members apart\n");
  for (const audit::CauseClass& one : audit::cause_classes())
    fmt::print("{:<22} {}: {}\n", one.name, fmt::join(one.members, ", "), one.why);
}

void print_markdown() {
  fmt::print("| hypothesis | bucket | what went wrong if it is true |\n|---|---|---|\n");
  for (const audit::Hypothesis& one : audit::all_hypotheses())
    fmt::print("| `{}` | {} | {} |\n", one.name, audit::name(audit::bucket_of(one.name)), one.doc);
  fmt::print("\n| class | members | why one row cannot tell them apart |\n|---|---|---|\n");
  for (const audit::CauseClass& one : audit::cause_classes())
    fmt::print("| `{}` | `{}` | {} |\n", one.name, fmt::join(one.members, "`, `"), one.why);
}

}  // namespace

void add_audit_causes(CLI::App& audit, Program& program) {
  auto markdown = std::make_shared<bool>(false);
  auto* verb = audit.add_subcommand("causes", "List the causes that the search knows, their buckets and classes");
  verb->add_flag("--markdown", *markdown, "As the tables of docs/root-cause.md");
  verb->callback([markdown, &program] {
    program.action = [markdown] {
      *markdown ? print_markdown() : print_text();
      return 0;
    };
  });
}

}  // namespace greta::cli
