// Entry point: parses the command line, runs one verb, turns errors into one line and an exit code.
#include <fmt/format.h>

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

#include "cli/verbs.h"
#include "core/error.h"

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
  cli::add_faults(app, program);
  cli::add_tokenize(app, program);
  cli::add_models(app, program);
  cli::add_routes(app, program);
  cli::add_doctor(app, program);
  cli::add_remote(app, program);
  try {
    app.parse(argc, argv);
    return program.action ? program.action() : static_cast<int>(ExitCode::misuse);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    fmt::print(stderr, "greta: error: {} (see greta --help)\n", error.what());
  } catch (const Error& error) {
    fmt::print(stderr, "greta: error: {}\n", error.what());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "greta: error: out of memory; use a smaller model, --chunk or --span\n");
  } catch (const std::exception& error) {
    fmt::print(stderr, "greta: error: {}\n", error.what());
  }
  return static_cast<int>(ExitCode::misuse);
}
