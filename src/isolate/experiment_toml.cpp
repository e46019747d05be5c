// Reads an experiment from TOML. An unknown key is an error: a misspelt threshold must not silently leave the default standing.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/nearest.h"
#include "core/quote.h"
#include "core/utf8.h"
#include "isolate/experiment.h"
#include "isolate/toml_table.h"

namespace greta::isolate {
namespace {

constexpr std::uintmax_t kMaxPromptBytes = std::uintmax_t{64} << 20;

std::string read_file(const std::filesystem::path& file, std::string_view what) {
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  if (error) fail("{} '{}': {}; name a readable file", what, file.string(), error.message());
  if (size > kMaxPromptBytes)
    fail("{} '{}' has {} bytes, more than the {} that are read", what, file.string(), size, kMaxPromptBytes);
  std::ifstream stream(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  if (!stream) fail("{} '{}' cannot be read; check its permissions", what, file.string());
  return text;
}

void check_text(std::string_view text, std::string_view where) {
  if (text.empty()) fail("{}: the prompt is empty; give it text", where);
  if (const auto bad = first_invalid_utf8(text)) fail("{}: invalid UTF-8 at byte {}; save it as UTF-8", where, *bad);
}

PromptSpec parse_prompt(const toml::table& table, const std::string& where, const std::filesystem::path& directory) {
  constexpr std::array<std::string_view, 5> kKeys = {"id", "text", "file", "chat", "system"};
  const TomlTable keys(table, where, kKeys);
  const auto text = keys.text("text");
  const auto file = keys.text("file");
  if (text.has_value() == file.has_value()) fail("{}: give exactly one of text and file", where);
  PromptSpec prompt;
  try {
    if (file) prompt = prompt_from_file(directory / *file);
  } catch (const Error& error) {
    fail("{}: {}", where, error.what());
  }
  if (text) prompt.text = *text;
  if (const auto id = keys.text("id")) prompt.id = *id;
  check_id(prompt.id, where);
  check_text(prompt.text, where);
  prompt.chat = keys.boolean("chat").value_or(false);
  prompt.system = keys.text("system");
  if (prompt.system && !prompt.chat) fail("{}: system is the system turn of a chat; add chat = true", where);
  return prompt;
}

std::map<std::string, std::string> parse_arm(const toml::table& table, const std::string& where) {
  constexpr std::array<std::string_view, 11> kKeys = {"model", "backend", "device", "plan",   "kv",   "chunk",
                                                      "batch", "threads", "isa",    "binary", "fault"};
  std::map<std::string, std::string> arm;
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (std::find(kKeys.begin(), kKeys.end(), name) == kKeys.end() && !name.starts_with("route."))
      fail("{}: unknown key {}{}; or route.<op>", where, quote(name), suggestion(name, kKeys));
    if (const auto text = node.value_exact<std::string>()) {
      arm[name] = *text;
    } else if (const auto number = node.value_exact<std::int64_t>()) {
      arm[name] = fmt::format("{}", *number);
    } else {
      fail("{}: {} is neither a string nor a whole number", where, name);
    }
  }
  return arm;
}

void parse_lists(const TomlTable& keys, ExperimentSpec& spec) {
  try {
    if (const auto layers = keys.list("layers", [&](const toml::node& node) {
          if (const auto number = node.value_exact<std::int64_t>()) return fmt::format("{}", *number);
          fail("an element of layers is not a whole number");
        }))
      spec.layers = LayerSelection::parse(*layers);
    if (const auto stages = keys.list("stages", [&](const toml::node& node) {
          if (const auto text = node.value_exact<std::string>()) return *text;
          fail("an element of stages is not a string");
        }))
      spec.stages = parse_stages(*stages);
  } catch (const Error& error) {
    fail("{}: {}", keys.where(), error.what());
  }
}

void parse_prompts(const TomlTable& keys, const std::filesystem::path& directory, ExperimentSpec& spec) {
  const toml::node* node = keys.node("prompts");
  if (node == nullptr) return;
  const toml::array* array = node->as_array();
  if (array == nullptr) fail("{}: prompts is not an array of tables ([[prompts]])", keys.where());
  std::set<std::string> ids;
  for (const toml::node& one : *array) {
    const std::string where = fmt::format("{}: prompts[{}]", keys.where(), spec.prompts.size());
    if (!one.is_table()) fail("{} is not a table", where);
    spec.prompts.push_back(parse_prompt(*one.as_table(), where, directory));
    if (!ids.insert(spec.prompts.back().id).second) fail("{}: id {} is taken", where, quote(spec.prompts.back().id));
  }
}

void parse_tables(const TomlTable& keys, ExperimentSpec& spec) {
  if (const toml::table* table = keys.table("thresholds")) {
    constexpr std::array<std::string_view, 2> kKeys = {"mae", "rel"};
    const TomlTable thresholds(*table, keys.where() + ": thresholds", kKeys);
    spec.thresholds.mae = thresholds.number("mae").value_or(spec.thresholds.mae);
    spec.thresholds.rel = thresholds.number("rel").value_or(spec.thresholds.rel);
  }
  if (const toml::table* table = keys.table("arms")) {
    constexpr std::array<std::string_view, 2> kKeys = {"a", "b"};
    const TomlTable arms(*table, keys.where() + ": arms", kKeys);
    if (const toml::table* arm = arms.table("a")) spec.arm_a = parse_arm(*arm, keys.where() + ": arms.a");
    if (const toml::table* arm = arms.table("b")) spec.arm_b = parse_arm(*arm, keys.where() + ": arms.b");
  }
}

}  // namespace

ExperimentSpec parse_experiment(std::string_view text, std::string_view where, const std::filesystem::path& directory) {
  constexpr std::array<std::string_view, 13> kKeys = {"id",      "title",          "exp",  "layers", "stages",
                                                      "sample",  "span",           "seed", "shift",  "thresholds",
                                                      "prompts", "collapse_token", "arms"};
  const toml::table root = parse_toml(text, where);
  const TomlTable keys(root, std::string(where), kKeys);
  ExperimentSpec spec;
  spec.id = keys.text("id").value_or(spec.id);
  check_id(spec.id, where);
  spec.title = keys.text("title").value_or(spec.id);
  if (const auto mode = keys.text("exp")) {
    const auto parsed = exp_mode_from_name(*mode);
    if (!parsed) fail("{}: exp = {} is neither \"E0\" (as_designed) nor \"E1\" (aligned)", where, quote(*mode));
    spec.exp = *parsed;
  }
  parse_lists(keys, spec);
  spec.sample = keys.integer("sample", 1, std::int64_t{1} << 24).value_or(spec.sample);
  spec.span = static_cast<int>(keys.integer("span", 1, 1 << 16).value_or(spec.span));
  spec.seed = static_cast<std::uint64_t>(keys.integer("seed", 0, std::numeric_limits<std::int64_t>::max()).value_or(41));
  spec.collapse_token = keys.integer("collapse_token", 0, std::numeric_limits<std::int32_t>::max());
  if (const auto shift = keys.text("shift")) {
    try {
      spec.shift = ContextShift::parse(*shift);
    } catch (const Error& error) {
      fail("{}: {}", where, error.what());
    }
  }
  parse_tables(keys, spec);
  parse_prompts(keys, directory, spec);
  return spec;
}

ExperimentSpec load_experiment(const std::filesystem::path& file) {
  ExperimentSpec spec = parse_experiment(read_file(file, "experiment"), file.string(), file.parent_path());
  if (spec.prompts.empty()) fail("{}: no prompts; add [[prompts]] with id and text or file", file.string());
  for (PromptSpec& prompt : spec.prompts)
    for (const PromptSpec& known : builtin_experiment().prompts)
      if (prompt.id == known.id && prompt.text == known.text && prompt.chat == known.chat) prompt.built_in = true;
  return spec;
}

const ExperimentSpec& builtin_experiment() {
  static const ExperimentSpec spec = [] {
    ExperimentSpec parsed = parse_experiment(builtin_experiment_toml(), "built-in experiment", {});
    for (PromptSpec& prompt : parsed.prompts) prompt.built_in = true;
    return parsed;
  }();
  return spec;
}

PromptSpec prompt_from_file(const std::filesystem::path& file) {
  PromptSpec prompt;
  prompt.text = read_file(file, "prompt file");
  prompt.id = file.stem().string();
  check_id(prompt.id, fmt::format("prompt file '{}'", file.string()));
  check_text(prompt.text, fmt::format("prompt file '{}'", file.string()));
  return prompt;
}

}  // namespace greta::isolate
