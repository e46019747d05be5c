#include "cli/scene.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

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

std::vector<audit::Explained> explain(const SceneRows& scene, const Gguf& file, std::string& missing) {
  const KeptRows rows(scene.rows.capture, scene.rows.tensors);
  const audit::ModelContract contract = contract_of(file);
  const FileTensors tensors(file);
  const audit::Contract both{contract, tensors};
  const isolate::StageRow& at = scene.at.row;
  const audit::Place place{at.stage, at.layer};
  const auto op = audit::op_of(both, rows, place);
  const auto actual = scene.reread ? rows.reread(at.stage, at.layer, at.position) : rows.row(at.stage, at.layer, at.position);
  if (!op || actual.empty() || static_cast<std::size_t>(at.position) >= scene.tokens.size()) {
    missing = fmt::format("{} layer {} position {} was not kept", name(at.stage), at.layer, at.position);
    return {};
  }
  const auto right =
      audit::right_case(both, rows, *op, place, at.position, scene.tokens[static_cast<std::size_t>(at.position)]);
  if (!right.row) {
    missing = right.missing;
    return {};
  }
  const audit::Arithmetic arithmetic = audit::arithmetic_of(rows.route(at.stage, at.layer), *right.row);
  const audit::Estimate due = audit::estimate(*right.row, arithmetic);
  if (due.value.size() != actual.size()) {
    missing = fmt::format("{} layer {} position {} has {} elements, wanted {}", name(at.stage), at.layer, at.position,
                          actual.size(), due.value.size());
    return {};
  }
  if (!audit::judge(due, actual).guilty()) return {};
  return audit::explain({both, rows, scene.tokens, *right.row, actual, due}, arithmetic);
}

}  // namespace

isolate::Cause search_scene(const SceneRows& scene, const Gguf& file, std::string& missing) {
  isolate::Cause cause = cause_of(explain(scene, file, missing));
  cause.at = scene.at;
  return cause;
}

isolate::Cause combined(const std::vector<SearchedScene>& scenes) {
  isolate::Cause out;
  out.state = isolate::CauseState::unexplained;
  isolate::Substitution all;
  bool first = true, agree = true;
  for (const SearchedScene& one : scenes) {
    if (one.scene.other) {
      out.others.push_back(one.cause);
      continue;
    }
    const isolate::Substitution& here = one.scene.substitution;
    all.rows += here.rows;
    all.guilty += here.guilty;
    all.left += here.left;
    agree = agree && here.agrees();
    if (std::exchange(first, false)) {
      out = one.cause;
    } else if (one.cause.state != isolate::CauseState::named || one.cause.name != out.name) {
      if (out.state == isolate::CauseState::named) out.state = isolate::CauseState::ranked;
    }
  }
  out.substitution = all;
  if (out.state != isolate::CauseState::named) return out;
  out.confirmed = agree;
  if (!agree) out.state = isolate::CauseState::withdrawn;
  return out;
}

}  // namespace greta::cli
