// The verbs of greta, one file each. A verb registers its options and a callback that returns the exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace greta::cli {

/// The chosen verb sets `action`; `main` calls it after parsing. It returns the process's exit code or throws Error (exit 2).
struct Program {
  std::function<int()> action;
  std::vector<std::string> arguments;  // the command line as given, without the program's name
};

void add_run(CLI::App& app, Program& program);
void add_tokenize(CLI::App& app, Program& program);
void add_models(CLI::App& app, Program& program);
void add_routes(CLI::App& app, Program& program);
void add_doctor(CLI::App& app, Program& program);
void add_faults(CLI::App& app, Program& program);
void add_isolate(CLI::App& app, Program& program);
void add_analyze(CLI::App& app, Program& program);
void add_compare(CLI::App& app, Program& program);
void add_gate(CLI::App& app, Program& program);
void add_audit(CLI::App& app, Program& program);
void add_remote(CLI::App& app, Program& program);
void add_scorecard(CLI::App& app, Program& program);
void add_reproduce(CLI::App& app, Program& program);

}  // namespace greta::cli
