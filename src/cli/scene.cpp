#include "cli/scene.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "audit/cause_classes.h"

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

/// `rows`: of one bug, of which the first is shown.
isolate::Cause cause_of_rows(const std::vector<std::vector<audit::Explained>>& rows) {
  const std::vector<audit::Explained>& first = rows.front();
  isolate::Cause cause;
  cause.state = isolate::CauseState::unexplained;
  cause.candidates = texts(first);
  if (const auto named = audit::named_cause(rows)) {
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

std::size_t bytes_of(const FullTensors& tensors) {
  std::size_t sum = 0;
  for (const auto& [place, tensor] : tensors)
    for (const auto& [position, row] : tensor.rows) sum += row.size();
  return sum;
}

}  // namespace

void trim(SceneRows& scene) {
  constexpr std::size_t kMostBytes = std::size_t{32} << 20;
  const isolate::StageRow& at = scene.at.row;
  FullTensors& tensors = scene.rows.tensors;
  if (bytes_of(tensors) <= kMostBytes) return;
  for (auto& [place, tensor] : tensors) {
    if (place.second != Stage::attn_scores && place.second != Stage::attn_probs) continue;
    std::erase_if(tensor.rows, [&](const auto& row) { return place.first != at.layer || row.first != at.position; });
  }
  if (bytes_of(tensors) <= kMostBytes) return;
  std::erase_if(tensors, [&](const auto& entry) {
    const auto [layer, stage] = entry.first;
    const bool wanted = stage == Stage::k_cache || stage == Stage::v_cache || stage == Stage::x_out || once_per_token(stage);
    return layer != at.layer && !wanted;
  });
}

OpenScene::OpenScene(const KeptRows& rows, const std::vector<std::int32_t>& tokens, const isolate::StageRow& at, bool reread,
                     const Gguf& file)
    : rows_(rows), tokens_(tokens), contract_(contract_of(file)), tensors_(file) {
  const audit::Place place{at.stage, at.layer};
  op_ = audit::op_of(both_, rows_, place);
  actual_ = reread ? rows_.reread(at.stage, at.layer, at.position) : rows_.row(at.stage, at.layer, at.position);
  if (!op_ || actual_.empty() || static_cast<std::size_t>(at.position) >= tokens.size()) {
    missing_ = fmt::format("{} layer {} position {} was not kept", name(at.stage), at.layer, at.position);
    return;
  }
  case_ = audit::right_case(both_, rows_, *op_, place, at.position, tokens[static_cast<std::size_t>(at.position)]);
  missing_ = case_.missing;
  if (!case_.row) return;
  arithmetic_ = audit::arithmetic_of(rows_.route(at.stage, at.layer), *case_.row);
  due_ = audit::estimate(*case_.row, arithmetic_);
  if (due_.value.size() != actual_.size()) {
    missing_ = fmt::format("{} layer {} position {} has {} elements, wanted {}", name(at.stage), at.layer, at.position,
                           actual_.size(), due_.value.size());
    return;
  }
  error_ = audit::judge(due_, actual_);
}

std::vector<audit::Explained> OpenScene::explain() const {
  return error_.guilty() ? audit::explain(scene(), arithmetic_) : std::vector<audit::Explained>();
}

bool OpenScene::is_explained_by(std::string_view hypothesis) const {
  return missing_.empty() && error_.guilty() && audit::reproduces(scene(), arithmetic_, hypothesis);
}

std::vector<audit::Explained> search_scene(const SceneRows& scene, const Gguf& file, std::string& missing) {
  const KeptRows rows(scene.rows.capture, scene.rows.tensors);
  const OpenScene open(rows, scene.tokens, scene.at.row, scene.reread, file);
  missing = open.missing();
  return missing.empty() ? open.explain() : std::vector<audit::Explained>();
}

isolate::Cause cause_of(const SearchedScene& searched) {
  isolate::Cause cause = cause_of_rows({searched.found});
  cause.at = searched.scene.at;
  if (!searched.missing.empty()) cause.candidates.push_back("not searched: " + searched.missing);
  return cause;
}

isolate::Cause combined(const std::vector<SearchedScene>& scenes) {
  std::vector<std::vector<audit::Explained>> headlines;
  std::vector<isolate::Cause> others;
  isolate::Cause first;
  isolate::Substitution all;
  bool agree = true;
  for (const SearchedScene& one : scenes) {
    if (one.scene.other) {
      others.push_back(cause_of(one));
      continue;
    }
    const isolate::Substitution& here = one.scene.substitution;
    all.rows += here.rows;
    all.guilty += here.guilty;
    all.left += here.left;
    agree = agree && here.agrees();
    if (headlines.empty()) first = cause_of(one);
    headlines.push_back(one.found);
  }
  if (headlines.empty()) {
    first.state = isolate::CauseState::unexplained;
    return first;
  }
  isolate::Cause out = cause_of_rows(headlines);
  out.candidates = first.candidates;
  out.at = first.at;
  out.others = std::move(others);
  out.substitution = all;
  const auto confirm = [agree](isolate::Cause& cause) {
    if (cause.state != isolate::CauseState::named) return;
    cause.confirmed = agree;
    if (!agree) cause.state = isolate::CauseState::withdrawn;
  };
  confirm(out);
  for (isolate::Cause& other : out.others) confirm(other);
  return out;
}

}  // namespace greta::cli
