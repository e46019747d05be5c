#include "trace/jsonl_events.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "core/quote.h"
#include "trace/field.h"
#include "trace/fingerprint.h"
#include "trace/logits_json.h"

namespace greta::trace {
namespace {

constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMaxInt64 = std::numeric_limits<std::int64_t>::max();

tl::expected<Place, Refusal> parse_place(Fields& fields) {
  Place place;
  if (const std::string* text = fields.text("prompt_id")) place.prompt_id = *text;
  if (const std::string* text = fields.text("exp")) place.exp = *text;
  const std::string* phase = fields.text("phase");
  if (phase == nullptr && fields.ok()) return tl::unexpected(Refusal{IssueKind::missing_field, "no field 'phase'"});
  const auto label = phase == nullptr ? std::nullopt : parse_phase(*phase);
  if (phase != nullptr && !label)
    fields.wrong("phase", "prefill, prefill_last, decode0, decode1, …; it says " + quote(*phase, 24));
  if (label) place.phase = *label;
  place.arm = place.phase.phase == Phase::prefill ? 'a' : 'b';
  if (const std::string* arm = fields.text("arm")) {
    if (*arm == "a" || *arm == "A") {
      place.arm = 'a';
    } else if (*arm == "b" || *arm == "B") {
      place.arm = 'b';
    } else {
      fields.wrong("arm", "\"a\" or \"b\"");
    }
  }
  if (const auto position = fields.integer("pos_id", 0, kMaxPosition)) place.position = static_cast<std::int32_t>(*position);
  const auto total = fields.int32("tokens_total", 1);
  const auto index = fields.int32("token_index", std::numeric_limits<std::int32_t>::min());
  if (!place.position) {
    if (total && (place.phase.last || place.phase.phase == Phase::decode)) place.position = *total - 1;
    if (!place.position && index && *index >= 0 && *index <= kMaxPosition && place.phase.phase == Phase::prefill &&
        !place.phase.last)
      place.position = index;
  }
  // Who does not count forward calls: the prefill is the first, decodeK the K-th after it.
  place.step = place.phase.phase == Phase::prefill ? 0 : std::max(place.phase.decode, 0) + 1;
  fields.integer_into("step", place.step, 0, kMaxInt32);
  if (!fields.ok()) return tl::unexpected(Refusal{IssueKind::unreadable, fields.error()});
  return place;
}

std::optional<Hash128> hash_field(Fields& fields, std::string_view key) {
  const std::string* text = fields.text(key);
  if (text == nullptr) return std::nullopt;
  const auto hash = hash_from_hex(*text);
  if (!hash) fields.wrong(key, "32 hexadecimal digits");
  return hash;
}

/// The slice; a null in it is a NaN, as some JSON writers print it.
std::vector<double> parse_sample(Fields& fields, const json::Value& object) {
  const json::Value* sample = object.find("sample");
  if (sample == nullptr || std::holds_alternative<std::monostate>(sample->value)) return {};
  if (sample->numbers() != nullptr) return *sample->numbers();
  std::vector<double> out;
  if (sample->array() == nullptr) {
    fields.wrong("sample", "an array of numbers");
    return out;
  }
  for (const json::Value& item : *sample->array()) {
    const bool is_null = std::holds_alternative<std::monostate>(item.value);
    const auto number = is_null ? std::optional(std::numeric_limits<double>::quiet_NaN()) : item.number();
    if (!number) {
      fields.wrong("sample", "an array of numbers");
      break;
    }
    out.push_back(*number);
  }
  return out;
}

OperandRecord parse_operand(const json::Value& object, Fields& outer) {
  OperandRecord operand;
  Fields fields(object);
  const std::string* kind = fields.text("kind");
  const auto known = kind == nullptr ? std::nullopt : operand_kind_from_name(*kind);
  if (!known) fields.wrong("kind", "activation, weight, kv or scalar");
  operand.kind = known.value_or(OperandKind::scalar);
  if (const std::string* text = fields.text("argument")) operand.argument = *text;
  if (const std::string* text = fields.text("name")) operand.name = *text;
  if (const std::string* text = fields.text("layout")) operand.layout = *text;
  if (const std::string* text = fields.text("stage")) {
    operand.producer_stage = stage_from_name(*text);
    if (!operand.producer_stage) fields.wrong("stage", "a stage of greta");
  }
  if (const std::string* text = fields.text("dtype")) {
    operand.dtype = dtype_from_name(*text);
    if (!operand.dtype) fields.wrong("dtype", "a dtype of greta");
  }
  fields.integer_into("layer", operand.producer_layer, -1, kMaxLayer);
  fields.integer_into("pos_id", operand.producer_position, -1, kMaxInt32);
  fields.integer_into("buffer", operand.buffer, 0, std::numeric_limits<std::uint32_t>::max());
  fields.integer_into("generation", operand.generation, std::numeric_limits<std::int64_t>::min(), kMaxInt64);
  fields.number_into("value", operand.value);
  operand.hash = hash_field(fields, "hash");
  operand.producer_hash = hash_field(fields, "producer_hash");
  if (!fields.ok()) outer.wrong("operands", "operands as docs/formats.md has them (" + fields.error() + ")");
  return operand;
}

/// Fills what the line says of its row, and what it leaves out from the slice.
void parse_print(Fields& fields, const json::Value& object, TraceLine& line) {
  Fingerprint& print = line.record.print;
  std::vector<double> sample = parse_sample(fields, object);
  const auto said = fields.integer("sample_n", 0, kMaxInt64);
  if (said && *said != static_cast<std::int64_t>(sample.size()))
    line.remarks.push_back(
        {IssueKind::missing_field, fmt::format("sample_n says {}, the sample holds {}", *said, sample.size())});
  const auto count = fields.integer("count", 0, kMaxInt32);
  const bool slice_is_row = count && *count == static_cast<std::int64_t>(sample.size());
  print = fingerprint_of_slice(sample, {.sample = kMaxInt64, .sketch = slice_is_row});
  const json::Value* hash = object.find("hash");
  const auto known = hash != nullptr && hash->string() != nullptr ? hash_from_hex(*hash->string()) : std::nullopt;
  if (known) print.hash = *known;
  if (!known && hash != nullptr && !std::holds_alternative<std::monostate>(hash->value))
    line.remarks.push_back({IssueKind::unused, "hashes that are not 32 hexadecimal digits: the slices' are taken instead"});
  print.whole_row = known || slice_is_row;
  print.count = count.value_or(print.count);
  fields.number_into("min", print.min);
  fields.number_into("max", print.max);
  fields.number_into("mean", print.mean);
  fields.number_into("rms", print.rms);
  fields.number_into("abs_sum", print.abs_sum);
  fields.integer_into("nan", print.nan, 0, kMaxInt64);
  fields.integer_into("inf", print.inf, 0, kMaxInt64);
  if (const auto non_zero = fields.integer("nz_count", 0, kMaxInt64); non_zero && count)
    print.zero = std::max<std::int64_t>(*count - *non_zero, 0);
  if (const json::Value::Numbers* sketch = fields.numbers("sketch")) {
    if (!sketch->empty() && sketch->size() != kSketchWidth) fields.wrong("sketch", fmt::format("{} numbers", kSketchWidth));
    print.sketch = *sketch;
  }
}

/// Stage and layer; false where the point is unknown.
bool parse_point(Fields& fields, const std::string& point, const NameMap& names, TraceLine& line) {
  const auto match = names.find(point);
  if (!match) return false;
  StageRecord& record = line.record;
  record.stage = match->stage;
  // Stages that exist once a token may carry any layer, or none: it is set when the number of layers is known.
  const auto said = fields.integer("layer", once_per_token(match->stage) ? -kMaxLayer : 0, kMaxLayer);
  if (once_per_token(match->stage)) {
    record.layer = 0;
  } else if (match->layer) {
    record.layer = *match->layer;
    if (*match->layer > kMaxLayer) fields.wrong("point", fmt::format("a layer up to {} in it", kMaxLayer));
  } else if (said) {
    record.layer = static_cast<std::int32_t>(*said);
  } else {
    line.remarks.push_back({IssueKind::missing_field, "no field 'layer': layer 0 is assumed"});
  }
  return true;
}

}  // namespace

std::optional<PhaseLabel> parse_phase(std::string_view text) {
  if (text == "prefill") return PhaseLabel{};
  if (text == "prefill_last") return PhaseLabel{Phase::prefill, true, -1};
  constexpr std::string_view decode = "decode";
  if (!text.starts_with(decode)) return std::nullopt;
  const std::string_view digits = text.substr(decode.size());
  PhaseLabel label{Phase::decode, false, -1};
  if (digits.empty()) return label;
  const char* const end = digits.data() + digits.size();
  const auto read = std::from_chars(digits.data(), end, label.decode);
  if (read.ec != std::errc{} || read.ptr != end || label.decode < 0 || label.decode > kMaxPosition) return std::nullopt;
  return label;
}

tl::expected<TraceLine, Refusal> parse_trace(const json::Value& object, const NameMap& names) {
  TraceLine line;
  Fields fields(object);
  const std::string* point = fields.text("point");
  if (point == nullptr)
    return tl::unexpected(fields.ok() ? Refusal{IssueKind::missing_field, "no field 'point'"}
                                      : Refusal{IssueKind::unreadable, fields.error()});
  if (!parse_point(fields, *point, names, line))
    return tl::unexpected(
        Refusal{IssueKind::unknown_point, "no stage is called " + quote(*point) + "; name it in the name map"});
  auto place = parse_place(fields);
  if (!place) return tl::unexpected(place.error());
  line.place = std::move(*place);
  StageRecord& record = line.record;
  record.phase = line.place.phase.phase;
  record.step = line.place.step;
  fields.integer_into("token_id", record.token_id, -1, kMaxInt32);
  record.reread = fields.flag("reread").value_or(false);
  fields.integer_into("offset_bytes", record.offset_bytes, std::numeric_limits<std::int64_t>::min(), kMaxInt64);
  if (const std::string* route = fields.text("route")) record.route = *route;
  if (const std::string* dtype = fields.text("dtype")) {
    record.dtype = dtype_from_name(*dtype);
    if (!record.dtype) line.remarks.push_back({IssueKind::unused, "dtype " + quote(*dtype, 24) + " is none of greta's"});
  }
  if (const std::string* exposure = fields.text("exposure"); exposure != nullptr && *exposure == kNotExposed)
    record.exposure = Exposure::not_exposed;
  if (const json::Value::Array* operands = fields.array("operands"))
    for (const json::Value& operand : *operands) record.operands.push_back(parse_operand(operand, fields));
  if (record.exposure == Exposure::exposed) {
    parse_print(fields, object, line);
    if (fields.ok() && record.print.sample.empty() && !hash_field(fields, "hash"))
      return tl::unexpected(Refusal{IssueKind::missing_field, "neither a sample nor a hash"});
  }
  if (!fields.ok()) return tl::unexpected(Refusal{IssueKind::unreadable, fields.error()});
  return line;
}

tl::expected<LogitsLine, Refusal> parse_logits_line(const json::Value& object) {
  Fields fields(object);
  auto place = parse_place(fields);
  if (!place) return tl::unexpected(place.error());
  auto record = parse_logits(object);
  if (!record) return tl::unexpected(Refusal{IssueKind::unreadable, record.error()});
  LogitsLine line{std::move(*place), *record};
  line.record.phase = line.place.phase.phase;
  line.record.step = line.place.step;
  if (line.record.top1_id < 0 && !line.record.has_hash)
    return tl::unexpected(Refusal{IssueKind::missing_field, "neither top1_id nor logits_hash"});
  return line;
}

}  // namespace greta::trace
