// Scenes read back: all of it is hostile until checked.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "cli/scene_files.h"
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

constexpr std::int32_t kMostLayers = 1 << 16;

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
    out.source = file_;
    trace::Fields fields(document_);
    if (fields.integer("schema", 1, 1).value_or(0) != 1) wrong(fields, "schema is not 1");
    SceneRows& scene = out.scene;
    scene.at.prompt = text(fields, "prompt");
    const std::string arm = text(fields, "arm");
    if (arm != "a" && arm != "b") wrong(fields, fmt::format("arm {} is neither a nor b", quote(arm, 24)));
    scene.at.arm = arm.front();
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
      constexpr DType kRows[]{DType::f64, DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q8_f32};
      if (!record.dtype || std::find(std::begin(kRows), std::end(kRows), *record.dtype) == std::end(kRows))
        wrong(place, "dtype is none that rows have");
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
