// Entry point: parses the command line, runs one verb, turns errors into one line and an exit code.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "cli/environment.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "core/nearest.h"
#include "core/quote.h"

namespace {

/// Not fmt::print: it throws where stderr cannot be written, and here nothing is left to catch that.
void complain(const std::string& message) { std::fputs(("greta: error: " + message + "\n").c_str(), stderr); }

/// An unknown verb by its name, with the nearest one; CLI11 says only that a verb is missing.
void check_verb(const CLI::App& app, const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments.front().starts_with("-")) return;
  std::vector<std::string> names;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) names.push_back(verb->get_name());
  const std::vector<std::string_view> known(names.begin(), names.end());
  if (std::find(known.begin(), known.end(), arguments.front()) == known.end())
    greta::fail("command {} is not known{}", greta::quote(arguments.front()), greta::suggestion(arguments.front(), known));
}

/// What was printed must have arrived: a full disk behind stdout is a failure.
int after_flush(int exit_code) {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) greta::fail("stdout: {}", std::strerror(errno));
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace greta;
  CLI::App app{"greta: an LLM inference engine that finds its own first wrong number", "greta"};
  app.set_version_flag("--version", GRETA_VERSION);
  app.require_subcommand(1);
  cli::Program program;
  program.arguments.assign(argv + 1, argv + argc);
  std::signal(SIGINT, [](int) { _exit(static_cast<int>(ExitCode::interrupted)); });
  cli::add_run(app, program);
  cli::add_isolate(app, program);
  cli::add_analyze(app, program);
  cli::add_compare(app, program);
  cli::add_gate(app, program);
  cli::add_audit(app, program);
  cli::add_faults(app, program);
  cli::add_tokenize(app, program);
  cli::add_models(app, program);
  cli::add_routes(app, program);
  cli::add_doctor(app, program);
  cli::add_remote(app, program);
  cli::add_scorecard(app, program);
  cli::add_reproduce(app, program);
  try {
    check_verb(app, program.arguments);
    app.parse(argc, argv);
    for (const std::string& warning : cli::unknown_variables(environ)) fmt::print(stderr, "greta: warning: {}\n", warning);
    return after_flush(program.action ? program.action() : static_cast<int>(ExitCode::misuse));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    complain(fmt::format("{} (see greta --help)", error.what()));
  } catch (const Error& error) {
    complain(error.what());
  } catch (const std::bad_alloc&) {
    complain("out of memory; use a smaller model, --chunk or --span");
  } catch (const std::exception& error) {
    // fmt says no more of a stream that does not take what is printed.
    const std::string_view what = error.what();
    complain(what.starts_with("cannot write to file") ? fmt::format("stdout: {}; is the disk full?", what) : std::string(what));
  }
  return static_cast<int>(ExitCode::misuse);
}
