#include "cli/scorecard_jobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "core/blocks.h"

namespace greta::cli {
namespace {

ArmOptions arm(const std::string& text) {
  ArmOptions options;
  options.threads = 1;
  if (!text.empty()) options.parse("scorecard", text);
  return options;
}

std::vector<int> layers_of(const ScoredModel& model) {
  const int n = model.model->config.n_layers;
  return {0, n / 2, n - 1};
}

Job job_of(const ScoredModel& model, const std::string& plan, std::vector<Planted> faults) {
  Job job;
  job.model = &model;
  job.a = arm("plan=" + plan);
  job.b = arm("plan=" + plan);
  for (const Planted& one : faults) {
    const Plant& plant = one.plant;
    job.b.faults.push_back(plant.text(one.place));
    if (plant.chunk > 0) job.b.chunk = plant.chunk;
    if (plant.batch > 1) job.b.batch = plant.batch;
    job.shift = plant.shift;
  }
  job.faults = std::move(faults);
  return job;
}

/// Strengths beside those of the table: one element moved by less and less, an epsilon nearer and nearer the model's.
std::vector<Plant> strengths() {
  std::vector<Plant> plants;
  for (const char* rel : {"0.1", "0.01", "0.001"})
    for (const Stage stage : {Stage::attn_norm, Stage::k, Stage::v_cache, Stage::attn_out, Stage::ffn_gate, Stage::x_after_mlp})
      plants.push_back({"perturb", fmt::format("stage={}:rel={}:index=5", name(stage), rel), stage});
  for (const char* eps : {"0.0001", "0.1"})
    for (const Stage stage : {Stage::attn_norm, Stage::ffn_norm})
      plants.push_back({"rmsnorm-epsilon", fmt::format("stage={}:eps={}", name(stage), eps), stage});
  return plants;
}

/// Of the last layer's prefill rows only K and V are read later, and what they come from: arm B computes no logits there.
bool read_by_nobody(const Plant& plant, const PlantPlace& place) {
  constexpr Stage kRead[]{Stage::x_in,   Stage::attn_norm, Stage::attn_norm_q8, Stage::k,      Stage::v,
                          Stage::k_norm, Stage::k_rope,    Stage::k_cache,      Stage::v_cache};
  return place.prefill && place.layer == place.n_layers - 1 &&
         std::find(std::begin(kRead), std::end(kRead), plant.stage) == std::end(kRead);
}

/// Takes every `stride`-th place, counted over all plants, so that a thinned sweep still meets every kind, layer and phase.
class Thinner {
 public:
  explicit Thinner(std::size_t stride) : stride_(stride) {}
  bool take() { return next_++ % stride_ == 0; }

 private:
  std::size_t stride_, next_ = 0;
};

void add_plants(std::vector<Job>& jobs, const ScoredModel& model, const std::string& need, const std::string& plan,
                std::size_t stride, std::int64_t& left_out) {
  Thinner thinner(stride);
  std::vector<Plant> plants = all_plants();
  if (need == "base") {
    const std::vector<Plant> more = strengths();
    plants.insert(plants.end(), more.begin(), more.end());
  }
  for (const Plant& plant : plants) {
    // Kinds of a GPU: races are told by repeats, which a job has not.
    if (plant.model != need || !plant.backend.empty()) continue;
    const std::string used = plant.plan == "reference" ? plan : plant.plan;
    const int n_layers = model.model->config.n_layers;
    for (const PlantPlace& place : all_places(plant, static_cast<int>(model.prompt.size()), layers_of(model), n_layers)) {
      if (!reason_to_be_idle(plant, place, false).empty() || !thinner.take()) continue;
      if (read_by_nobody(plant, place)) {
        ++left_out;
        continue;
      }
      jobs.push_back(job_of(model, used, {{plant, place}}));
    }
  }
}

bool by_an_ulp(const Plant& plant) {
  return plant.kind == "perturb" && plant.keys.find("rel=") == std::string::npos &&
         plant.keys.find("add=") == std::string::npos;
}

/// Plants of the base model that may stand beside another: each acts on its own row only, and shows above rounding.
std::vector<Plant> pair_plants() {
  std::vector<Plant> plants;
  for (const Plant& plant : all_plants())
    if (plant.model == "base" && plant.plan == "reference" && plant.in_process() && plant.chunk == 0 &&
        plant.found_at == nullptr && !once_per_token(plant.stage) && !plant.fixed_layer() && plant.either == nullptr &&
        plant.kind != "kv-slot-shift" && !by_an_ulp(plant) && plant.kind != "nan" && plant.kind != "rmsnorm-row-stride")
      plants.push_back(plant);
  return plants;
}

/// Two faults. Independent: one in the last layer at the first decoded position, one in layer 0 at the last; neither can cause
/// the other. Dependent: in layer 0 and layer 1 at one position, or in one layer at two; the second is found only beside the
/// first.
void add_pairs(std::vector<Job>& jobs, const ScoredModel& model, std::size_t count) {
  const std::vector<Plant> plants = pair_plants();
  const int n = static_cast<int>(model.prompt.size()), n_layers = model.model->config.n_layers;
  const auto at = [&](int layer, int position) { return PlantPlace{false, layer, position, position, n_layers}; };
  const std::pair<PlantPlace, PlantPlace> kPlaces[]{
      {at(n_layers - 1, n - 1), at(0, n + 1)}, {at(0, n - 1), at(1, n - 1)}, {at(1, n - 1), at(1, n)}};
  for (std::size_t i = 0, taken = 0; i < 4 * count && taken < count; ++i) {
    const Plant &p = plants[i % plants.size()], &q = plants[(i * 7 + i / plants.size() + 3) % plants.size()];
    const auto& [first, second] = kPlaces[taken % std::size(kPlaces)];
    if (p.kind == q.kind && p.keys == q.keys) continue;
    if (!reason_to_be_idle(p, first, false).empty() || !reason_to_be_idle(q, second, false).empty()) continue;
    jobs.push_back(job_of(model, "reference", {{p, first}, {q, second}}));
    jobs.back().dependent = taken % std::size(kPlaces) > 0;
    ++taken;
  }
}

struct ArmPair {
  std::string a, b;
};

/// Arms that claim equal bits, on one plan.
std::vector<ArmPair> equal_pairs(const std::string& plan) {
  const std::string p = "plan=" + plan;
  std::vector<ArmPair> pairs;
  for (const char* b : {"threads=2", "chunk=1", "chunk=2", "chunk=3", "chunk=5", "batch=2", "batch=3", "chunk=4,batch=2",
                        "chunk=3,threads=2", "batch=2,threads=2"})
    pairs.push_back({p, p + "," + b});
  const auto isas = supported_isas();
  for (const Isa isa : isas)
    if (isa != isas.back()) pairs.push_back({p, fmt::format("{},isa={}", p, name(isa))});
  for (const char* kv : {"f16", "f64"})
    pairs.push_back({fmt::format("{},kv={}", p, kv), fmt::format("{},kv={},chunk=2", p, kv)});
  return pairs;
}

/// Arms whose bits differ and that are both right.
std::vector<ArmPair> route_pairs(const ScoredModel& model) {
  std::vector<ArmPair> pairs{{"plan=reference", "plan=float64"},
                             {"plan=float64", "plan=reference"},
                             {"plan=float64", "plan=reference,chunk=3"},
                             {"plan=reference,kv=f32", "plan=reference,kv=f16"},
                             {"plan=reference,kv=f16", "plan=reference,kv=f32"},
                             {"plan=reference,kv=f32", "plan=reference,kv=f64"},
                             {"plan=float64,kv=f64", "plan=float64,kv=f16"}};
  for (const char* op : {"rmsnorm", "matmul", "rope", "qk", "softmax", "pv", "add", "act_mul"})
    pairs.push_back({"plan=reference", fmt::format("plan=reference,route.{}=float64", op)});
  if (model.model->config.head_dim % 32 == 0) pairs.push_back({"plan=reference,kv=f32", "plan=reference,kv=q8_0"});
  if (model.blocks) {
    pairs.push_back({"plan=reference", "plan=q8"});
    pairs.push_back({"plan=q8", "plan=float64"});
    pairs.push_back({"plan=q8,kv=f32", "plan=q8,kv=f16"});
  }
  return pairs;
}

void add_healthy(std::vector<Job>& jobs, const ScoredModel& model, const std::vector<ArmPair>& pairs,
                 const std::vector<std::size_t>& lengths) {
  for (const std::size_t length : lengths) {
    for (const ArmPair& pair : pairs) {
      Job job;
      job.model = &model;
      job.a = arm(pair.a);
      job.b = arm(pair.b);
      // Arm B prefills all but the last token: a chunk of as many rows is no chunk.
      if (length > 0 && std::max(job.a.chunk.value_or(0), job.b.chunk.value_or(0)) >= static_cast<int>(length) - 1) continue;
      job.prompt_tokens = length;
      jobs.push_back(std::move(job));
    }
  }
}

}  // namespace

std::string Job::what() const {
  std::string out;
  for (const std::string& fault : b.faults) out += (out.empty() ? "" : " and ") + fault;
  ArmOptions bare = b;
  bare.faults.clear();
  bare.threads.reset();
  if (faults.empty()) out += fmt::format("{} against {}", a.text(), b.text());
  out += fmt::format(" on {}", model->name);
  if (!faults.empty()) out += fmt::format(", {}", bare.text());
  return out;
}

std::vector<Job> planted_jobs(ScoredModels& models, bool full, std::int64_t& left_out) {
  std::vector<Job> jobs;
  const std::vector<std::string> needs{"untied", "q8_0",  "q4_1",   "q4_k",   "q6_k",
                                       "qwen2",  "qwen3", "gemma2", "window", "factors"};
  if (!full) {
    add_plants(jobs, models.tiny("f32"), "base", "reference", 11, left_out);
    add_plants(jobs, models.tiny("q4_k"), "base", "reference", 67, left_out);
    add_plants(jobs, models.demo(), "base", "reference", 67, left_out);
    for (const std::string& need : needs) add_plants(jobs, models.with(need), need, "reference", 13, left_out);
    add_pairs(jobs, models.tiny("f32"), 6);
    return jobs;
  }
  // Strides that are no divisors of the places a plant has, so that every kind meets every phase, layer and position somewhere.
  add_plants(jobs, models.demo(), "base", "reference", 4, left_out);
  add_plants(jobs, models.tiny("f32"), "base", "reference", 2, left_out);
  for (const char* type : {"f16", "bf16", "q8_0", "q4_0", "q5_1", "q4_k", "q6_k", "iq4_nl"})
    add_plants(jobs, models.tiny(type), "base", "reference", 11, left_out);
  for (const char* type : {"q8_0", "q4_k"}) add_plants(jobs, models.tiny(type), "base", "q8", 11, left_out);
  add_plants(jobs, models.tiny("f32"), "base", "float64", 11, left_out);
  for (const std::string& need : needs) add_plants(jobs, models.with(need), need, "reference", 1, left_out);
  for (const char* need : {"qwen2", "qwen3", "gemma2", "window"})
    add_plants(jobs, models.with(need), "base", "reference", 17, left_out);
  add_pairs(jobs, models.tiny("f32"), 90);
  add_pairs(jobs, models.demo(), 40);
  return jobs;
}

std::vector<Job> healthy_jobs(ScoredModels& models, bool full) {
  std::vector<Job> jobs;
  const auto add = [&](const ScoredModel& model, const std::vector<std::size_t>& lengths) {
    add_healthy(jobs, model, equal_pairs("reference"), lengths);
    if (model.blocks) add_healthy(jobs, model, equal_pairs("q8"), lengths);
    if (full) add_healthy(jobs, model, equal_pairs("float64"), lengths);
    add_healthy(jobs, model, route_pairs(model), lengths);
  };
  if (!full) {
    add(models.tiny("f32"), {5});
    add(models.tiny("q4_k"), {5});
    add(models.with("gemma2"), {6});
    add_healthy(jobs, models.demo(), {{"plan=reference", "plan=q8"}, {"plan=reference", "plan=reference,kv=f16"}}, {6});
    return jobs;
  }
  for (const char* type : {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k",
                           "iq4_nl", "iq4_xs"})
    add(models.tiny(type), {3, 4, 5, 7, 9, 11, 13});
  for (const char* need : {"qwen2", "qwen3", "gemma2", "window", "factors", "untied"})
    add(models.with(need), {3, 5, 8, 10, 13});
  add(models.demo(), {3, 7, 13});
  return jobs;
}

std::vector<Job> noise_jobs(const ScoredModel& model, const std::string& plan) {
  std::vector<ArmPair> pairs;
  const std::vector<std::string> ops{"rmsnorm", "matmul", "rope", "qk", "softmax", "pv", "add", "act_mul"};
  const std::string p = "plan=" + plan;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    for (std::size_t j = i; j < ops.size(); ++j) {
      if (plan == "q8" && (ops[i] == "matmul" || ops[j] == "matmul")) continue;
      // Routes of F32 do not take float64's activations: there the other arm is plan reference with one route or two of
      // float64.
      std::string b = fmt::format("plan={},route.{}=float64", plan == "float64" ? "reference" : plan, ops[i]);
      if (j != i) b += fmt::format(",route.{}=float64", ops[j]);
      pairs.push_back({p, b});
    }
  }
  std::vector<Job> jobs;
  add_healthy(jobs, model, pairs, {0});
  return jobs;
}

}  // namespace greta::cli
