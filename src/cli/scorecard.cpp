// `greta scorecard`: how often the comparison finds what is planted, names it, and blames what is right.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cli/checks.h"
#include "cli/scorecard_causes.h"
#include "cli/scorecard_jobs.h"
#include "cli/trial.h"
#include "cli/verbs.h"
#include "core/error.h"

namespace greta::cli {
namespace {

struct Options {
  bool full = false, quick = false, json = false;
  int threads = 0;
  std::string only;
};

/// Of one kind of fault, or of all.
struct Score {
  std::int64_t planted = 0;      // faults that acted
  std::int64_t below_noise = 0;  // of them, whose logits stay within the noise: not counted below
  std::int64_t detected = 0, located = 0, named = 0, confirmed = 0, wrong = 0;
  std::int64_t below_noise_detected = 0;

  Score& operator+=(const Score& o) {
    planted += o.planted, below_noise += o.below_noise, detected += o.detected, located += o.located, named += o.named;
    confirmed += o.confirmed, wrong += o.wrong, below_noise_detected += o.below_noise_detected;
    return *this;
  }
  std::int64_t above_noise() const { return planted - below_noise; }
};

struct Miss {
  std::string what, reason;
};

struct JobScore {
  Score score;
  std::string kind;
  std::vector<Miss> misses;
  std::string skipped;  // why it was not judged: without effect, or not to be had
  bool healthy = false, blamed = false, not_agreed = false;
};

/// A fault that depends on the model's numbers, and had no effect in this one.
constexpr std::string_view kIdle = "idle";

bool idle_as_foretold(const Job& job) {
  return std::any_of(job.faults.begin(), job.faults.end(),
                     [](const Planted& one) { return !reason_to_be_idle(one.plant, one.place, true).empty(); });
}

struct Card {
  Score total;
  std::map<std::string, Score> kinds;
  std::vector<Miss> misses, false_alarms, not_agreed, skipped;
  std::int64_t healthy = 0, idle = 0, read_by_nobody = 0;
  bool full = false;
  std::set<std::string> models, types;
  double seconds = 0, plant_seconds = 0;

  void add(const Job& job, JobScore&& one) {
    if (one.skipped == kIdle) {
      ++idle;
      return;
    }
    if (!one.skipped.empty()) return skipped.push_back({job.what(), std::move(one.skipped)});
    if (!one.healthy) {
      models.insert(job.model->name);
      types.insert(job.model->type);
    }
    total += one.score;
    if (!one.kind.empty()) kinds[one.kind] += one.score;
    for (Miss& miss : one.misses) (one.blamed ? false_alarms : one.not_agreed ? not_agreed : misses).push_back(std::move(miss));
    healthy += one.healthy ? 1 : 0;
  }
  /// What the project holds itself to. A correct pair that is not judged whole is no false alarm, and no agreement either.
  bool passes() const {
    const auto at_least = [&](std::int64_t n, double share) {
      return static_cast<double>(n) >= share * static_cast<double>(total.above_noise());
    };
    const bool enough = full ? total.planted >= 3000 && healthy >= 5000 && models.size() >= 3 && types.size() >= 5
                             : total.planted > 0 && healthy > 0;
    return enough && skipped.empty() && false_alarms.empty() && not_agreed.empty() && at_least(total.detected, 1) &&
           at_least(total.located, 0.99) && at_least(total.confirmed, 0.95) && 100 * total.wrong <= total.above_noise() &&
           10 * total.below_noise <= total.planted;
  }
};

Trial trial_of(const Job& job) {
  std::vector<std::int32_t> tokens = job.model->prompt;
  if (job.prompt_tokens > 0 && job.prompt_tokens < tokens.size()) tokens.resize(job.prompt_tokens);
  Trial trial{*job.model->model, std::move(tokens), job.a, job.b, 3, std::nullopt};
  if (job.shift) trial.shift = isolate::ContextShift{1, 2};
  return trial;
}

std::string place_text(Stage stage, int layer, int position) {
  return fmt::format("{} layer {} position {}", name(stage), layer, position);
}

bool stands_at(const isolate::Mismatch& mismatch, const Planted& planted) {
  return mismatch.stage == planted.plant.stage && mismatch.layer == planted.plant.layer_found(planted.place) &&
         mismatch.position == planted.plant.position_found(planted.place);
}

/// The cause that was found for the mismatch: the headline's, or one of the others.
const isolate::Cause* cause_at(const isolate::Cause& cause, const Planted& planted) {
  const auto fits = [&](const isolate::Cause& one) {
    return one.at && one.at->row.stage == planted.plant.stage &&
           one.at->row.layer == planted.plant.layer_found(planted.place) &&
           one.at->row.position == planted.plant.position_found(planted.place);
  };
  if (fits(cause)) return &cause;
  for (const isolate::Cause& other : cause.others)
    if (fits(other)) return &other;
  return nullptr;
}

/// One planted fault of a comparison that was judged. `first`: it must be the headline; else it may stand beside it.
void score_fault(const Job& job, const Planted& planted, bool first, const isolate::Outcome& outcome, JobScore& out) {
  const isolate::PromptOutcome& prompt = outcome.prompts[0];
  const auto miss = [&](std::string reason) { out.misses.push_back({job.what(), std::move(reason)}); };
  if (outcome.verdict() != isolate::Verdict::diverged)
    return miss(
        fmt::format("not detected: {} ({})", isolate::name(outcome.verdict()), isolate::name(outcome.judgement.reason)));
  ++out.score.detected;
  const isolate::Cause* cause = cause_at(outcome.cause, planted);
  const bool in_minimal = std::any_of(prompt.minimal.begin(), prompt.minimal.end(),
                                      [&](const isolate::Mismatch& m) { return stands_at(m, planted); });
  const bool located = first ? prompt.first && stands_at(*prompt.first, planted) : in_minimal || cause != nullptr;
  if (!located) {
    const std::string where =
        prompt.first ? place_text(prompt.first->stage, prompt.first->layer, prompt.first->position) : "nowhere";
    return miss(fmt::format("found at {} instead of {}", where,
                            place_text(planted.plant.stage, planted.plant.layer_found(planted.place),
                                       planted.plant.position_found(planted.place))));
  }
  ++out.score.located;
  if (cause == nullptr) return miss("no cause was searched at its place");
  const bool named = cause->state == isolate::CauseState::named;
  const bool fits = is_right_cause(planted.plant.text(planted.place), *cause);
  if (named && fits) ++out.score.named;
  if (named && fits && cause->confirmed) {
    ++out.score.confirmed;
  } else {
    const bool agrees = outcome.cause.substitution && outcome.cause.substitution->agrees();
    miss(fmt::format("cause {}{}{}", isolate::name(cause->state), cause->name.empty() ? "" : ": " + cause->text(),
                     agrees ? "; its place is confirmed" : "; its place is not confirmed"));
  }
}

/// Names that fit none of the faults, wherever they stand.
void count_wrong_names(const Job& job, const isolate::Outcome& outcome, JobScore& out) {
  const auto check = [&](const isolate::Cause& cause) {
    if (cause.state != isolate::CauseState::named) return;
    const bool fits = std::any_of(job.faults.begin(), job.faults.end(),
                                  [&](const Planted& one) { return is_right_cause(one.plant.text(one.place), cause); });
    if (fits) return;
    ++out.score.wrong;
    out.misses.push_back({job.what(), fmt::format("wrong cause: {}", cause.text())});
  };
  check(outcome.cause);
  for (const isolate::Cause& other : outcome.cause.others) check(other);
}

JobScore score_planted(const Job& job, const TrialResult& result, double noise) {
  JobScore out;
  out.kind = job.dependent ? "two, dependent" : job.faults.size() > 1 ? "two, independent" : job.faults[0].plant.kind;
  out.score.planted = static_cast<std::int64_t>(job.faults.size());
  count_wrong_names(job, result.outcome, out);
  if (result.logits <= noise) {
    out.score.below_noise = out.score.planted;
    if (result.outcome.verdict() == isolate::Verdict::diverged) out.score.below_noise_detected = out.score.planted;
    return out;
  }
  for (std::size_t i = 0; i < job.faults.size(); ++i) {
    const bool first = job.faults.size() == 1 || (job.dependent && i == 0);
    score_fault(job, job.faults[i], first, result.outcome, out);
  }
  return out;
}

JobScore score_healthy(const Job& job, const TrialResult& result) {
  JobScore out;
  out.healthy = true;
  const isolate::Outcome& outcome = result.outcome;
  if (outcome.verdict() == isolate::Verdict::agree) return out;
  out.blamed = outcome.verdict() == isolate::Verdict::diverged;
  out.not_agreed = !out.blamed;
  out.misses.push_back({job.what(), fmt::format("{} ({}): {}", isolate::name(outcome.verdict()),
                                                isolate::name(outcome.judgement.reason), outcome.judgement.detail)});
  return out;
}

/// Runs `work(i, weights)` for i below `n` on some threads, with progress on a terminal.
template <class Work>
void in_parallel(std::size_t n, int threads, const char* what, Work&& work) {
  std::atomic<std::size_t> next{0}, done{0};
  std::mutex mutex;
  std::exception_ptr failed;
  const bool terminal = isatty(STDERR_FILENO) == 1;
  const auto run = [&] {
    WeightHashes weights;
    for (std::size_t i = next++; i < n; i = next++) {
      try {
        work(i, weights);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failed) failed = std::current_exception();
        next = n;
      }
      const std::size_t finished = ++done;
      if (terminal && finished % 8 == 0) {
        const std::lock_guard lock(mutex);
        fmt::print(stderr, "\r\033[K{}: {} of {}", what, finished, n);
      }
    }
  };
  std::vector<std::jthread> helpers;
  for (int t = 1; t < threads; ++t) helpers.emplace_back(run);
  run();
  helpers.clear();
  if (terminal) fmt::print(stderr, "\r\033[K");
  if (failed) std::rethrow_exception(failed);
}

using Noise = std::map<std::pair<const ScoredModel*, std::string>, double>;

Noise measure_noise(const std::vector<Job>& planted, int threads) {
  Noise noise;
  for (const Job& job : planted) noise[{job.model, job.a.plan}] = 0;
  std::vector<std::pair<double*, Job>> jobs;
  for (auto& [key, value] : noise)
    for (Job& job : noise_jobs(*key.first, key.second)) jobs.emplace_back(&value, std::move(job));
  std::vector<double> spread(jobs.size());
  in_parallel(jobs.size(), threads, "correct pairs of routes",
              [&](std::size_t i, WeightHashes& weights) { spread[i] = logits_spread(trial_of(jobs[i].second), weights); });
  for (std::size_t i = 0; i < jobs.size(); ++i) *jobs[i].first = std::max(*jobs[i].first, spread[i]);
  return noise;
}

double since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Card make_card(const Options& options, int threads) {
  const auto start = std::chrono::steady_clock::now();
  ScoredModels models;
  Card card;
  card.full = options.full;
  std::vector<Job> planted = planted_jobs(models, options.full, card.read_by_nobody),
                   healthy = healthy_jobs(models, options.full);
  if (!options.only.empty()) {
    std::erase_if(planted, [&](const Job& job) { return job.what().find(options.only) == std::string::npos; });
    std::erase_if(healthy, [&](const Job& job) { return job.what().find(options.only) == std::string::npos; });
  }
  const Noise noise = measure_noise(planted, threads);
  std::vector<JobScore> scores(planted.size());
  const auto plants_start = std::chrono::steady_clock::now();
  in_parallel(planted.size(), threads, "planted faults", [&](std::size_t i, WeightHashes& weights) {
    const TrialResult result = run_trial(trial_of(planted[i]), weights);
    scores[i].skipped = result.refused;
    if (result.idle)
      scores[i].skipped = idle_as_foretold(planted[i]) ? std::string(kIdle) : "it changed nothing, which was not foretold";
    if (scores[i].skipped.empty())
      scores[i] = score_planted(planted[i], result, noise.at({planted[i].model, planted[i].a.plan}));
  });
  card.plant_seconds = since(plants_start);
  for (std::size_t i = 0; i < planted.size(); ++i) card.add(planted[i], std::move(scores[i]));
  scores.assign(healthy.size(), {});
  in_parallel(healthy.size(), threads, "correct pairs of arms", [&](std::size_t i, WeightHashes& weights) {
    const TrialResult result = run_trial(trial_of(healthy[i]), weights);
    if (!result.refused.empty()) fail("scorecard: {}: {}", healthy[i].what(), result.refused);
    scores[i] = score_healthy(healthy[i], result);
  });
  for (std::size_t i = 0; i < healthy.size(); ++i) card.add(healthy[i], std::move(scores[i]));
  card.seconds = since(start);
  return card;
}

std::string percent(std::int64_t n, std::int64_t of) {
  return of == 0 ? "-" : fmt::format("{:.2f} %", 100.0 * static_cast<double>(n) / static_cast<double>(of));
}

void print_table(const Card& card) {
  fmt::print("{:<24} {:>8} {:>11} {:>9} {:>8} {:>6} {:>10} {:>6}\n", "fault", "planted", "below noise", "detected", "located",
             "named", "confirmed", "wrong");
  const auto line = [](const std::string& kind, const Score& s) {
    fmt::print("{:<24} {:>8} {:>11} {:>9} {:>8} {:>6} {:>10} {:>6}\n", kind, s.planted, s.below_noise, s.detected, s.located,
               s.named, s.confirmed, s.wrong);
  };
  for (const auto& [kind, score] : card.kinds) line(kind, score);
  line("all", card.total);
}

void print_list(const char* title, const std::vector<Miss>& misses) {
  if (misses.empty()) return;
  fmt::print("\n{} ({}):\n", title, misses.size());
  for (const Miss& miss : misses) fmt::print("  {}: {}\n", miss.what, miss.reason);
}

void print_text(const Card& card) {
  print_table(card);
  const Score& t = card.total;
  const std::int64_t n = t.above_noise();
  fmt::print(
      "\nplanted {} faults in {} models of {} weight types; {} were not judged, {} places whose rows nobody reads left out\n",
      t.planted, card.models.size(), card.types.size(), card.skipped.size(), card.read_by_nobody);
  fmt::print("below noise {} ({}), of which detected {}\n", t.below_noise, percent(t.below_noise, t.planted),
             t.below_noise_detected);
  fmt::print("of the other {}: detected {}, at the exact place {}, cause named and confirmed {}, a wrong cause named {}\n", n,
             percent(t.detected, n), percent(t.located, n), percent(t.confirmed, n), percent(t.wrong, n));
  fmt::print("correct pairs of arms {}, blamed {}, not judged whole {}\n", card.healthy, card.false_alarms.size(),
             card.not_agreed.size());
  fmt::print("{:.0f} s, {:.3f} s a planted fault\n", card.seconds,
             card.plant_seconds / static_cast<double>(std::max<std::int64_t>(1, t.planted)));
  print_list("not planted", card.skipped);
  print_list("misses", card.misses);
  print_list("false alarms", card.false_alarms);
  print_list("not judged whole", card.not_agreed);
}

using Json = nlohmann::ordered_json;

Json misses_json(const std::vector<Miss>& misses) {
  Json out = Json::array();
  for (const Miss& miss : misses) out.push_back({{"what", miss.what}, {"reason", miss.reason}});
  return out;
}

Json score_json(const Score& s) {
  return {{"planted", s.planted},           {"detected", s.detected},
          {"located", s.located},           {"cause_named", s.named},
          {"cause_confirmed", s.confirmed}, {"wrong_cause", s.wrong},
          {"below_noise", s.below_noise},   {"below_noise_detected", s.below_noise_detected}};
}

void print_json(const Card& card) {
  Json document = score_json(card.total);
  document["healthy"] = card.healthy;
  document["false_alarms"] = card.false_alarms.size();
  document["seconds"] = card.seconds;
  document["passes"] = card.passes();
  document["models"] = card.models;
  document["weight_types"] = card.types;
  document["idle_as_foretold"] = card.idle;
  document["read_by_nobody"] = card.read_by_nobody;
  document["not_planted"] = misses_json(card.skipped);
  Json kinds = Json::object();
  for (const auto& [kind, score] : card.kinds) kinds[kind] = score_json(score);
  document["kinds"] = kinds;
  document["misses"] = misses_json(card.misses);
  document["false_alarm_list"] = misses_json(card.false_alarms);
  document["not_agreed"] = misses_json(card.not_agreed);
  fmt::print("{}\n", document.dump(2));
}

int run(const Options& options) {
  const int threads = options.threads > 0 ? options.threads : default_threads();
  const Card card = make_card(options, threads);
  if (options.json) {
    print_json(card);
  } else {
    print_text(card);
  }
  return card.passes() ? 0 : 1;
}

}  // namespace

void add_scorecard(CLI::App& app, Program& program) {
  auto o = std::make_shared<Options>();
  auto* verb = app.add_subcommand(
      "scorecard", "Plant faults by the thousand, compare correct arms too, and print how often both are judged rightly");
  auto* quick = verb->add_flag("--quick", o->quick, "Some hundred comparisons (default)");
  verb->add_flag("--full", o->full, "More than ten thousand comparisons")->excludes(quick);
  verb->add_flag("--json", o->json, "Print the totals, kinds and misses as JSON on stdout");
  verb->add_option("--threads", o->threads, "Comparisons at a time (default: the cores)")->check(at_least(1));
  verb->add_option("--only", o->only, "Only comparisons whose description holds this text");
  verb->callback([o, &program] { program.action = [o] { return run(*o); }; });
}

}  // namespace greta::cli
