// `greta gate`: a comparison held to a stored baseline and to thresholds, for continuous integration.
#include "report/gate.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>

#include "cli/gate_run.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "report/gate_baseline.h"
#include "report/junit.h"
#include "trace/file_io.h"

namespace greta::cli {
namespace {

struct Options {
  std::string config, junit, markdown, out;
  bool write_baseline = false, json = false;
};

int run(const Options& options) {
  const isolate::GateConfig config = isolate::load_gate(options.config);
  if (options.write_baseline && config.baseline.empty())
    fail("--write-baseline: {} names no baseline; add baseline = \"FILE.json\" to its [gate]", options.config);
  if (!options.out.empty() && !config.run.empty())
    fail("--out {}: {} names a run that has been computed, so no directory is written; leave it out", options.out,
         options.config);
  // Before anything is computed: what cannot be held to anything is refused at once.
  std::optional<isolate::Baseline> baseline;
  if (!config.baseline.empty() && !options.write_baseline) baseline = report::load_baseline(config.baseline);

  isolate::GateRun comparison = config.run.empty() ? compute_comparison(config, options.out) : recorded_comparison(config.run);
  const isolate::GateOutcome gate = isolate::judge_gate(config, std::move(comparison), std::move(baseline));
  if (!options.junit.empty()) atomic_write_file(options.junit, report::gate_junit(gate));
  if (!options.markdown.empty()) atomic_write_file(options.markdown, report::gate_markdown(gate));
  fmt::print(stderr, "{}", report::gate_text(gate));
  if (options.json) fmt::print("{}", report::gate_json(gate));
  if (options.write_baseline) {
    if (gate.exit_code() == 0) {
      atomic_write_file(config.baseline, report::baseline_json(gate));
      fmt::print(stderr, "baseline written: {}\n", config.baseline.string());
    } else {
      fmt::print(stderr, "no baseline written: only what passes can be held to later\n");
    }
  }
  return gate.exit_code();
}

}  // namespace

void add_gate(CLI::App& app, Program& program) {
  auto o = std::make_shared<Options>();
  auto* verb =
      app.add_subcommand("gate", "Hold a comparison to thresholds and a stored baseline: exit 0 pass, 1 fail, 2 cannot tell");
  verb->add_option("CONFIG", o->config, "Gate (TOML): what is compared, the baseline, the thresholds")->required();
  verb->add_flag("--write-baseline", o->write_baseline, "Store this run's figures as the config's baseline, if it passes");
  verb->add_option("--junit", o->junit, "File for a JUnit XML report");
  verb->add_option("--markdown", o->markdown, "File for a Markdown summary");
  verb->add_option("--out", o->out, "Also write the run directory here (default: none is written)");
  verb->add_flag("--json", o->json, "Print the result as JSON on stdout");
  verb->callback([o, &program] { program.action = [o] { return run(*o); }; });
}

}  // namespace greta::cli
