// `greta audit precision`: at which precision every stage runs, by its error against float64.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "audit/examine.h"
#include "audit/narrow_sum.h"
#include "cli/aligned_run.h"
#include "cli/audit_verbs.h"
#include "cli/file_contract.h"
#include "cli/kept_rows.h"
#include "cli/self_audit.h"

namespace greta::cli {
namespace {

constexpr std::array kTypes{DType::f16, DType::bf16, DType::f32, DType::f64};
/// Terms of one matrix product that are simulated, outputs spread evenly.
constexpr std::int64_t kMostTerms = std::int64_t{1} << 18;
/// Tokens of a built-in prompt that are run.
constexpr int kMostTokens = 32;

/// The largest error relative to the row's RMS, over elements that are numbers.
double relative_error(std::span<const double> values, std::span<const double> due) {
  double worst = 0, squares = 0;
  std::size_t counted = 0;
  for (std::size_t i = 0; i < due.size(); ++i) {
    if (!std::isfinite(due[i])) continue;
    worst = std::isfinite(values[i]) ? std::max(worst, std::fabs(values[i] - due[i])) : std::numeric_limits<double>::infinity();
    squares += due[i] * due[i];
    ++counted;
    if (std::isinf(worst)) break;
  }
  return squares > 0 ? worst / std::sqrt(squares / static_cast<double>(counted)) : worst;
}

/// The largest errors of the sampled rows: as the arm computed them, and as sums of each type give them, by terms in order and
/// in the route's order.
struct Sampled {
  double own = 0;
  std::array<double, kTypes.size()> in_order{}, declared{};

  /// The type whose simulated error is nearest to the arm's own by factor; "exact" where there is no error.
  std::string runs_at() const {
    if (own == 0) return "exact";
    std::string_view nearest = "-";
    double best = std::numeric_limits<double>::infinity();
    for (std::size_t t = 0; t < kTypes.size(); ++t)
      for (const double simulated : {in_order[t], declared[t]}) {
        const bool both_infinite = std::isinf(own) && std::isinf(simulated);
        const double distance = both_infinite ? 0 : std::fabs(std::log(own / simulated));
        if (distance < best) {
          best = distance;
          nearest = name(kTypes[t]);
        }
      }
    return std::string(nearest);
  }
};

/// All rows of one stage.
struct StageErrors {
  std::string route;
  std::vector<double> ratios;  // one a row
  double worst = 0;
  std::string worst_at;
  Sampled sampled;
  std::string finding;
};

class PrecisionAudit {
 public:
  explicit PrecisionAudit(const SelfAudit& audit)
      : audit_(audit), contract_(contract_of(*audit.model)), tensors_(*audit.model->file) {}

  void run(const AuditPrompt& prompt, std::vector<std::int64_t>& effects) {
    const auto n = static_cast<int>(prompt.tokens.size());
    std::vector<int> positions(prompt.tokens.size());
    for (int p = 0; p < n; ++p) positions[static_cast<std::size_t>(p)] = p;
    const int n_layers = audit_.config().n_layers;
    for (const std::vector<std::int32_t>& group : layer_groups(audit_.config(), n)) {
      RecorderOptions recorded = hashes_only();
      recorded.full = true;
      recorded.layers = group;
      if (group.front() > 0) recorded.layers.push_back(group.front() - 1);
      const RecordedRun run = recorded_run(*audit_.model, audit_.suspect, prompt, 1, std::move(recorded), weights_);
      add_counts(effects, run.effects);
      const KeptRows rows(run.capture, run.tensors);
      std::vector<int> layers(group.begin(), group.end());
      if (group.back() == n_layers - 1) layers.push_back(n_layers);
      const auto on_row = [&](const audit::RowCase& row, const audit::Estimate& due, std::span<const double> actual,
                              const audit::LocalError& error) {
        add(prompt.id, rows, row, due, actual, error, row.position == n - 1);
      };
      for (const int layer : layers) {
        const audit::Examination found =
            audit::examine({contract_, tensors_}, {rows, prompt.tokens}, places_of(layer, n_layers), positions, on_row);
        unjudged_ += found.unjudged;
        if (first_unjudged_.empty()) first_unjudged_ = found.first_unjudged;
      }
    }
  }

  void print(AuditTable& table) {
    for (auto& [key, errors] : stages_) {
      const auto [stage, op] = key;
      std::vector<double>& ratios = errors.ratios;
      const auto middle = ratios.begin() + static_cast<std::ptrdiff_t>(ratios.size() / 2);
      std::nth_element(ratios.begin(), middle, ratios.end());
      std::vector<nlohmann::ordered_json> cells{std::string(name(stage)),
                                                std::string(name(op)),
                                                errors.route.empty() ? "-" : errors.route,
                                                ratios.size(),
                                                number(errors.worst),
                                                number(*middle),
                                                errors.worst_at};
      const Sampled& sampled = errors.sampled;
      const bool sums = audit::has_sum(op);
      cells.push_back(sums ? number(sampled.own) : nlohmann::ordered_json());
      for (const double error : sampled.in_order) cells.push_back(sums ? number(error) : nlohmann::ordered_json());
      cells.push_back(sums ? nlohmann::ordered_json(sampled.runs_at()) : nlohmann::ordered_json());
      table.add(std::move(cells), errors.finding);
    }
    if (unjudged_ > 0) table.cannot_tell(fmt::format("{} rows could not be judged; the first: {}", unjudged_, first_unjudged_));
    if (stages_.empty()) table.cannot_tell("no rows were recorded");
  }

 private:
  void add(const std::string& prompt, const KeptRows& rows, const audit::RowCase& row, const audit::Estimate& due,
           std::span<const double> actual, const audit::LocalError& error, bool sample) {
    StageErrors& errors = stages_[{row.place.stage, row.op.op}];
    errors.route = rows.route(row.place.stage, row.place.layer);
    const double ratio = audit::largest_ratio(error);
    errors.ratios.push_back(ratio);
    const std::string at = fmt::format("{} {}:{}", prompt, row.place.layer, row.position);
    if (ratio > errors.worst || errors.worst_at.empty()) {
      errors.worst = ratio;
      errors.worst_at = at;
    }
    if (error.guilty() && errors.finding.empty())
      errors.finding =
          fmt::format("{}: {}", isolate::place(row.place.stage, row.place.layer, row.position), audit::described(error));
    if (sample && audit::has_sum(row.op.op)) simulate(row, due, actual, errors);
  }

  static void simulate(const audit::RowCase& row, const audit::Estimate& due, std::span<const double> actual,
                       StageErrors& errors) {
    std::vector<std::int64_t> outputs;
    std::vector<double> wanted = due.value, own(actual.begin(), actual.end());
    if (row.op.op == audit::OpClass::matmul) {
      const std::int64_t n = std::clamp<std::int64_t>(kMostTerms / row.matrix.n_in, 1, row.matrix.n_out);
      for (std::int64_t i = 0; i < n; ++i) outputs.push_back(i * row.matrix.n_out / n);
      wanted.clear();
      own.clear();
      for (const std::int64_t o : outputs) {
        wanted.push_back(due.value[static_cast<std::size_t>(o)]);
        own.push_back(actual[static_cast<std::size_t>(o)]);
      }
    }
    const audit::Arithmetic arithmetic = audit::arithmetic_of(errors.route, row);
    const auto error_of = [&](audit::SumOrder order) {
      std::vector<double> values = audit::narrow_row(row, order, outputs);
      for (double& value : values) value = audit::rounded(value, row.stored);
      return relative_error(values, wanted);
    };
    const auto lanes = static_cast<std::size_t>(row.op.op == audit::OpClass::pv ? 1 : arithmetic.lanes);
    const auto exact = static_cast<std::size_t>(row.quantised ? audit::integer_blocks(row.matrix.dtype).sub : 1);
    Sampled& sampled = errors.sampled;
    sampled.own = std::max(sampled.own, relative_error(own, wanted));
    for (std::size_t t = 0; t < kTypes.size(); ++t) {
      sampled.in_order[t] = std::max(sampled.in_order[t], error_of({kTypes[t], false, 1, 1}));
      sampled.declared[t] = std::max(sampled.declared[t], error_of({kTypes[t], arithmetic.fused, lanes, exact}));
    }
  }

  const SelfAudit& audit_;
  audit::ModelContract contract_;
  FileTensors tensors_;
  WeightHashes weights_;
  std::map<std::pair<Stage, audit::OpClass>, StageErrors> stages_;  // x_in is an embedding first, then a hand-over
  std::int64_t unjudged_ = 0;
  std::string first_unjudged_;
};

int run(const SelfAuditFlags& flags) {
  const SelfAudit audit(flags);
  check_faults(audit.suspect, *audit.model);
  AuditTable table("precision",
                   {"stage", "op", "route", "rows", "worst", "median", "at", "error", "f16", "bf16", "f32", "f64", "runs_at"});
  PrecisionAudit precision(audit);
  std::vector<std::int64_t> effects(audit.suspect.faults.size());
  for (const AuditPrompt& prompt : audit_prompts(flags, *audit.model, table, kMostTokens)) precision.run(prompt, effects);
  refuse_idle_faults(audit.suspect, effects, "");
  precision.print(table);
  table.note("worst, median: error / rounding bound of the route, by row; at: prompt layer:position of the worst");
  table.note("error: the largest, over the row's RMS, of each prompt's last row");
  table.note("f16 to f64: the same with sums of that type, terms in order, stored as the stage is");
  table.note("runs_at: the type whose sums, in order or in the route's order, err most alike");
  return table.finish(flags.json);
}

}  // namespace

void add_audit_precision(CLI::App& audit, Program& program) {
  auto flags = std::make_shared<SelfAuditFlags>();
  auto* verb = audit.add_subcommand("precision", "Every stage's error against float64, and the precision that it runs at");
  flags->add_to(*verb, true);
  verb->callback([flags, &program] { program.action = [flags] { return run(*flags); }; });
}

}  // namespace greta::cli
