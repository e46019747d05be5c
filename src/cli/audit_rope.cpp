// `greta audit rope`: the rotation at positions up to 131072, held to exact values.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "audit/local_error.h"
#include "audit/row_case.h"
#include "cli/audit_verbs.h"
#include "cli/file_contract.h"
#include "cli/self_audit.h"
#include "engine/forward.h"
#include "engine/workspace.h"
#include "fault/op_call.h"

namespace greta::cli {
namespace {

constexpr std::int32_t kLast = 131072;

/// 0, 1, 2, 4, ... 131072, and the one before it.
std::vector<std::int32_t> positions_to_try() {
  std::vector<std::int32_t> out{0};
  for (std::int32_t p = 1; p <= kLast; p *= 2) out.push_back(p);
  out.insert(out.end() - 1, kLast - 1);
  return out;
}

/// The largest over the elements of all layers, stages and calls at one position.
struct Worst {
  double error = 0, ratio = 0, f32_angle = 0;
  std::string finding;
};

/// What a kernel gives that computes theta^(-2i/n) and the angle in F32, and all else exactly: its largest error.
double f32_angle_error(const std::vector<double>& x, const audit::Rotation& rotation, std::int32_t position,
                       const std::vector<double>& exact) {
  const auto pairs = static_cast<std::size_t>(rotation.n_rot / 2), head_dim = static_cast<std::size_t>(rotation.head_dim);
  const std::size_t step = rotation.interleaved ? 2 : 1, other = rotation.interleaved ? 1 : pairs;
  double worst = 0;
  for (std::size_t i = 0; i < pairs; ++i) {
    const float exponent = -2.0f * static_cast<float>(i) / static_cast<float>(rotation.n_rot);
    const float frequency = std::pow(static_cast<float>(rotation.theta), exponent) / static_cast<float>(rotation.linear_scale) /
                            (rotation.freq_factors.empty() ? 1.0f : rotation.freq_factors[i]);
    const double angle = static_cast<double>(static_cast<float>(position) * frequency);
    const double cosine = std::cos(angle), sine = std::sin(angle);
    for (std::size_t head = 0; head + head_dim <= x.size(); head += head_dim) {
      const std::size_t a = head + i * step, b = a + other;
      worst = std::max(worst, std::fabs(x[a] * cosine - x[b] * sine - exact[a]));
      worst = std::max(worst, std::fabs(x[b] * cosine + x[a] * sine - exact[b]));
    }
  }
  return worst;
}

/// Calls of one layer's rotation of Q or K.
class RopeAudit {
 public:
  RopeAudit(const SelfAudit& audit)
      : audit_(audit),
        contract_(contract_of(*audit.model)),
        arm_(*audit.model, audit.suspect, kLast + 1),
        positions_(positions_to_try()),
        worst_(positions_.size()) {}

  void run(Stage stage, int layer) {
    const ModelConfig& c = audit_.config();
    const int heads = stage == Stage::q_rope ? c.n_heads : c.n_kv_heads;
    SeededNumbers numbers(static_cast<std::uint64_t>(layer) * 2 + (stage == Stage::k_rope ? 1 : 0) + 1);
    const std::vector<double> x = numbers.next(static_cast<std::size_t>(heads) * static_cast<std::size_t>(c.head_dim));
    call(Phase::prefill, stage, layer, 0, positions_.size(), x);
    for (std::size_t i = 0; i < positions_.size(); ++i) call(Phase::decode, stage, layer, i, 1, x);
  }

  void print(AuditTable& table) const {
    for (std::size_t i = 0; i < positions_.size(); ++i) {
      const Worst& worst = worst_[i];
      table.add({positions_[i], number(worst.error), number(worst.ratio), number(worst.f32_angle)}, worst.finding);
    }
  }
  std::vector<std::int64_t> effects() const { return arm_.fault_effects(); }

 private:
  /// One call of `count` positions from the i-th on.
  void call(Phase phase, Stage stage, int layer, std::size_t first, std::size_t count, const std::vector<double>& x) {
    std::vector<RowId> rows;
    for (std::size_t i = first; i < first + count; ++i) rows.push_back({0, positions_[i]});
    const auto width = static_cast<std::int64_t>(x.size());
    const DType dtype = audit_.suspect.plan.activations;
    const TensorView in = in_.next(stage == Stage::q_rope ? Stage::q : Stage::k, layer, dtype, rows, width);
    const TensorView out = out_.next(stage, layer, dtype, rows, width);
    for (std::int64_t r = 0; r < in.n_rows; ++r) store_row(in, r, x);
    arm_.begin_step(phase, rows);
    arm_.ops().rope({stage, layer, rows}, in, rope_of(*audit_.model, layer), std::span(positions_).subspan(first, count), out);
    for (std::size_t r = 0; r < count; ++r)
      judge(phase, stage, layer, first + r, row_as_double(in, static_cast<std::int64_t>(r)),
            row_as_double(out, static_cast<std::int64_t>(r)));
  }

  void judge(Phase phase, Stage stage, int layer, std::size_t i, const std::vector<double>& x,
             const std::vector<double>& actual) {
    const audit::Rotation rotation = audit::rotation_of(contract_, layer);
    audit::RowCase as;
    as.op.op = audit::OpClass::rope;
    as.stored = audit_.suspect.plan.activations;
    const RouteId route = audit_.suspect.plan.routes(1)[OpKind::rope];
    const audit::Arithmetic arithmetic = audit::arithmetic_of(name(route), as);
    const audit::Estimate due = audit::rope(x, rotation, positions_[i], arithmetic);
    const audit::LocalError error = audit::judge(due, actual);
    Worst& worst = worst_[i];
    for (std::size_t e = 0; e < actual.size(); ++e) worst.error = std::max(worst.error, std::fabs(actual[e] - due.value[e]));
    worst.ratio = std::max(worst.ratio, audit::largest_ratio(error));
    worst.f32_angle = std::max(worst.f32_angle, f32_angle_error(x, rotation, positions_[i], due.value));
    if (error.guilty() && worst.finding.empty())
      worst.finding = fmt::format("{} layer {} ({}): {}", name(stage), layer, name(phase), audit::described(error));
  }

  const SelfAudit& audit_;
  audit::ModelContract contract_;
  ArmOps arm_;
  std::vector<std::int32_t> positions_;
  std::vector<Worst> worst_;
  Buffer in_{0}, out_{1};
};

int run(const SelfAuditFlags& flags) {
  const SelfAudit audit(flags);
  check_faults(audit.suspect, *audit.model);
  AuditTable table("rope", {"position", "error", "ratio", "f32_angle"});
  RopeAudit rope(audit);
  for (int layer = 0; layer < audit.config().n_layers; ++layer)
    for (const Stage stage : {Stage::q_rope, Stage::k_rope}) rope.run(stage, layer);
  refuse_idle_faults(audit.suspect, rope.effects(), "");
  rope.print(table);
  if (audit.config().rope_dim < 2) table.cannot_tell("nothing of the model's heads turns");
  table.note(
      fmt::format("error: the largest over {} layers, q_rope and k_rope, one call of all positions and one of each, of "
                  "elements of magnitude 0.25 to 1; ratio: to its rounding bound",
                  audit.config().n_layers));
  table.note("f32_angle: the largest error where theta^(-2i/n) and the angle are computed in F32 and all else is exact");
  if (audit.config().context_length <= kLast)
    table.note(fmt::format("the model's context ends at position {}; the op is asked beyond it all the same",
                           audit.config().context_length - 1));
  return table.finish(flags.json);
}

}  // namespace

void add_audit_rope(CLI::App& audit, Program& program) {
  auto flags = std::make_shared<SelfAuditFlags>();
  auto* verb = audit.add_subcommand("rope", "RoPE's error by position, up to 131072, against exact values");
  flags->add_to(*verb, false);
  verb->callback([flags, &program] { program.action = [flags] { return run(*flags); }; });
}

}  // namespace greta::cli
