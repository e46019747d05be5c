#include "report/gate_baseline.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/quote.h"
#include "trace/field.h"
#include "trace/file_io.h"
#include "trace/json.h"

namespace greta::report {
namespace {

using Json = nlohmann::ordered_json;
using isolate::Figure;
using isolate::PromptFigures;

constexpr std::uint64_t kMaxBytes = std::uint64_t{64} << 20;

PromptFigures parse_prompt(const json::Value& object, const std::string& where) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  trace::Fields fields(object);
  PromptFigures out;
  const std::string* id = fields.text("id");
  if (id == nullptr) fail("{}: no id; write the baseline again with --write-baseline", where);
  out.id = *id;
  fields.integer_into("rows", out.rows, 0, kMost);
  fields.integer_into("lower_bound", out.lower_bound, 0, kMost);
  fields.integer_into("positions", out.positions, 0, kMost);
  for (const Figure figure : isolate::kFigures) {
    const auto value = fields.number(name(figure));
    if (value && !(std::isfinite(*value) && *value >= 0))
      fail("{}: {} is {}, no finite number >= 0; write the baseline again with --write-baseline", where, name(figure), *value);
    isolate::figure_of(out, figure) = value;
  }
  if (!fields.ok()) fail("{}: {}", where, fields.error());
  return out;
}

/// The elements of an array that may not be empty.
const json::Value::Array& elements(const json::Value& object, const char* key, const std::string& where) {
  const json::Value* member = object.find(key);
  if (member == nullptr || member->array() == nullptr)
    fail("{}: {} is no array of objects with one or more; write the baseline again with --write-baseline", where, key);
  return *member->array();
}

std::string text_of(const json::Value& object, const char* key, const std::string& where) {
  const json::Value* member = object.find(key);
  if (member == nullptr || member->string() == nullptr)
    fail("{}: {} is no text; write the baseline again with --write-baseline", where, key);
  return *member->string();
}

}  // namespace

std::string baseline_json(const isolate::GateOutcome& gate) {
  Json comparison = Json::array();
  for (const auto& [what, is] : gate.run.identity) comparison.push_back({{"what", what}, {"is", is}});
  Json prompts = Json::array();
  for (const isolate::GatePrompt& prompt : gate.run.prompts) {
    const PromptFigures& figures = prompt.figures;
    Json one = {
        {"id", prompt.id}, {"rows", figures.rows}, {"lower_bound", figures.lower_bound}, {"positions", figures.positions}};
    for (const Figure figure : isolate::kFigures) {
      const auto value = isolate::figure_of(figures, figure);
      if (value && !std::isfinite(*value))
        fail("prompt {}: {} is {}, which no later run can be held to; no baseline is written", quote(prompt.id), name(figure),
             *value);
      one[std::string(name(figure))] = value ? Json(*value) : Json();
    }
    prompts.push_back(one);
  }
  const Json document = {{"schema", 1},
                         {"gate", gate.id},
                         {"model_hash", gate.run.model_hash},
                         {"build", gate.run.build},
                         {"date", gate.run.date},
                         {"comparison", comparison},
                         {"prompts", prompts}};
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

isolate::Baseline parse_baseline(std::string_view text, const std::string& where) {
  const auto document = json::parse(text, {.depth = 8, .values = 2'000'000});
  if (!document) fail("{}: {}; write the baseline again with --write-baseline", where, document.error());
  const json::Value* schema = document->find("schema");
  if (schema == nullptr || schema->integer() != 1)
    fail("{}: not a baseline of schema 1; write it again with --write-baseline", where);
  isolate::Baseline out;
  out.gate = text_of(*document, "gate", where);
  out.model_hash = text_of(*document, "model_hash", where);
  out.build = text_of(*document, "build", where);
  out.date = text_of(*document, "date", where);
  for (const json::Value& one : elements(*document, "comparison", where))
    out.identity.emplace_back(text_of(one, "what", where + ": comparison"), text_of(one, "is", where + ": comparison"));
  std::set<std::string> ids;
  for (const json::Value& one : elements(*document, "prompts", where)) {
    out.prompts.push_back(parse_prompt(one, fmt::format("{}: prompts[{}]", where, out.prompts.size())));
    if (!ids.insert(out.prompts.back().id).second) fail("{}: prompt {} stands twice", where, quote(out.prompts.back().id));
  }
  return out;
}

isolate::Baseline load_baseline(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error))
    fail("baseline {}: there is none; write one with --write-baseline", quote(file.string(), 400));
  return parse_baseline(read_file(file, kMaxBytes), file.string());
}

}  // namespace greta::report
