// What the scorecard tries: planted faults, single and in pairs, and correct pairs of arms that must not be blamed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/arm_options.h"
#include "cli/scorecard_models.h"
#include "fault/plants.h"

namespace greta::cli {

/// One fault and the place where it must be found.
struct Planted {
  Plant plant;
  PlantPlace place;
};

struct Job {
  const ScoredModel* model = nullptr;
  std::vector<Planted> faults;  // one, or two; none: a correct pair of arms
  bool dependent = false;       // of two, the second lies downstream of the first
  ArmOptions a, b;
  std::size_t prompt_tokens = 0;  // of the model's prompt; 0: all
  bool shift = false;

  std::string what() const;  // "rope-theta@decode:layer=1:position=12 on tiny q8_0, plan q8"
};

/// Every kind of fault over layers, positions, phases, strengths, models, weight types and plans; about 150 (quick) or 5,000.
/// Places whose rows nobody reads (the last layer's prefill rows but for K and V: no logits come of them) are left out and
/// counted.
std::vector<Job> planted_jobs(ScoredModels& models, bool full, std::int64_t& read_by_nobody);
/// Pairs of routes, KV types, threads, chunks, batches and instruction sets; about 100 (quick) or 5,000 and more.
std::vector<Job> healthy_jobs(ScoredModels& models, bool full);
/// At least 20 correct pairs of routes of the plan: their largest spread of logits is the noise.
std::vector<Job> noise_jobs(const ScoredModel& model, const std::string& plan);

}  // namespace greta::cli
