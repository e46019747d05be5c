#include "cli/scene_files.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "cli/artifacts.h"
#include "trace/file_io.h"

namespace greta::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

Json places_json(const SceneRows& scene, const FullTensors& rows) {
  std::map<std::pair<std::int32_t, Stage>, const StageRecord*> known;
  for (const StageRecord& record : scene.rows.capture.records)
    if (record.dtype) known.emplace(std::pair(record.layer, record.stage), &record);
  Json out = Json::array();
  for (const auto& [place, tensor] : rows) {
    const auto record = known.find(place);
    if (record == known.end()) continue;
    out.push_back({{"layer", place.first},
                   {"stage", name(place.second)},
                   {"dtype", name(*record->second->dtype)},
                   {"route", record->second->route}});
  }
  return out;
}

std::string stem_of(std::size_t n, const std::string& prompt) { return fmt::format("{:03}_{}", n, prompt); }

}  // namespace

nlohmann::ordered_json numbers_json(std::span<const double> values) {
  Json out = Json::array();
  for (const double value : values) {
    if (std::isfinite(value)) {
      out.push_back(value);
    } else {
      out.push_back(std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
    }
  }
  return out;
}

void write_scene(const fs::path& directory, std::size_t n, const SceneRows& scene, const SceneModel& model) {
  const fs::path folder = directory / "audit";
  fs::create_directories(folder);
  const std::string stem = stem_of(n, scene.at.prompt);
  FullTensors rows = scene.rows.tensors;
  std::erase_if(rows, [](const auto& entry) { return entry.second.rows.empty(); });
  write_full_tensors(folder / (stem + ".safetensors"), rows, model.n_heads, scene.tokens);
  const KeptRows kept(scene.rows.capture, scene.rows.tensors);
  const isolate::StageRow& at = scene.at.row;
  const Json document = {
      {"schema", 1},
      {"prompt", scene.at.prompt},
      {"arm", std::string(1, scene.at.arm)},
      {"stage", name(scene.at.row.stage)},
      {"layer", scene.at.row.layer},
      {"position", scene.at.row.position},
      {"reread", scene.reread},
      {"other", scene.other},
      {"n_layers", model.n_layers},
      {"model", model.path},
      {"model_hash", model.hash},
      {"tokens", scene.tokens},
      {"places", places_json(scene, rows)},
      {"reread_row", numbers_json(kept.reread(at.stage, at.layer, at.position))},
      {"substitution",
       {{"rows", scene.substitution.rows}, {"guilty", scene.substitution.guilty}, {"left", scene.substitution.left}}}};
  atomic_write_file(folder / (stem + ".json"), document.dump(1) + "\n");
}

}  // namespace greta::cli
