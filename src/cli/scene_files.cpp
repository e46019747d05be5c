#include "cli/scene_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "cli/artifacts.h"
#include "core/error.h"
#include "core/quote.h"
#include "ops/cpu/convert.h"
#include "trace/field.h"
#include "trace/file_io.h"
#include "trace/json.h"
#include "trace/safetensors.h"

namespace greta::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::int32_t kMostLayers = 1 << 16;

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

/// One file's fields, with errors that name it.
class SceneReader {
 public:
  explicit SceneReader(fs::path file) : file_(std::move(file)) {
    auto document = json::parse(read_file(file_, std::uint64_t{64} << 20), {.depth = 8, .values = 2'000'000});
    if (!document) fail("{}: {}; run isolate again", file_.string(), document.error());
    document_ = std::move(*document);
  }

  StoredScene read() {
    StoredScene out;
    trace::Fields fields(document_);
    if (fields.integer("schema", 1, 1).value_or(0) != 1) wrong(fields, "schema is not 1");
    SceneRows& scene = out.scene;
    scene.at.prompt = text(fields, "prompt");
    scene.at.arm = text(fields, "arm") == "a" ? 'a' : 'b';
    scene.at.row.stage = stage(fields);
    out.model.n_layers = whole(fields, "n_layers", 1, kMostLayers);
    scene.at.row.layer = whole(fields, "layer", 0, out.model.n_layers);
    scene.at.row.position = whole(fields, "position", 0, 1 << 30);
    scene.reread = fields.flag("reread").value_or(false);
    scene.other = fields.flag("other").value_or(false);
    out.model.path = text(fields, "model");
    out.model.hash = text(fields, "model_hash");
    const json::Value::Numbers* tokens = fields.numbers("tokens");
    if (tokens == nullptr) wrong(fields, "tokens are missing");
    for (const double token : *tokens) {
      if (!(token >= 0) || token > 1e9) wrong(fields, "a token is no id");
      scene.tokens.push_back(static_cast<std::int32_t>(token));
    }
    if (static_cast<std::size_t>(scene.at.row.position) >= scene.tokens.size())
      wrong(fields, "position lies beyond the tokens");
    if (const json::Value* run = document_.find("substitution")) {
      trace::Fields numbers(*run);
      constexpr std::int64_t kMost = std::int64_t{1} << 40;
      numbers.integer_into("rows", scene.substitution.rows, 0, kMost);
      numbers.integer_into("guilty", scene.substitution.guilty, 0, kMost);
      numbers.integer_into("left", scene.substitution.left, 0, kMost);
      if (!numbers.ok()) wrong(numbers, "");
    }
    read_rows(fields, out);
    if (!fields.ok()) wrong(fields, "");
    return out;
  }

 private:
  [[noreturn]] void wrong(const trace::Fields& fields, std::string_view what) const {
    fail("{}: {}; run isolate again", file_.string(), fields.ok() ? what : std::string_view(fields.error()));
  }
  std::string text(trace::Fields& fields, std::string_view key) const {
    const std::string* found = fields.text(key);
    if (found == nullptr) wrong(fields, fmt::format("{} is missing", key));
    return *found;
  }
  std::int32_t whole(trace::Fields& fields, std::string_view key, std::int32_t min, std::int32_t max) const {
    const auto found = fields.integer(key, min, max);
    if (!found) wrong(fields, fmt::format("{} is missing", key));
    return static_cast<std::int32_t>(*found);
  }
  Stage stage(trace::Fields& fields) const {
    const auto found = stage_from_name(text(fields, "stage"));
    if (!found) wrong(fields, "stage is not known");
    return *found;
  }

  void read_rows(trace::Fields& fields, StoredScene& out) const {
    SceneRows& scene = out.scene;
    for (StoredStage& stored : read_stage_tensors(fs::path(file_).replace_extension(".safetensors"), out.model.n_layers)) {
      FullTensor& tensor = scene.rows.tensors[{stored.layer, stored.stage}];
      tensor.dtype = stored.dtype;
      tensor.rows = std::move(stored.rows);
    }
    const json::Value::Array* places = fields.array("places");
    for (std::size_t i = 0; places != nullptr && i < places->size(); ++i) {
      trace::Fields place((*places)[i]);
      StageRecord record;
      record.stage = stage(place);
      record.layer = whole(place, "layer", 0, out.model.n_layers);
      record.dtype = dtype_from_name(text(place, "dtype"));
      record.route = text(place, "route");
      if (!record.dtype) wrong(place, "dtype is not known");
      scene.rows.capture.records.push_back(std::move(record));
    }
    const json::Value::Numbers* reread = fields.numbers("reread_row");
    if (!scene.reread || reread == nullptr) return;
    FullTensor& tensor = scene.rows.tensors[{scene.at.row.layer, scene.at.row.stage}];
    std::vector<std::byte>& row = tensor.rereads[scene.at.row.position];
    row.resize(static_cast<std::size_t>(row_bytes(tensor.dtype, static_cast<std::int64_t>(reread->size()))));
    convert_row(DType::f64, reinterpret_cast<const std::byte*>(reread->data()), static_cast<std::int64_t>(reread->size()),
                tensor.dtype, row.data());
  }

  fs::path file_;
  json::Value document_;
};

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

std::vector<StoredScene> read_scenes(const fs::path& run_directory) {
  const fs::path folder = run_directory / "audit";
  std::vector<fs::path> files;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<StoredScene> out;
  for (const fs::path& file : files) out.push_back(SceneReader(file).read());
  return out;
}

}  // namespace greta::cli
