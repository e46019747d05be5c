#include "cli/find_cause.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "audit/cause_classes.h"
#include "cli/arm_judge.h"

namespace greta::cli {
namespace {

constexpr std::size_t kMostOthers = 4;  // origins beside the headline

/// The layers whose rows a search looks through: a wrong index or stride may lead to a neighbour, round the end.
std::vector<std::int32_t> layers_about(int layer, int n_layers) {
  const int own = std::min(layer, n_layers - 1);
  std::vector<std::int32_t> layers{own};
  for (const int other : {(own + 1) % n_layers, (own + n_layers - 1) % n_layers})
    if (std::find(layers.begin(), layers.end(), other) == layers.end()) layers.push_back(other);
  return layers;
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

using Order = std::tuple<int, Stage, int>;  // layer, stage, position
Order order_of(const RecordKey& key) { return {key.layer, key.stage, key.position}; }
isolate::StageRow row_of(const RecordKey& key) { return {key.stage, key.layer, key.position}; }

/// One arm of one prompt under suspicion.
class Suspect {
 public:
  Suspect(const DivergedPrompt& prompt, const RunContext& context, char arm)
      : prompt_(prompt),
        model_(arm == 'a' ? context.model_a : context.model_b),
        spec_(arm == 'a' ? context.arm_a : context.arm_b),
        arm_(arm),
        groups_(layer_groups(model_.config, prompt.run.n_positions())) {
    // Where arms claim equal bits, a row that is equal to the other arm's is not under suspicion.
    if (prompt.outcome.bit_equality_claimed) {
      positions_ = differing_positions(prompt.pair);
    } else {
      for (int p = prompt.run.first_row(); p < prompt.run.n_positions(); ++p) positions_.push_back(p);
    }
  }

  /// Rows that are guilty in the arm as it is. Judges it at the first call.
  const RightRows& guilty() {
    if (!guilty_) guilty_ = judge({}).guilty;
    return *guilty_;
  }
  /// The row at which the search begins: the mismatch's if it is guilty; else, since the error was made in a stage that was not
  /// compared, the first guilty one that can have caused it. nullptr: this arm has none.
  const RecordKey* origin(const isolate::Mismatch& mismatch) {
    const RecordKey at{mismatch.position, once_per_token(mismatch.stage) ? model_.config.n_layers : mismatch.layer,
                       mismatch.stage};
    const RecordKey* found = nullptr;
    for (const RecordKey& key : guilty()) {
      if (key == at) return &key;
      const bool before = key.position <= at.position && std::tuple(key.layer, key.stage) < std::tuple(at.layer, at.stage);
      if (before && (found == nullptr || order_of(key) < order_of(*found))) found = &key;
    }
    return found;
  }

  struct Judged {
    RightRows guilty;
    std::int64_t left = 0;  // rows that could not be computed or judged
  };
  /// Runs the arm with right values in these rows.
  Judged judge(const RightRows& right) {
    ArmJudge judge(model_, spec_, right);
    std::int64_t not_substituted = 0;
    for (const auto& group : groups_) {
      WholeRun run = prompt_.run.run_whole(arm_, group, right);
      judge.judge(run, group, positions_);
      not_substituted = run.not_substituted;
      if (groups_.size() == 1 && right.empty()) hold(std::move(run), 0);  // all that searches look through
    }
    return {judge.guilty(), not_substituted + judge.unjudged()};
  }

  /// Whether the row is a KV slot that changed after it was written.
  bool is_reread(const RecordKey& key) {
    return (key.stage == Stage::k_cache || key.stage == Stage::v_cache) &&
           !rows_about(key.layer).reread(key.stage, key.layer, key.position).empty();
  }
  SearchedScene search(const RecordKey& key) {
    SearchedScene out;
    SceneRows& scene = out.scene;
    (void)rows_about(key.layer);
    scene.at = {prompt_.outcome.id, arm_, row_of(key)};
    scene.reread = is_reread(key);
    scene.tokens = held_.capture.tokens;
    scene.rows.capture.records = held_.capture.records;
    const std::vector<std::int32_t> near = layers_about(key.layer, model_.config.n_layers);
    for (const auto& [place, tensor] : held_.tensors)
      if (once_per_token(place.second) || place.first == near.front() - 1 ||
          std::find(near.begin(), near.end(), place.first) != near.end())
        scene.rows.tensors.emplace(place, tensor);
    trim(scene);
    out.found = search_scene(scene, *model_.file, out.missing);
    return out;
  }
  /// Of the guilty rows those that the hypothesis gives too; of more than kEach of one stage and layer a sample stands for all.
  RightRows explained_by(const std::string& hypothesis, const RightRows& guilty) {
    constexpr std::size_t kEach = 4;
    std::map<std::pair<std::int32_t, Stage>, std::vector<RecordKey>> places;
    for (const RecordKey& key : guilty) places[{key.layer, key.stage}].push_back(key);
    RightRows out;
    for (const auto& [place, keys] : places) {
      const KeptRows& rows = rows_about(place.first);
      const auto fits = [&](const RecordKey& key) {
        return OpenScene(rows, held_.capture.tokens, row_of(key), is_reread(key), *model_.file).is_explained_by(hypothesis);
      };
      std::vector<RecordKey> sample = keys;
      if (keys.size() > kEach) {
        sample.clear();
        for (std::size_t i = 0; i < kEach; ++i) sample.push_back(keys[i * (keys.size() - 1) / (kEach - 1)]);
      }
      const bool all = std::all_of(sample.begin(), sample.end(), fits);
      for (const RecordKey& key : all ? keys : sample)
        if (all || fits(key)) out.insert(key);
    }
    return out;
  }
  const Model& model() const { return model_; }

 private:
  /// Rows of the layer and of its neighbours. Those of one group of layers are held at a time.
  const KeptRows& rows_about(int layer) {
    const int own = std::min(layer, model_.config.n_layers - 1);
    std::size_t group = 0;
    while (groups_[group].back() < own) ++group;
    if (held_group_ == group && rows_) return *rows_;
    std::vector<std::int32_t> layers = groups_[group];
    for (const int end : {groups_[group].front(), groups_[group].back()})
      for (const int near : layers_about(end, model_.config.n_layers))
        if (std::find(layers.begin(), layers.end(), near) == layers.end()) layers.push_back(near);
    hold(prompt_.run.run_whole(arm_, layers), group);
    return *rows_;
  }
  void hold(WholeRun run, std::size_t group) {
    rows_.reset();
    held_ = std::move(run);
    rows_.emplace(held_.capture, held_.tensors);
    held_group_ = group;
  }

  const DivergedPrompt& prompt_;
  const Model& model_;
  const ArmSpec& spec_;
  char arm_;
  std::vector<std::vector<std::int32_t>> groups_;
  std::vector<int> positions_;
  std::optional<RightRows> guilty_;
  WholeRun held_;
  std::size_t held_group_ = 0;
  std::optional<KeptRows> rows_;
};

/// The arm that has a guilty row at the mismatch or causally before it: B first.
char arm_to_blame(Suspect& a, Suspect& b, const isolate::Mismatch& mismatch) {
  if (b.origin(mismatch) != nullptr) return 'b';
  if (a.origin(mismatch) != nullptr) return 'a';
  return b.guilty().empty() && !a.guilty().empty() ? 'a' : 'b';
}

/// Searches one arm origin by origin: the rows that an origin's cause explains get right values, the arm runs again, and what
/// is then still guilty has another cause. Where none is named, all guilty rows of the origin's stage and layer stand for it.
isolate::Substitution search_arm(Suspect& suspect, const RecordKey* headline, std::vector<SearchedScene>& scenes,
                                 bool keep_others) {
  isolate::Substitution out;
  RightRows guilty = suspect.guilty(), right;
  const RecordKey* at = headline;
  for (std::size_t turn = 0; !guilty.empty() && turn <= kMostOthers; ++turn) {
    if (at == nullptr)
      at = &*std::min_element(guilty.begin(), guilty.end(),
                              [](const RecordKey& x, const RecordKey& y) { return order_of(x) < order_of(y); });
    const RecordKey origin = *at;
    SearchedScene searched = suspect.search(origin);
    const bool named = audit::named_cause({&searched.found, 1}).has_value();
    RightRows rows;
    if (named) {
      rows = suspect.explained_by(searched.found.front().hypothesis, guilty);
    } else {
      for (const RecordKey& key : guilty)
        if (key.stage == origin.stage && key.layer == origin.layer) rows.insert(key);
    }
    rows.insert(origin);
    right.insert(rows.begin(), rows.end());
    searched.scene.other = headline == nullptr || turn > 0;
    if (!searched.scene.other || keep_others) scenes.push_back(std::move(searched));
    Suspect::Judged judged = suspect.judge(right);
    guilty = std::move(judged.guilty);
    out.left = judged.left;
    at = nullptr;
  }
  out.rows = static_cast<std::int64_t>(right.size());
  out.guilty = static_cast<std::int64_t>(guilty.size());
  return out;
}

/// Where no row of either arm is guilty: the mismatch itself, unexplained.
void search_mismatch(Suspect& suspect, const isolate::Mismatch& mismatch, std::vector<SearchedScene>& scenes) {
  const int n_layers = suspect.model().config.n_layers;
  scenes.push_back(
      suspect.search({mismatch.position, once_per_token(mismatch.stage) ? n_layers : mismatch.layer, mismatch.stage}));
}

}  // namespace

FoundCause find_cause(std::vector<DivergedPrompt> prompts, const RunContext& context) {
  FoundCause out;
  for (const DivergedPrompt& prompt : prompts) {
    const isolate::Mismatch& headline = *prompt.outcome.first;
    Suspect a(prompt, context, 'a'), b(prompt, context, 'b');
    const bool in_a = arm_to_blame(a, b, headline) == 'a';
    Suspect &blamed = in_a ? a : b, &other = in_a ? b : a;
    const std::size_t first = out.scenes.size();
    const bool keep_others = first == 0;
    if (blamed.guilty().empty()) {
      search_mismatch(blamed, headline, out.scenes);
      continue;
    }
    const RecordKey* origin = blamed.origin(headline);
    const RecordKey start = origin != nullptr ? *origin : *blamed.guilty().begin();
    isolate::Substitution substitution = search_arm(blamed, &start, out.scenes, keep_others);
    if (!other.guilty().empty()) {
      const isolate::Substitution more = search_arm(other, nullptr, out.scenes, keep_others);
      substitution.rows += more.rows;
      substitution.guilty += more.guilty;
      substitution.left += more.left;
    }
    out.scenes[first].scene.substitution = substitution;
  }
  out.cause = combined(out.scenes);
  return out;
}

}  // namespace greta::cli
