#include "cli/artifacts.h"

#include <fmt/format.h>

#include <span>

#include "cli/scene_files.h"
#include "isolate/experiment.h"
#include "report/json.h"
#include "report/log.h"
#include "report/tsv.h"
#include "trace/capture_store.h"
#include "trace/jsonl.h"
#include "trace/safetensors.h"

namespace greta::cli {

RunArtifacts::RunArtifacts(const std::string& out, const std::string& experiment, const std::string& date)
    : experiment_(experiment), directory_({.out = out, .date = date, .experiment = experiment}) {}

void RunArtifacts::write(const isolate::Outcome& outcome, const std::vector<isolate::PromptPair>& pairs,
                         report::Language language) {
  const std::string exp(isolate::name(outcome.experiment.exp));
  const auto flags = isolate::alignment_flags(outcome.experiment.exp);
  for (const isolate::PromptPair& pair : pairs) {
    const std::string& id = pair.a.prompt_id;
    write_jsonl(directory_.file(fmt::format("{}_post_wo_{}_{}.jsonl", experiment_, id, exp)), pair.a, pair.b,
                aligned_or_differing(pair.a, pair.b), flags);
    write_capture_dir(directory_.file(std::filesystem::path("captures") / "a" / id), pair.a);
    write_capture_dir(directory_.file(std::filesystem::path("captures") / "b" / id), pair.b);
  }
  for (const isolate::PromptOutcome& prompt : outcome.prompts)
    directory_.write(fmt::format("{}_{}_{}.log", experiment_, exp, prompt.id), report::prompt_log(outcome, prompt));
  directory_.write(fmt::format("{}_analysis.txt", experiment_), report::tsv(outcome));
  directory_.write("verdict.json", report::verdict_json(outcome));
  directory_.write("audit.json", report::audit_json(outcome.cause));
  directory_.write("report.md", report::markdown(outcome, language));
}

void RunArtifacts::write_scenes(const std::vector<SearchedScene>& scenes, const Model& model_a, const std::string& path_a,
                                const Model& model_b, const std::string& path_b) {
  const std::filesystem::path directory = directory_.file("audit").parent_path();
  for (std::size_t i = 0; i < scenes.size(); ++i) {
    const bool in_a = scenes[i].scene.at.arm == 'a';
    const Model& model = in_a ? model_a : model_b;
    write_scene(directory, i, scenes[i].scene,
                {.path = std::filesystem::absolute(in_a ? path_a : path_b).string(),
                 .hash = fmt::format("{:016x}", model.file->content_hash()),
                 .n_layers = model.config.n_layers,
                 .n_heads = model.config.n_heads});
  }
}

void RunArtifacts::write_full(const isolate::PromptPair& pair, const AlignedRun& run, const ModelConfig& config) {
  const auto file = [&](const char* arm) {
    return directory_.file(std::filesystem::path("captures") / arm / pair.a.prompt_id / "full.safetensors");
  };
  write_full_tensors(file("a"), run.full_a(), config.n_heads, pair.a.tokens);
  write_full_tensors(file("b"), run.full_b(), config.n_heads, pair.b.tokens);
}

void write_full_tensors(const std::filesystem::path& file, const FullTensors& tensors, int n_heads,
                        const std::vector<std::int32_t>& tokens) {
  std::vector<StageTensor> stages;
  for (const auto& [place, tensor] : tensors) {
    StageTensor& stage = stages.emplace_back();
    stage.layer = place.first;
    stage.stage = place.second;
    stage.dtype = tensor.dtype;
    for (const auto& [position, bytes] : tensor.rows) {
      stage.positions.push_back(position);
      stage.rows.emplace_back(bytes);
    }
  }
  write_stage_tensors(file, stages, n_heads, tokens);
}

}  // namespace greta::cli
