#include "isolate/gate_config.h"

#include <fmt/format.h>

#include <algorithm>

#include "isolate/toml_table.h"
#include "trace/file_io.h"

namespace greta::isolate {
namespace {

constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 20;
constexpr std::size_t kMaxPromptFiles = 4096;
constexpr std::string_view kOfBaseline = "_vs_baseline";
constexpr std::array<std::string_view, 5> kNames = {"p99", "max", "top1_agreement", "kl", "kl_max"};

/// Not empty, and nothing that would cut a path short.
void check_path(const std::string& text, std::string_view key, const std::string& where) {
  if (text.empty()) fail("{}: {} is empty; name a file or leave it out", where, key);
  if (text.find('\0') != std::string::npos) fail("{}: {} = {} has a NUL, which no path can have", where, key, quote(text));
}

/// The strings of an array; nothing where the key is missing.
std::vector<std::string> strings(const TomlTable& keys, std::string_view key) {
  std::vector<std::string> out;
  const toml::node* node = keys.node(key);
  if (node == nullptr) return out;
  const toml::array* array = node->as_array();
  if (array == nullptr) fail("{}: {} (line {}) is not an array of strings", keys.where(), key, node->source().begin.line);
  if (array->size() > kMaxPromptFiles)
    fail("{}: {} has {} elements, more than the {} that are read", keys.where(), key, array->size(), kMaxPromptFiles);
  for (const toml::node& one : *array) {
    const auto text = one.value_exact<std::string>();
    if (!text || text->empty()) fail("{}: {}[{}] is not a string with text", keys.where(), key, out.size());
    out.push_back(*text);
  }
  return out;
}

std::filesystem::path path_of(const TomlTable& keys, std::string_view key, const std::filesystem::path& directory) {
  const auto text = keys.text(key);
  if (!text) return {};
  check_path(*text, key, keys.where());
  return directory / *text;
}

void parse_allow(const TomlTable& keys, GateConfig& config) {
  std::vector<std::string_view> known;
  for (const Reason reason : kAllowable) known.push_back(name(reason));
  for (const std::string& text : strings(keys, "allow")) {
    const auto met = std::find(known.begin(), known.end(), text);
    if (met == known.end()) fail("{}: allow: {} cannot be allowed{}", keys.where(), quote(text), suggestion(text, known));
    config.allow.push_back(kAllowable[static_cast<std::size_t>(met - known.begin())]);
  }
}

void parse_limits(const toml::table& table, const std::string& where, GateConfig& config) {
  std::vector<std::string> all(kNames.begin(), kNames.end());
  for (const std::string_view figure : kNames) all.push_back(std::string(figure).append(kOfBaseline));
  const std::vector<std::string_view> known(all.begin(), all.end());
  const TomlTable keys(table, where, known);
  for (const Figure figure : kFigures)
    for (const bool of_baseline : {false, true}) {
      const std::string key = std::string(name(figure)).append(of_baseline ? kOfBaseline : "");
      const auto value = keys.number(key);
      if (!value) continue;
      if (is_least(figure) && *value > 1)
        fail("{}: {} = {} is more than 1, which no fraction of positions can reach; use 0 to 1", where, key, *value);
      config.limits.push_back({figure, of_baseline, *value});
    }
}

void parse_comparison(const TomlTable& keys, const std::filesystem::path& directory, GateConfig& config) {
  config.run = path_of(keys, "run", directory);
  config.experiment = path_of(keys, "experiment", directory);
  config.model = path_of(keys, "model", directory);
  for (const std::string& file : strings(keys, "prompt_files")) {
    check_path(file, "prompt_files", keys.where());
    config.prompt_files.push_back(directory / file);
  }
  config.prompt = keys.text("prompt");
  config.arm_a = keys.text("arm_a").value_or("");
  config.arm_b = keys.text("arm_b").value_or("");
  config.layers = keys.text("layers").value_or("");
  config.stages = keys.text("stages").value_or("");
  config.span = static_cast<int>(keys.integer("span", 1, 4096).value_or(0));
  config.bounds = keys.boolean("bounds").value_or(true);
  if (config.run.empty()) return;
  for (const std::string_view key :
       {"experiment", "model", "prompt_files", "prompt", "arm_a", "arm_b", "layers", "stages", "span", "bounds"})
    if (keys.node(key) != nullptr)
      fail("{}: run names a comparison that has been computed, so {} has no use; leave one of the two out", keys.where(), key);
}

void check(const GateConfig& config, std::string_view where) {
  for (const Limit& limit : config.limits)
    if (limit.of_baseline && config.baseline.empty())
      fail("{}: thresholds: {}{} needs a baseline; add baseline = \"FILE.json\" to [gate]", where, name(limit.figure),
           kOfBaseline);
  if (!config.allow.empty() && config.limits.empty())
    fail("{}: allow lets {} pass and there are no [thresholds], so nothing would be held to anything; add one", where,
         name(config.allow.front()));
}

}  // namespace

std::string_view name(Figure figure) { return kNames[static_cast<std::size_t>(figure)]; }

GateConfig parse_gate(std::string_view text, std::string_view where, const std::filesystem::path& directory) {
  constexpr std::array<std::string_view, 2> kTables = {"gate", "thresholds"};
  constexpr std::array<std::string_view, 14> kKeys = {"id",     "experiment", "run",      "model",  "prompt_files",
                                                      "prompt", "arm_a",      "arm_b",    "layers", "stages",
                                                      "span",   "bounds",     "baseline", "allow"};
  const toml::table root = parse_toml(text, where);
  const TomlTable tables(root, std::string(where), kTables);
  const toml::table* gate = tables.table("gate");
  if (gate == nullptr) fail("{}: no [gate]; add it with id and what to compare", where);
  const TomlTable keys(*gate, std::string(where) + ": gate", kKeys);
  GateConfig config;
  const auto id = keys.text("id");
  if (!id) fail("{}: gate: no id; add id = \"NAME\", which names the gate in every report", where);
  check_id(*id, keys.where());
  config.id = *id;
  config.directory = directory;
  parse_comparison(keys, directory, config);
  config.baseline = path_of(keys, "baseline", directory);
  parse_allow(keys, config);
  if (const toml::table* limits = tables.table("thresholds"))
    parse_limits(*limits, std::string(where) + ": thresholds", config);
  check(config, where);
  return config;
}

GateConfig load_gate(const std::filesystem::path& file) {
  return parse_gate(read_file(file, kMaxBytes), file.string(), file.parent_path());
}

}  // namespace greta::isolate
