#include "cli/find_cause.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "cli/arm_judge.h"

namespace greta::cli {
namespace {

constexpr std::size_t kMostOthers = 4;
/// The layers whose rows a search looks through: a wrong index or stride may lead to a neighbour, round the end.
std::vector<std::int32_t> layers_about(int layer, int n_layers) {
  const int own = std::min(layer, n_layers - 1);
  std::vector<std::int32_t> layers{own};
  for (const int other : {(own + 1) % n_layers, (own + n_layers - 1) % n_layers})
    if (std::find(layers.begin(), layers.end(), other) == layers.end()) layers.push_back(other);
  return layers;
}

/// What run_whole() would have given for `layers` alone, out of a run of all layers.
WholeRun part_of(const WholeRun& run, const std::vector<std::int32_t>& layers, int n_layers) {
  std::set<std::int32_t> wanted(layers.begin(), layers.end());
  wanted.insert({layers.front() - 1, n_layers});
  WholeRun part;
  part.capture = run.capture;
  std::erase_if(part.capture.records, [&](const StageRecord& record) { return !wanted.contains(record.layer); });
  for (const auto& [place, tensor] : run.tensors)
    if (wanted.contains(place.first)) part.tensors.emplace(place, tensor);
  return part;
}

/// Positions of arm B's rows that differ from arm A's, ascending.
std::vector<int> differing_positions(const isolate::PromptPair& pair) {
  std::map<RecordKey, Hash128> in_a;
  for (const StageRecord& record : pair.a.records)
    if (!record.reread && record.exposure == Exposure::exposed)
      in_a.emplace(RecordKey{record.position, record.layer, record.stage}, record.print.hash);
  std::set<int> positions;
  for (const StageRecord& record : pair.b.records) {
    const auto met = in_a.find({record.position, record.layer, record.stage});
    if (met != in_a.end() && met->second != record.print.hash) positions.insert(record.position);
  }
  return {positions.begin(), positions.end()};
}

/// One arm of one prompt under suspicion.
class Suspect {
 public:
  Suspect(const DivergedPrompt& prompt, const RunContext& context, char arm)
      : prompt_(prompt),
        model_(arm == 'a' ? context.model_a : context.model_b),
        spec_(arm == 'a' ? context.arm_a : context.arm_b),
        arm_(arm) {
    // Where arms claim equal bits, a row that is equal to the other arm's is not under suspicion.
    if (prompt.outcome.bit_equality_claimed) {
      positions_ = differing_positions(prompt.pair);
    } else {
      for (int p = prompt.run.first_row(); p < prompt.run.n_positions(); ++p) positions_.push_back(p);
    }
  }

  /// Whether the row is guilty. Judges the arm at the first call.
  const RightRows& guilty() {
    if (!guilty_) guilty_ = judged({}).guilty();
    return *guilty_;
  }

  SceneRows scene(const isolate::StageRow& row, bool reread) {
    const int layer = once_per_token(row.stage) ? model_.config.n_layers : row.layer;
    SceneRows scene;
    scene.at = {prompt_.outcome.id, arm_, {row.stage, layer, row.position}};
    scene.reread = reread;
    const std::vector<std::int32_t> layers = layers_about(layer, model_.config.n_layers);
    scene.rows = all_layers_ ? part_of(*all_layers_, layers, model_.config.n_layers) : prompt_.run.run_whole(arm_, layers);
    scene.tokens = scene.rows.capture.tokens;
    trim(scene);
    return scene;
  }
  const Model& model() const { return model_; }

  /// Runs the arm with right values in all its guilty rows.
  isolate::Substitution substitute() {
    isolate::Substitution out;
    out.rows = static_cast<std::int64_t>(guilty().size());
    if (out.rows == 0) return out;
    std::int64_t left = 0;
    const ArmJudge judge = judged(guilty(), &left);
    out.guilty = static_cast<std::int64_t>(judge.guilty().size());
    out.left = left + judge.unjudged();
    return out;
  }

 private:
  ArmJudge judged(const RightRows& right, std::int64_t* left = nullptr) {
    ArmJudge judge(model_, spec_, right);
    const auto groups = layer_groups(model_.config, prompt_.run.n_positions());
    for (const auto& group : groups) {
      WholeRun run = prompt_.run.run_whole(arm_, group, right);
      judge.judge(run, group, positions_);
      if (left != nullptr) *left = run.not_substituted;
      if (groups.size() == 1 && right.empty()) all_layers_ = std::move(run);
    }
    return judge;
  }

  const DivergedPrompt& prompt_;
  const Model& model_;
  const ArmSpec& spec_;
  char arm_;
  std::vector<int> positions_;
  std::optional<RightRows> guilty_;
  std::optional<WholeRun> all_layers_;  // the arm as it is, where one run could keep it: searches need no other
};

SearchedScene search_at(Suspect& suspect, const isolate::StageRow& row, bool reread) {
  SearchedScene out;
  out.scene = suspect.scene(row, reread);
  std::string missing;
  out.found = search_scene(out.scene, *suspect.model().file, missing);
  return out;
}

RecordKey key_of(const isolate::Mismatch& mismatch, int n_layers) {
  return {mismatch.position, once_per_token(mismatch.stage) ? n_layers : mismatch.layer, mismatch.stage};
}

/// The arm that is to blame for the prompt's first mismatch: B, unless nothing in it is guilty and something in A is.
std::unique_ptr<Suspect> arm_to_blame(const DivergedPrompt& prompt, const RunContext& context) {
  auto b = std::make_unique<Suspect>(prompt, context, 'b');
  const bool b_is_guilty = prompt.outcome.local ? !prompt.outcome.local->b.guilty.empty() : !b->guilty().empty();
  if (b_is_guilty) return b;
  auto a = std::make_unique<Suspect>(prompt, context, 'a');
  return a->guilty().empty() ? std::move(b) : std::move(a);
}

/// Where the search begins: at the mismatch, if its row is guilty. If not, the error was made in a stage that was not compared:
/// at the first guilty row that can have caused it.
isolate::StageRow origin_of(Suspect& suspect, const isolate::Mismatch& mismatch) {
  const RecordKey at = key_of(mismatch, suspect.model().config.n_layers);
  isolate::StageRow row{at.stage, at.layer, at.position};
  if (suspect.guilty().contains(at)) return row;
  const auto order = [](const isolate::StageRow& r) { return std::tuple(r.layer, r.stage, r.position); };
  bool found = false;
  for (const RecordKey& key : suspect.guilty()) {
    const isolate::StageRow one{key.stage, key.layer, key.position};
    const bool before = key.position <= at.position && std::tuple(key.layer, key.stage) < std::tuple(at.layer, at.stage);
    if (!before || (found && order(row) < order(one))) continue;
    row = one;
    found = true;
  }
  return row;
}

}  // namespace

FoundCause find_cause(std::vector<DivergedPrompt> prompts, const RunContext& context) {
  FoundCause out;
  for (const DivergedPrompt& prompt : prompts) {
    const isolate::Mismatch& headline = *prompt.outcome.first;
    const std::unique_ptr<Suspect> blamed = arm_to_blame(prompt, context);
    Suspect& suspect = *blamed;
    const isolate::StageRow origin = origin_of(suspect, headline);
    SearchedScene first = search_at(suspect, origin, headline.reread && origin.stage == headline.stage);
    first.scene.substitution = suspect.substitute();
    const bool is_first = out.scenes.empty();
    out.scenes.push_back(std::move(first));
    std::size_t others = 0;
    for (const isolate::Mismatch& other : prompt.outcome.minimal) {
      const bool same = other.stage == headline.stage && other.layer == headline.layer;
      if (!is_first || same || others++ >= kMostOthers) continue;
      out.scenes.push_back(search_at(suspect, {other.stage, other.layer, other.position}, other.reread));
      out.scenes.back().scene.other = true;
    }
  }
  out.cause = combined(out.scenes);
  return out;
}

}  // namespace greta::cli
