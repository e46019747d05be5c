#include "cli/scene.h"

#include <fmt/format.h>

#include <algorithm>

#include "audit/local_error.h"
#include "cli/file_contract.h"

namespace greta::cli {
namespace {

constexpr double kNear = 0.5;  // of the error left: a candidate that explains less is not worth ranking

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

std::vector<audit::Explained> explain_scene(const KeptRows& rows, const std::vector<std::int32_t>& tokens,
                                            const isolate::StageRow& row, bool reread, const Model& model,
                                            std::string& missing) {
  const audit::ModelContract contract = contract_of(model);
  const FileTensors tensors(*model.file);
  const audit::Contract both{contract, tensors};
  const audit::Place place{row.stage, row.layer};
  const auto op = audit::op_of(both, rows, place);
  const auto actual = reread ? rows.reread(row.stage, row.layer, row.position) : rows.row(row.stage, row.layer, row.position);
  if (!op || actual.empty()) {
    missing = fmt::format("{} layer {} position {} was not kept", name(row.stage), row.layer, row.position);
    return {};
  }
  auto right = audit::right_case(both, rows, *op, place, row.position, tokens[static_cast<std::size_t>(row.position)]);
  if (!right.row) {
    missing = right.missing;
    return {};
  }
  const audit::Arithmetic arithmetic = audit::arithmetic_of(rows.route(row.stage, row.layer), *right.row);
  const audit::Estimate due = audit::estimate(*right.row, arithmetic);
  if (!audit::judge(due, actual).guilty()) return {};
  return audit::explain({both, rows, tokens, *right.row, actual, due}, arithmetic);
}

isolate::Cause cause_of(const std::vector<audit::Explained>& found) {
  isolate::Cause cause;
  cause.state = isolate::CauseState::unexplained;
  cause.candidates = texts(found);
  if (found.empty() || (!found[0].reproduces && found[0].distance >= kNear)) return cause;
  cause.name = found[0].hypothesis;
  cause.params = found[0].params;
  const bool alone = found[0].reproduces && std::none_of(found.begin(), found.end(), [&](const audit::Explained& one) {
                       return one.reproduces && one.hypothesis != found[0].hypothesis;
                     });
  cause.state = alone ? isolate::CauseState::named : isolate::CauseState::ranked;
  return cause;
}

}  // namespace greta::cli
