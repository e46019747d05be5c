// `greta reproduce DIR --out DIR2`: the guilty op of a run alone, small enough to pass on; without --out, the replay.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "cli/scene_files.h"
#include "cli/scene_model.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "core/quote.h"
#include "isolate/align.h"
#include "model/gguf_writer.h"
#include "report/text.h"
#include "trace/file_io.h"
#include "trace/run_directory.h"

namespace greta::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string dir, out, prompt, model;
};

/// The scene of the prompt, or the first.
StoredScene choose(const Options& options) {
  const fs::path directory = options.dir;
  refuse_incomplete(directory);
  if (is_run_directory(directory)) (void)verify_run_directory(directory);
  std::vector<StoredScene> scenes = read_scenes(directory);
  for (StoredScene& one : scenes)
    if (options.prompt.empty() || one.scene.at.prompt == options.prompt) return std::move(one);
  if (scenes.empty())
    fail("{}: holds no operands of a guilty op (audit/*.json); greta isolate keeps them where arms diverge",
         directory.string());
  fail("{}: no guilty op of prompt {} was kept; the first is of {}", directory.string(), quote(options.prompt),
       quote(scenes.front().scene.at.prompt));
}

/// Tensors that the op, and the search for its cause, read: its own, one that the cause names, and all vectors.
std::set<std::string> needed_tensors(const Gguf& file, const audit::Op& op, const isolate::Cause& cause) {
  std::set<std::string> names{op.weight, op.bias};
  for (const auto& [key, value] : cause.params)
    if (key == "tensor") names.insert(value);
  for (const GgufTensor& tensor : file.tensors())
    if (tensor.shape.size() == 1) names.insert(tensor.name);
  return names;
}

void write_op_model(const fs::path& path, const Gguf& file, const std::set<std::string>& names, int vocab_size) {
  GgufWriter writer(path, false);
  const std::string vocab = file.required_string("general.architecture") + ".vocab_size";
  for (const auto& [key, value] : file.metadata())
    if (!key.starts_with("tokenizer.") && key != vocab) writer.set(key, value);
  writer.set(vocab, static_cast<std::uint32_t>(vocab_size));
  std::vector<std::pair<std::size_t, const GgufTensor*>> tensors;
  for (const GgufTensor& tensor : file.tensors())
    if (tensor.dtype && names.contains(tensor.name))
      tensors.emplace_back(writer.add_tensor(tensor.name, *tensor.dtype, tensor.shape), &tensor);
  writer.begin_data();
  for (const auto& [index, tensor] : tensors) writer.write(index, 0, {tensor->data, static_cast<std::size_t>(tensor->bytes)});
  writer.finish();
}

/// Rows that the op reads, the one it wrote, and the one that the cause names; KV slots up to the position.
void keep_operands(SceneRows& scene, const audit::Op& op, const isolate::Cause& cause) {
  const isolate::StageRow& at = scene.at.row;
  std::set<RecordKey> wanted{{at.position, at.layer, at.stage}};
  std::set<std::pair<std::int32_t, Stage>> slots;
  for (const audit::Place& input : op.inputs) {
    if (input.stage == Stage::k_cache || input.stage == Stage::v_cache) {
      slots.insert({input.layer, input.stage});
    } else {
      wanted.insert({at.position, input.layer, input.stage});
    }
  }
  RecordKey named{at.position, at.layer, at.stage};
  for (const auto& [key, value] : cause.params) {
    if (key == "stage") named.stage = stage_from_name(value).value_or(at.stage);
    if (key == "layer") named.layer = std::atoi(value.c_str());
    if (key == "position" || key == "slot") named.position = std::atoi(value.c_str());
  }
  wanted.insert(named);
  const bool other_layer = cause.name == "kv-wrong-layer";
  for (auto& [place, tensor] : scene.rows.tensors) {
    const bool is_slots = slots.contains(place) || (other_layer && place.first == named.layer &&
                                                    (place.second == Stage::k_cache || place.second == Stage::v_cache));
    std::erase_if(tensor.rows, [&](const auto& row) {
      return is_slots ? row.first > at.position : !wanted.contains({row.first, place.first, place.second});
    });
  }
}

int replay(const StoredScene& stored, const Gguf& file) {
  const isolate::StageRow& at = stored.scene.at.row;
  const KeptRows rows(stored.scene.rows.capture, stored.scene.rows.tensors);
  const OpenScene open(rows, stored.scene.tokens, at, stored.scene.reread, file);
  if (!open.missing().empty()) fail("prompt {}: an operand is missing: {}", stored.scene.at.prompt, open.missing());
  const audit::LocalError& error = open.error();
  fmt::print("op          {}, which writes {}\n", audit::name(open.op().op), isolate::place(at.stage, at.layer, at.position));
  for (const audit::Place& input : open.op().inputs) fmt::print("reads       {} layer {}\n", name(input.stage), input.layer);
  if (!open.op().weight.empty()) fmt::print("weight      {}\n", open.op().weight);
  fmt::print("element     {}: wrote {:.9g}, right is {:.9g} within {:.3g}\n", error.element, open.wrong()[error.element],
             open.right().value[error.element], open.right().bound[error.element]);
  fmt::print("beyond      {} of {} elements, largest error {:.3g} bounds\n", error.over, open.wrong().size(), error.ratio);
  std::string missing;
  const isolate::Cause cause = cause_of({stored.scene, search_scene(stored.scene, file, missing), missing});
  fmt::print("{}", report::audit_text(cause));
  return error.guilty() ? 1 : 0;
}

void write_reproducer(const Options& options, StoredScene stored, const Gguf& file) {
  const fs::path out = options.out;
  if (fs::exists(out) && (!fs::is_directory(out) || !fs::is_empty(out)))
    fail("{}: exists and is not empty; give another --out", out.string());
  const KeptRows rows(stored.scene.rows.capture, stored.scene.rows.tensors);
  const OpenScene open(rows, stored.scene.tokens, stored.scene.at.row, stored.scene.reread, file);
  if (!open.missing().empty()) fail("prompt {}: an operand is missing: {}", stored.scene.at.prompt, open.missing());
  const isolate::Cause cause = cause_of({stored.scene, open.explain(), {}});
  fs::create_directories(out);
  const audit::ModelContract contract = contract_of(file);
  write_op_model(out / "op.gguf", file, needed_tensors(file, open.op(), cause), contract.vocab_size);
  nlohmann::ordered_json outputs{{"schema", 1},
                                 {"stage", name(stored.scene.at.row.stage)},
                                 {"layer", stored.scene.at.row.layer},
                                 {"position", stored.scene.at.row.position},
                                 {"right", numbers_json(open.right().value)},
                                 {"bound", numbers_json(open.right().bound)},
                                 {"wrong", numbers_json(open.wrong())}};
  atomic_write_file(out / "outputs.json", outputs.dump(1) + "\n");
  const std::shared_ptr<const Gguf> op_file = Gguf::open(out / "op.gguf");
  SceneRows scene = stored.scene;
  keep_operands(scene, open.op(), cause);
  std::string missing;
  // Some causes are told from others by more rows than the op's own: then all of them go along.
  if (const isolate::Cause again = cause_of({scene, search_scene(scene, *op_file, missing), {}});
      again.text() != cause.text() || again.state != cause.state)
    scene = stored.scene;
  write_scene(out, 0, scene,
              {.path = "op.gguf",
               .hash = fmt::format("{:016x}", op_file->content_hash()),
               .n_layers = contract.n_layers,
               .n_heads = contract.n_heads});
  fmt::print(
      "{}\n  op.gguf             the op's weights, and the metadata that it is computed by\n"
      "  audit/              its operands and what it wrote\n"
      "  outputs.json        what it should have written, the bound of each element, and what it wrote\n"
      "replay with           greta reproduce {}\n",
      out.string(), shell_quoted(out.string()));
}

int run(const Options& options) {
  StoredScene stored = choose(options);
  SceneModels models(options.dir, options.model);
  const Gguf& file = models.file(stored);
  if (options.out.empty()) return replay(stored, file);
  write_reproducer(options, std::move(stored), file);
  return 0;
}

}  // namespace

void add_reproduce(CLI::App& app, Program& program) {
  auto o = std::make_shared<Options>();
  auto* verb = app.add_subcommand("reproduce", "Write the guilty op of a run alone, with its operands; or replay one");
  verb->add_option("dir", o->dir, "Run directory, or one that reproduce wrote")->required();
  verb->add_option("--out", o->out,
                   "Directory to write the reproducer to; without it the op is replayed (exit 1: still wrong)");
  verb->add_option("--prompt", o->prompt, "Id of the prompt (default: the first that diverged)");
  verb->add_option("--model", o->model, "Model file of the run, where it is no longer at its place");
  verb->callback([o, &program] { program.action = [o] { return run(*o); }; });
}

}  // namespace greta::cli
