#include "isolate/same_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "core/quote.h"

namespace greta::isolate {
namespace {

bool differ(const std::string& a, const std::string& b) { return !a.empty() && !b.empty() && a != b; }

const OperandRecord* find(const StageRecord& record, OperandKind kind, std::string_view argument) {
  const auto found = std::find_if(record.operands.begin(), record.operands.end(),
                                  [&](const OperandRecord& one) { return one.kind == kind && one.argument == argument; });
  return found == record.operands.end() ? nullptr : &*found;
}

/// "blk.0.ffn_norm.weight is f32 in A, f16 in B"; empty: the same, or unknown.
std::string weight_difference(const OperandRecord& a, const OperandRecord& b) {
  if (a.name != b.name) return {};
  const std::string tensor = quote(a.name, 64);
  if (a.dtype && b.dtype && *a.dtype != *b.dtype)
    return fmt::format("{} is {} in A, {} in B", tensor, name(*a.dtype), name(*b.dtype));
  if (a.hash && b.hash && *a.hash != *b.hash) return fmt::format("{} has other bytes in B", tensor);
  return {};
}

/// Detail was kept of the row, so that its operands should be there.
bool detailed(const StageRecord& record) { return !record.reread && !record.print.sample.empty() && !record.route.empty(); }

/// An operand of `whole` that `record` lacks; "any operand" where it has none.
std::optional<std::string> lacks(const StageRecord& record, const StageRecord& whole) {
  if (!detailed(record)) return std::nullopt;
  if (record.operands.empty()) return "its operands";
  if (!detailed(whole) || record.route != whole.route) return std::nullopt;
  for (const OperandRecord& one : whole.operands)
    if (find(record, one.kind, one.argument) == nullptr)
      return fmt::format("operand {} ({})", quote(one.argument, 24), name(one.kind));
  return std::nullopt;
}

}  // namespace

std::optional<std::string> other_model(const Capture& a, const Capture& b, std::span<const RecordPair> pairs) {
  if (differ(a.tokenizer_hash, b.tokenizer_hash))
    return fmt::format("the tokenisers differ (vocabulary {} in A, {} in B): a token id is not the same text in both",
                       quote(a.tokenizer_hash, 16), quote(b.tokenizer_hash, 16));
  if (!a.foreign && !b.foreign && a.n_layers > 0 && b.n_layers > 0 && a.n_layers != b.n_layers)
    return fmt::format("the models differ: {} layers in A, {} in B", a.n_layers, b.n_layers);
  for (const RecordPair& pair : pairs) {
    const Fingerprint& of_a = pair.a->print;
    const Fingerprint& of_b = pair.b->print;
    if (pair.a->stage != Stage::x_in || !of_a.whole_row || !of_b.whole_row || of_a.count == of_b.count) continue;
    return fmt::format("the shapes differ: {} has {} elements in A, {} in B",
                       place(Stage::x_in, pair.a->layer, pair.a->position), of_a.count, of_b.count);
  }
  return std::nullopt;
}

std::optional<std::string> other_weights(const Capture& a, const Capture& b, std::span<const RecordPair> pairs) {
  if (!a.model_hash.empty() && a.model_hash == b.model_hash) return std::nullopt;
  std::set<std::string_view> met, differing;
  std::string first;
  for (const RecordPair& pair : pairs) {
    for (const OperandRecord& of_a : pair.a->operands) {
      const OperandRecord* of_b = of_a.kind == OperandKind::weight ? find(*pair.b, of_a.kind, of_a.argument) : nullptr;
      if (of_b == nullptr || of_a.name != of_b->name) continue;
      met.insert(of_a.name);
      std::string difference = weight_difference(of_a, *of_b);
      if (difference.empty()) continue;
      differing.insert(of_a.name);
      if (first.empty()) first = std::move(difference);
    }
  }
  if (!differing.empty())
    return fmt::format("{} of {} weights that both arms read differ: {}", differing.size(), met.size(), first);
  if (met.empty() && differ(a.model_hash, b.model_hash))
    return fmt::format("the model files differ ({} in A, {} in B)", quote(a.model_hash, 16), quote(b.model_hash, 16));
  return std::nullopt;
}

std::optional<std::string> missing_operand(const Capture& a, const Capture& b, std::span<const RecordPair> pairs) {
  if (a.foreign || b.foreign) return std::nullopt;
  for (const RecordPair& pair : pairs) {
    auto lost = lacks(*pair.a, *pair.b);
    const bool in_a = lost.has_value();
    if (!in_a) lost = lacks(*pair.b, *pair.a);
    if (lost)
      return fmt::format("{} lacks {} in {}", place(pair.a->stage, pair.a->layer, pair.a->position), *lost, in_a ? 'A' : 'B');
  }
  return std::nullopt;
}

}  // namespace greta::isolate
