// `greta audit rmsnorm DIR`: the report B3.42, "RMSNorm root cause", of a run: what the norm at the first mismatch was given in
// either arm, number by number, and the bucket that its cause falls into.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "audit/bucket.h"
#include "audit/op_graph.h"
#include "cli/audit_verbs.h"
#include "cli/foreign.h"
#include "cli/kept_rows.h"
#include "cli/scene_files.h"
#include "cli/scene_model.h"
#include "core/error.h"
#include "isolate/align.h"
#include "isolate/same_model.h"
#include "report/tsv.h"
#include "trace/file_io.h"
#include "trace/json.h"
#include "trace/load.h"

namespace greta::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string dir, out, model;
};

bool is_norm(Stage stage) {
  constexpr Stage kNorms[]{Stage::attn_norm, Stage::q_norm,        Stage::k_norm,   Stage::attn_post_norm,
                           Stage::ffn_norm,  Stage::ffn_post_norm, Stage::final_rms};
  return std::find(std::begin(kNorms), std::end(kNorms), stage) != std::end(kNorms);
}

using Index = std::map<RecordKey, const StageRecord*>;

Index index_of(const Capture& capture) {
  Index out;
  for (const StageRecord& record : capture.records)
    if (!record.reread && record.exposure == Exposure::exposed)
      out.emplace(RecordKey{record.position, record.layer, record.stage}, &record);
  return out;
}

/// What one arm's norm read, as far as it was kept.
struct NormSide {
  const StageRecord* record = nullptr;
  const OperandRecord* x = nullptr;
  const OperandRecord* weight = nullptr;
  std::optional<double> eps;
  std::vector<double> input;  // values, from the start of the row; empty: not kept
  std::optional<double> sum_of_squares, inv_rms;
};

const OperandRecord* operand(const StageRecord& record, std::string_view argument) {
  for (const OperandRecord& one : record.operands)
    if (one.argument == argument) return &one;
  return nullptr;
}

NormSide side_of(const Index& rows, const RecordKey& key, const KeptRows* scene) {
  NormSide out;
  const auto found = rows.find(key);
  if (found == rows.end()) return out;
  out.record = found->second;
  out.x = operand(*out.record, "x");
  out.weight = operand(*out.record, "weight");
  if (const OperandRecord* eps = operand(*out.record, "eps")) out.eps = eps->value;
  if (out.x == nullptr || !out.x->producer_stage) return out;
  const RecordKey read{out.x->producer_position, out.x->producer_layer, *out.x->producer_stage};
  if (scene != nullptr)
    if (const auto row = scene->row(read.stage, read.layer, read.position); !row.empty())
      out.input.assign(row.begin(), row.end());
  double squares = 0, n = static_cast<double>(out.input.size());
  for (const double value : out.input) squares += value * value;
  if (const auto producer = rows.find(read); producer != rows.end()) {
    const Fingerprint& print = producer->second->print;
    if (out.input.empty()) out.input = print.sample;
    if (n == 0) {  // the row's statistics cover all of it
      n = static_cast<double>(print.count);
      squares = n * print.rms * print.rms;
    }
  }
  if (n == 0) return out;
  out.sum_of_squares = squares;
  if (out.eps) out.inv_rms = 1 / std::sqrt(squares / n + *out.eps);
  return out;
}

std::optional<double> mean_difference(const std::vector<double>& a, const std::vector<double>& b) {
  const std::size_t n = std::min(a.size(), b.size());
  if (n == 0) return std::nullopt;
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += std::fabs(b[i] - a[i]);
  return sum / static_cast<double>(n);
}

std::optional<double> weight_difference(const OperandRecord& a, const OperandRecord& b, const Gguf* file) {
  if (a.hash && b.hash && *a.hash == *b.hash) return 0.0;
  if (file == nullptr) return std::nullopt;
  const FileTensors tensors(*file);
  const auto values = [&](const std::string& name) {
    std::vector<double> out;
    if (const auto shape = tensors.find(name); shape && shape->rows == 1) {
      out.resize(static_cast<std::size_t>(shape->cols));
      tensors.row(name, 0, out);
    }
    return out;
  };
  return mean_difference(values(a.name), values(b.name));
}

/// One row of the table.
struct NormRow {
  std::string prompt, exp;
  RecordKey key;
  NormSide a, b;
  std::optional<double> input_mae, weight_mae, output_mae, sumsq_delta, inv_rms_delta;
  std::optional<bool> eps_match, producer_match, row_match, weight_hash_match;
  std::string storage, accumulator;
  std::optional<audit::Bucket> bucket;  // nothing: what was kept does not say
};

/// The norm that is audited: the guilty one; else that of the first mismatch, if it is a norm; else the one before the MLP of
/// that layer.
RecordKey norm_of(const Capture& capture, const Index& a, const Index& b, const SearchedScene* scene) {
  if (scene != nullptr && is_norm(scene->scene.at.row.stage)) {
    const isolate::StageRow& at = scene->scene.at.row;
    return {at.position, at.layer, at.stage};
  }
  const StageRecord* first = nullptr;
  const auto order = [](const StageRecord& r) { return std::tuple(r.step, r.layer, r.stage, r.position); };
  for (const auto& [key, record] : b) {
    const auto met = a.find(key);
    if (met == a.end() || met->second->print.hash == record->print.hash) continue;
    if (first == nullptr || order(*record) < order(*first)) first = record;
  }
  if (first != nullptr && is_norm(first->stage)) return {first->position, first->layer, first->stage};
  const int layer = first != nullptr ? std::min(first->layer, std::max(0, capture.n_layers - 1)) : 0;
  return {std::max(0, capture.n_prompt - 1), layer, Stage::ffn_norm};
}

/// A run that kept scenes was judged: its norm is to blame where it is the guilty row, and for what the search says. Of other
/// captures the operands alone speak; nothing where they do not.
std::optional<audit::Bucket> bucket_of(const NormRow& row, const SearchedScene* scene, bool judged) {
  if (judged) {
    const bool guilty = scene != nullptr && scene->scene.at.row.stage == row.key.stage;
    if (!guilty) return audit::Bucket::none;
    const isolate::Cause cause = cause_of(*scene);
    if (cause.state == isolate::CauseState::named) return audit::bucket_of(cause.name);
  }
  if (row.producer_match == false || row.row_match == false) return audit::Bucket::input_selection;
  if (row.weight_hash_match == false) return audit::Bucket::weight_layout;
  if (row.eps_match == false) return audit::Bucket::norm_stats;
  if (row.output_mae == 0.0) return audit::Bucket::none;
  const bool same_operands = row.input_mae == 0.0 && row.weight_hash_match == true && row.eps_match == true;
  if (same_operands && row.a.record->route == row.b.record->route) return audit::Bucket::kernel_math;
  if (row.input_mae.value_or(0) > 0) return audit::Bucket::none;  // inherited: the norm did what it should
  return std::nullopt;
}

NormRow audit_norm(const LoadedPair& pair, const SearchedScene* scene, const Gguf* file, bool judged) {
  NormRow row;
  row.prompt = pair.prompt_id;
  row.exp = pair.exp;
  const Index a = index_of(*pair.a), b = index_of(*pair.b);
  row.key = norm_of(*pair.b, a, b, scene);
  std::optional<KeptRows> kept;
  if (scene != nullptr) kept.emplace(scene->scene.rows.capture, scene->scene.rows.tensors);
  const bool in_a = scene != nullptr && scene->scene.at.arm == 'a';
  row.a = side_of(a, row.key, kept && in_a ? &*kept : nullptr);
  row.b = side_of(b, row.key, kept && !in_a ? &*kept : nullptr);
  if (row.a.record == nullptr || row.b.record == nullptr)
    fail("prompt {}: {} layer {} position {} was not recorded in both arms; run isolate with all stages", pair.prompt_id,
         name(row.key.stage), row.key.layer, row.key.position);
  const bool same_input =
      row.a.x != nullptr && row.b.x != nullptr && row.a.x->hash && row.b.x->hash && *row.a.x->hash == *row.b.x->hash;
  row.input_mae = same_input ? std::optional(0.0) : mean_difference(row.a.input, row.b.input);
  row.output_mae = row.a.record->print.hash == row.b.record->print.hash
                       ? std::optional(0.0)
                       : mean_difference(row.a.record->print.sample, row.b.record->print.sample);
  if (row.a.weight != nullptr && row.b.weight != nullptr) {
    row.weight_mae = weight_difference(*row.a.weight, *row.b.weight, file);
    if (row.a.weight->hash && row.b.weight->hash) row.weight_hash_match = *row.a.weight->hash == *row.b.weight->hash;
  }
  if (row.a.eps && row.b.eps) row.eps_match = *row.a.eps == *row.b.eps;
  if (row.a.sum_of_squares && row.b.sum_of_squares)
    row.sumsq_delta = same_input ? 0.0 : *row.b.sum_of_squares - *row.a.sum_of_squares;
  if (row.a.inv_rms && row.b.inv_rms)
    row.inv_rms_delta = same_input && row.eps_match.value_or(false) ? 0.0 : *row.b.inv_rms - *row.a.inv_rms;
  if (row.a.x != nullptr && row.b.x != nullptr) {
    row.producer_match =
        row.a.x->producer_stage == row.b.x->producer_stage && row.a.x->producer_layer == row.b.x->producer_layer;
    row.row_match = row.a.x->producer_position == row.b.x->producer_position;
  }
  row.storage = row.b.record->dtype ? std::string(name(*row.b.record->dtype)) : "None";
  row.accumulator = row.b.record->route.empty() ? "None" : row.b.record->route == "float64" ? "f64" : "f32";
  row.bucket = bucket_of(row, scene, judged);
  return row;
}

/// Arms that did not compute the same thing have no norm to blame; those of other weights only where an op was found guilty.
void refuse_unlike(const LoadedPair& pair, const isolate::ExperimentSpec& spec, bool guilty, const std::string& where) {
  const isolate::RecordIndex in_a(*pair.a), in_b(*pair.b);
  const isolate::Alignment alignment = isolate::align(*pair.a, in_a, *pair.b, in_b, spec, 0);
  std::string why = isolate::other_model(*pair.a, *pair.b, alignment.pairs).value_or("");
  if (why.empty() && alignment.misaligned && pair.exp != "E0") why = alignment.misaligned->detail;
  if (why.empty() && !guilty) why = isolate::other_weights(*pair.a, *pair.b, alignment.pairs).value_or("");
  if (!why.empty()) fail("{}: prompt {}: {}; no norm is to blame", where, pair.prompt_id, why);
}

std::string cell(const std::optional<double>& value) { return value ? report::python_repr(*value) : "None"; }
std::string cell(const std::optional<bool>& value) { return value ? (*value ? "true" : "false") : "None"; }

std::string_view name_of(const std::optional<audit::Bucket>& bucket) { return bucket ? audit::name(*bucket) : "None"; }

std::string table(const std::vector<NormRow>& rows) {
  std::string out =
      "B3.42 RMSNorm root cause\n"
      "prompt\tinput_mae\tweight_mae\toutput_mae\teps_match\tsumsq_delta\tinv_rms_delta\tinput_producer_match\tinput_row_"
      "match\t"
      "weight_hash_match\tstorage_dtype\taccum_dtype\tbucket\n";
  for (const NormRow& r : rows)
    out +=
        fmt::format("{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n", r.prompt, cell(r.input_mae), cell(r.weight_mae),
                    cell(r.output_mae), cell(r.eps_match), cell(r.sumsq_delta), cell(r.inv_rms_delta), cell(r.producer_match),
                    cell(r.row_match), cell(r.weight_hash_match), r.storage, r.accumulator, name_of(r.bucket));
  return out;
}

/// One line an arm.
std::string jsonl(const NormRow& row) {
  std::string out;
  for (const auto& [arm, side] : {std::pair("a", &row.a), std::pair("b", &row.b)}) {
    json::ObjectWriter line(out);
    line.field("event", "rmsnorm_audit").field("prompt_id", row.prompt).field("exp", row.exp).field("arm", arm);
    line.field("stage", name(row.key.stage)).field("layer", row.key.layer).field("pos_id", row.key.position);
    if (side->x != nullptr && side->x->producer_stage)
      line.field("input_stage", name(*side->x->producer_stage))
          .field("input_layer", side->x->producer_layer)
          .field("input_row", side->x->producer_position)
          .field("input_buffer", std::int64_t{side->x->buffer})
          .field("input_generation", static_cast<std::int64_t>(side->x->generation));
    if (side->weight != nullptr) line.field("weight", side->weight->name).field("weight_layout", side->weight->layout);
    if (side->eps) line.field("eps", *side->eps);
    if (side->sum_of_squares) line.field("sumsq", *side->sum_of_squares);
    if (side->inv_rms) line.field("inv_rms", *side->inv_rms);
    line.field("route", side->record->route).field("bucket", name_of(row.bucket));
    line.field("input", side->input).field("output", side->record->print.sample);
    line.end();
    out += '\n';
  }
  return out;
}

int run(const Options& options) {
  const fs::path directory = options.dir, folder = options.out.empty() ? directory : fs::path(options.out);
  const LoadedCaptures loaded = load_traces(directory, {});
  SceneModels models(directory, options.model);
  std::map<std::string, SearchedScene> scenes;
  const Gguf* file = nullptr;
  for (StoredScene& one : read_scenes(directory)) {
    if (one.scene.other) continue;
    file = &models.file(one);
    std::string missing;
    std::vector<audit::Explained> found = search_scene(one.scene, *file, missing);
    const std::string prompt = one.scene.at.prompt;
    scenes.insert_or_assign(prompt, SearchedScene{std::move(one.scene), std::move(found), std::move(missing)});
  }
  // Beside scenes, an agreement says that every norm is right.
  const bool judged = !scenes.empty() || verdict_written(directory) == isolate::Verdict::agree;
  std::vector<NormRow> rows;
  for (const LoadedPair& pair : loaded.pairs) {
    if (!pair.a || !pair.b) fail("{}: prompt {}: the records of one arm are missing", directory.string(), pair.prompt_id);
    const auto scene = scenes.find(pair.prompt_id);
    refuse_unlike(pair, experiment_of(loaded), scene != scenes.end(), directory.string());
    rows.push_back(audit_norm(pair, scene == scenes.end() ? nullptr : &scene->second, file, judged));
  }
  fs::create_directories(folder);
  for (const NormRow& row : rows)
    atomic_write_file(folder / fmt::format("b3_42_rmsnorm_{}_{}.jsonl", row.prompt, row.exp.empty() ? "E1" : row.exp),
                      jsonl(row));
  atomic_write_file(folder / "b3_42_analysis.txt", table(rows));
  fmt::print("{}", table(rows));
  const bool blamed = std::any_of(rows.begin(), rows.end(),
                                  [](const NormRow& row) { return row.bucket && *row.bucket != audit::Bucket::none; });
  return blamed ? 1 : 0;
}

}  // namespace

void add_audit_rmsnorm(CLI::App& audit, Program& program) {
  auto o = std::make_shared<Options>();
  auto* verb = audit.add_subcommand(
      "rmsnorm", "The RMSNorm at the first mismatch of a run: input, weight, epsilon, statistics, bucket (B3.42)");
  verb->add_option("dir", o->dir, "Run directory")->required();
  verb->add_option("--out", o->out, "Directory for b3_42_analysis.txt and b3_42_rmsnorm_*.jsonl (default: the run's)");
  verb->add_option("--model", o->model, "Model file of the run, where it is no longer at its place");
  verb->callback([o, &program] { program.action = [o] { return run(*o); }; });
}

}  // namespace greta::cli
