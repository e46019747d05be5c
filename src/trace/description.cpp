// The arm's description and the fields of a logits record: the same in capture.json and in the JSONL.
#include <cmath>
#include <limits>

#include "trace/capture_store.h"
#include "trace/field.h"
#include "trace/fingerprint.h"
#include "trace/logits_json.h"

namespace greta {
namespace {

constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMaxInt64 = std::numeric_limits<std::int64_t>::max();

void text_into(trace::Fields& fields, std::string_view key, std::string& out) {
  if (const std::string* text = fields.text(key)) out = *text;
}

void integers_into(trace::Fields& fields, std::string_view key, std::vector<std::int32_t>& out, std::int32_t min) {
  const json::Value::Numbers* numbers = fields.numbers(key);
  if (numbers == nullptr) return;
  for (const double number : *numbers) {
    if (!(number >= min && number <= static_cast<double>(kMaxInt32)) || number != std::trunc(number))
      return fields.wrong(key, fmt::format("whole numbers from {} to 2^31-1", min));
    out.push_back(static_cast<std::int32_t>(number));
  }
}

void routes_into(trace::Fields& fields, const json::Value& object, std::vector<std::pair<std::string, std::string>>& out) {
  const json::Value* routes = object.find("routes");
  if (routes == nullptr) return;
  if (routes->object() == nullptr) return fields.wrong("routes", "an object of strings");
  for (const auto& [op, route] : *routes->object()) {
    if (route.string() == nullptr) return fields.wrong("routes", "an object of strings");
    out.emplace_back(op, *route.string());
  }
}

}  // namespace

void append_description(json::ObjectWriter& object, const Capture& capture) {
  const std::string arm(1, capture.arm);
  object.field("prompt_id", capture.prompt_id).field("exp", capture.exp).field("arm", arm).field("foreign", capture.foreign);
  object.field("n_prompt", capture.n_prompt).field("n_layers", capture.n_layers).field("tokens", capture.tokens);
  object.field("schedule", capture.schedule);
  object.field("kv_slots_read_from_earlier_steps", capture.kv_slots_read_from_earlier_steps);
  object.field("backend", capture.backend)
      .field("plan", capture.plan)
      .field("build", capture.build)
      .field("host", capture.host);
  if (!capture.device.empty()) object.field("device", capture.device);
  object.field("threads", capture.threads);
  if (!capture.model_hash.empty()) object.field("model_hash", capture.model_hash);
  if (!capture.tokenizer_hash.empty()) object.field("tokenizer_hash", capture.tokenizer_hash);
  json::ObjectWriter routes(object.raw("routes"));
  for (const auto& [op, route] : capture.routes) routes.field(op, route);
  routes.end();
  object.field("fault_planted", capture.fault_planted).field("fault_effects", capture.fault_effects);
}

Result<Capture> parse_description(const json::Value& object) {
  if (object.object() == nullptr) return tl::unexpected(fmt::format("a description is an object, this is {}", object.kind()));
  Capture capture;
  trace::Fields fields(object);
  text_into(fields, "prompt_id", capture.prompt_id);
  text_into(fields, "exp", capture.exp);
  std::string arm;
  text_into(fields, "arm", arm);
  if (arm != "a" && arm != "b") fields.wrong("arm", "\"a\" or \"b\"");
  if (!arm.empty()) capture.arm = arm.front();
  capture.foreign = fields.flag("foreign").value_or(false);
  fields.integer_into("n_prompt", capture.n_prompt, 0, kMaxInt32);
  fields.integer_into("n_layers", capture.n_layers, 0, kMaxInt32);
  integers_into(fields, "tokens", capture.tokens, -1);
  integers_into(fields, "schedule", capture.schedule, 0);
  fields.integer_into("kv_slots_read_from_earlier_steps", capture.kv_slots_read_from_earlier_steps, 0, kMaxInt64);
  text_into(fields, "backend", capture.backend);
  text_into(fields, "plan", capture.plan);
  text_into(fields, "build", capture.build);
  text_into(fields, "host", capture.host);
  text_into(fields, "device", capture.device);
  fields.integer_into("threads", capture.threads, 0, kMaxInt32);
  text_into(fields, "model_hash", capture.model_hash);
  text_into(fields, "tokenizer_hash", capture.tokenizer_hash);
  routes_into(fields, object, capture.routes);
  capture.fault_planted = fields.flag("fault_planted").value_or(false);
  fields.integer_into("fault_effects", capture.fault_effects, 0, kMaxInt64);
  if (!fields.ok()) return tl::unexpected(fields.error());
  return capture;
}

namespace trace {

void append_logits(json::ObjectWriter& object, const LogitsRecord& record) {
  object.field("step", record.step).field("pos_id", record.position).field("token_id", record.token_id);
  if (record.has_hash) object.field("logits_hash", to_hex(record.hash));
  object.field("logits_mean", record.mean).field("logits_min", record.min).field("logits_max", record.max);
  object.field("top1_id", record.top1_id).field("top1_logit", record.top1_logit);
  object.field("top2_id", record.top2_id).field("top2_logit", record.top2_logit);
  object.field("gap", record.top1_logit - record.top2_logit).field("tie", record.tie).field("vocab", record.vocab);
}

Result<LogitsRecord> parse_logits(const json::Value& object) {
  constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
  LogitsRecord record;
  Fields fields(object);
  fields.integer_into("step", record.step, 0, kMaxInt32);
  fields.integer_into("pos_id", record.position, 0, kMaxInt32);
  fields.integer_into("token_id", record.token_id, -1, kMaxInt32);
  record.mean = fields.number("logits_mean").value_or(unknown);
  record.min = fields.number("logits_min").value_or(unknown);
  record.max = fields.number("logits_max").value_or(unknown);
  fields.integer_into("top1_id", record.top1_id, -1, kMaxInt32);
  fields.integer_into("top2_id", record.top2_id, -1, kMaxInt32);
  record.top1_logit = fields.number("top1_logit").value_or(record.top1_id < 0 ? 0 : unknown);
  record.top2_logit = fields.number("top2_logit").value_or(record.top2_id < 0 ? 0 : unknown);
  record.tie = fields.flag("tie").value_or(record.top2_id >= 0 && record.top1_logit == record.top2_logit);
  fields.integer_into("vocab", record.vocab, 0, kMaxInt32);
  const json::Value* hash = object.find("logits_hash");
  const auto found = hash != nullptr && hash->string() != nullptr ? hash_from_hex(*hash->string()) : std::nullopt;
  record.has_hash = found.has_value();
  record.hash = found.value_or(Hash128{});
  if (!fields.ok()) return tl::unexpected(fields.error());
  return record;
}

}  // namespace trace
}  // namespace greta
