// greta's logits and stages against float64 references that an independent implementation computed (optional external fixtures).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/command.h"
#include "trace/safetensors.h"

namespace greta::test {
namespace {

/// |b - a| / |a| over the elements of `a`; attention probabilities beyond b's keys are zero in both.
double relative_rms(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, reference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (b[i] - a[i]) * (b[i] - a[i]);
    reference += a[i] * a[i];
  }
  return std::sqrt(difference / reference);
}

std::vector<double> tensor(const std::filesystem::path& file, const std::string& name) {
  const SafetensorsFile opened(file);
  const TensorEntry* entry = opened.find(name);
  if (entry == nullptr) throw std::runtime_error(file.string() + " lacks " + name);
  return opened.read_f64(*entry);
}

struct Case {
  std::string model, prompt_id, prompt;
  std::filesystem::path model_file, reference, witness;
  double witness_gap = 0;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  const auto index = fixture("reference/logits.json");
  if (index.empty()) return all;
  for (const auto& entry : nlohmann::json::parse(read_file(index))) {
    Case one;
    one.model = entry["model"].get<std::string>();
    one.prompt_id = entry["prompt_id"];
    one.prompt = entry["prompt"];
    const std::string stem = one.model.substr(0, one.model.size() - 5) + "." + one.prompt_id;
    one.model_file = fixture("models/" + one.model);
    one.reference = fixture("reference64/" + stem + ".logits.safetensors");
    one.witness = fixture("reference/" + stem + ".logits.f32");
    one.witness_gap = entry["top8"][0][1].get<double>() - entry["top8"][1][1].get<double>();
    all.push_back(one);
  }
  return all;
}

std::vector<double> logits_of(const Case& one, const std::string& plan, const std::string& kv, const std::filesystem::path& out) {
  const CommandResult result = greta({"run", "--model", one.model_file.string(), "--prompt", one.prompt, "--max-tokens", "0", "--plan", plan,
                                      "--kv", kv, "--logits-out", out.string()});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(tensor(out, "tokens"), tensor(one.reference, "tokens")) << one.model << " " << one.prompt_id;
  return tensor(out, "logits");
}

TEST(Reference64, Logits) {
  const TemporaryDirectory directory;
  for (const Case& one : cases()) {
    const auto reference = tensor(one.reference, "logits");
    const auto judge = logits_of(one, "float64", "f64", directory.path() / "judge.safetensors");
    const double f64 = relative_rms(reference, judge);
    const double f32 = relative_rms(reference, logits_of(one, "reference", "f32", directory.path() / "f32.safetensors"));
    const double f16 = relative_rms(reference, logits_of(one, "reference", "f16", directory.path() / "f16.safetensors"));
    EXPECT_LE(f64, 1e-8) << one.model << " " << one.prompt_id;
    EXPECT_LE(f32, 5e-5) << one.model << " " << one.prompt_id;
    EXPECT_LE(f16, 2e-3) << one.model << " " << one.prompt_id;

    // llama.cpp is a witness with rounding of its own: its error is reported, its top-1 counts where its gap is clear.
    std::vector<double> witness;
    std::ifstream in(one.witness, std::ios::binary);
    for (float value = 0; in.read(reinterpret_cast<char*>(&value), sizeof value);) witness.push_back(static_cast<double>(value));
    ASSERT_EQ(witness.size(), reference.size());
    const auto top = [](const std::vector<double>& x) { return std::max_element(x.begin(), x.end()) - x.begin(); };
    if (one.witness_gap > 0.2) {
      EXPECT_EQ(top(judge), top(witness)) << one.model << " " << one.prompt_id;
    }
    std::printf("%-18s %-8s float64 %.1e  reference/f32 %.1e  reference/f16 %.1e  witness %.1e  top-1 %s (witness gap %.2f)\n",
                one.model.c_str(), one.prompt_id.c_str(), f64, f32, f16, relative_rms(reference, witness),
                top(judge) == top(witness) ? "equal" : "differs", one.witness_gap);
  }
}

TEST(Reference64, EveryStageOfTheStageFiles) {
  const TemporaryDirectory directory;
  for (const Case& one : cases()) {
    const auto stages = std::filesystem::path(one.reference).replace_filename(
        one.model.substr(0, one.model.size() - 5) + "." + one.prompt_id + ".stages.safetensors");
    if (!std::filesystem::exists(stages)) continue;
    const auto out = directory.path() / (one.prompt_id + ".jsonl");
    const CommandResult result = greta({"run", "--model", one.model_file.string(), "--prompt", one.prompt, "--max-tokens", "0", "--plan",
                                        "float64", "--logits-all", "--logits-out", (directory.path() / "l.safetensors").string(),
                                        "--trace-phases", "prefill", "--trace-full", "--trace-out", out.string()});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const auto ours = std::filesystem::path(out).replace_extension(".safetensors");
    double worst = 0;
    std::string worst_name;
    const SafetensorsFile reference(stages), recorded(ours);
    int compared = 0;
    for (const TensorEntry& entry : reference.tensors()) {
      if (entry.name == "tokens") continue;
      const TensorEntry* met = recorded.find(entry.name);
      ASSERT_NE(met, nullptr) << entry.name;
      ASSERT_EQ(met->shape, entry.shape) << entry.name;
      const double error = relative_rms(reference.read_f64(entry), recorded.read_f64(*met));
      EXPECT_LE(error, 1e-8) << entry.name;
      if (error > worst) worst = error, worst_name = entry.name;
      ++compared;
    }
    std::printf("%s %s: %d tensors, largest relative error %.1e at %s\n", one.model.c_str(), one.prompt_id.c_str(), compared, worst,
                worst_name.c_str());
    EXPECT_GT(compared, 80);
  }
}

}  // namespace
}  // namespace greta::test
