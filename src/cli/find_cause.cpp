#include "cli/find_cause.h"

#include <fmt/format.h>

#include <algorithm>

#include "audit/cause_classes.h"
#include "audit/examine.h"
#include "audit/hypothesis.h"
#include "audit/local_error.h"
#include "cli/file_contract.h"
#include "cli/kept_rows.h"

namespace greta::cli {
namespace {

constexpr std::size_t kMostPrompts = 3;
constexpr double kNear = 0.5;  // of the error left: a candidate that explains less is not worth ranking

/// What explains one guilty row, nearest first; nothing where the row is within its bound or cannot be taken apart.
std::vector<audit::Explained> explain_at(AlignedRun& run, char arm, const Model& model, const isolate::StageRow& at) {
  const audit::ModelContract contract = contract_of(model);
  const FileTensors tensors(*model.file);
  const int layer = once_per_token(at.stage) ? contract.n_layers : at.layer;
  std::vector<std::int32_t> layers{std::min(layer, contract.n_layers - 1)};
  layers.push_back((layers.front() + 1) % contract.n_layers);  // a wrong index or stride may lead there
  const WholeRun whole = run.run_whole(arm, layers);
  const KeptRows rows(whole.capture, whole.tensors);
  const audit::Contract both{contract, tensors};
  const audit::Place place{at.stage, layer};
  const auto op = audit::op_of(both, rows, place);
  const auto actual = rows.row(at.stage, layer, at.position);
  if (!op || actual.empty()) return {};
  const std::vector<std::int32_t>& tokens = whole.capture.tokens;
  const auto right = audit::right_case(both, rows, *op, place, at.position, tokens[static_cast<std::size_t>(at.position)]);
  if (!right.row) return {};
  const audit::Arithmetic arithmetic = audit::arithmetic_of(rows.route(at.stage, layer), *right.row);
  const audit::Estimate due = audit::estimate(*right.row, arithmetic);
  if (!audit::judge(due, actual).guilty()) return {};
  return audit::explain({both, rows, tokens, *right.row, actual, due}, arithmetic);
}

std::vector<std::string> texts(const std::vector<audit::Explained>& all) {
  std::vector<std::string> out;
  for (const audit::Explained& one : all)
    if (one.reproduces || one.distance < kNear)
      out.push_back(
          fmt::format("{} ({})", one.text(),
                      one.reproduces ? std::string("reproduces it") : fmt::format("leaves {:.2g} of the error", one.distance)));
  return out;
}

}  // namespace

isolate::Cause find_cause(const isolate::Outcome& outcome, const std::vector<std::unique_ptr<AlignedRun>>& runs,
                          const std::vector<std::string>& ids, const RunContext& context) {
  isolate::Cause cause;
  cause.state = isolate::CauseState::unexplained;
  std::vector<std::vector<audit::Explained>> searched;  // a row of each prompt
  for (const isolate::PromptOutcome& prompt : outcome.prompts) {
    if (prompt.judgement.verdict() != isolate::Verdict::diverged || !prompt.first || prompt.first->reread) continue;
    if (searched.size() == kMostPrompts) break;
    const auto run = std::find(ids.begin(), ids.end(), prompt.id) - ids.begin();
    const bool in_a = prompt.local && prompt.local->b.guilty.empty() && !prompt.local->a.guilty.empty();
    searched.push_back(explain_at(*runs[static_cast<std::size_t>(run)], in_a ? 'a' : 'b',
                                  in_a ? context.model_a : context.model_b,
                                  {prompt.first->stage, prompt.first->layer, prompt.first->position}));
  }
  if (searched.empty()) return cause;
  const std::vector<audit::Explained>& first = searched.front();
  cause.candidates = texts(first);
  if (const auto named = audit::named_cause(searched)) {
    cause.name = named->name;
    cause.params = named->params;
    cause.state = isolate::CauseState::named;
  } else if (!first.empty() && (first[0].reproduces || first[0].distance < kNear)) {
    cause.name = first[0].hypothesis;
    cause.params = first[0].params;
    cause.state = isolate::CauseState::ranked;
  }
  return cause;
}

}  // namespace greta::cli
