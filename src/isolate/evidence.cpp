#include "isolate/evidence.h"

#include <fmt/format.h>

namespace greta::isolate {
namespace {

std::string describe(const OperandRecord& operand) {
  switch (operand.kind) {
    case OperandKind::scalar:
      return fmt::format("{}", operand.value);
    case OperandKind::weight:
      return fmt::format("{} {} {}", operand.name, operand.dtype ? name(*operand.dtype) : "?", operand.layout);
    case OperandKind::kv:
      if (operand.producer_stage)
        return fmt::format("{} layer {} positions 0..{}", name(*operand.producer_stage), operand.producer_layer,
                           operand.producer_position);
      return "KV slots";
    case OperandKind::activation:
      break;
  }
  if (!operand.producer_stage) return "?";
  return place(*operand.producer_stage, operand.producer_layer, operand.producer_position);
}

bool same_value(const OperandRecord& a, const OperandRecord& b) {
  if (a.kind == OperandKind::scalar) return a.value == b.value;
  return a.hash && b.hash && *a.hash == *b.hash;
}

bool same_origin(const OperandRecord& a, const OperandRecord& b) {
  return a.name == b.name && a.layout == b.layout && a.producer_stage == b.producer_stage &&
         a.producer_layer == b.producer_layer && a.producer_position == b.producer_position;
}

std::optional<StageRow> row_read(const OperandRecord& operand) {
  if (operand.kind != OperandKind::activation || !operand.producer_stage) return std::nullopt;
  return StageRow{*operand.producer_stage, operand.producer_layer, operand.producer_position};
}

}  // namespace

std::vector<OperandEvidence> operand_evidence(const StageRecord& a, const StageRecord& b) {
  std::vector<OperandEvidence> evidence;
  for (const OperandRecord& of_a : a.operands) {
    for (const OperandRecord& of_b : b.operands) {
      if (of_a.kind != of_b.kind || of_a.argument != of_b.argument) continue;
      OperandEvidence one;
      one.name = of_a.argument;
      one.equal = same_value(of_a, of_b);
      one.same_origin = same_origin(of_a, of_b);
      one.b_is_what_was_written = !of_b.hash || !of_b.producer_hash || *of_b.hash == *of_b.producer_hash;
      one.a = describe(of_a);
      one.b = describe(of_b);
      one.read_a = row_read(of_a);
      one.read_b = row_read(of_b);
      if (one.read_a) one.due = StageRow{one.read_a->stage, one.read_a->layer, b.position};
      evidence.push_back(std::move(one));
      break;
    }
  }
  return evidence;
}

Mismatch to_mismatch(const Finding& finding, bool with_operands) {
  const StageRecord& a = *finding.pair.a;
  const StageRecord& b = *finding.pair.b;
  Mismatch mismatch;
  mismatch.stage = b.stage;
  mismatch.layer = b.layer;
  mismatch.position = b.position;
  mismatch.step = b.step;
  mismatch.reread = finding.pair.reread;
  mismatch.above_threshold = finding.above;
  mismatch.difference = finding.difference;
  mismatch.route_a = a.route;
  mismatch.route_b = b.route;
  if (with_operands) mismatch.operands = operand_evidence(a, b);
  return mismatch;
}

}  // namespace greta::isolate
