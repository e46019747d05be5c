// Weights as the forward pass hands them to its ops, read through windows of an audit's own.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "audit/contract.h"
#include "audit/op_graph.h"
#include "audit/row_case.h"
#include "cli/self_audit.h"
#include "engine/workspace.h"
#include "ops/ops.h"

namespace greta::cli {

/// How one tensor was read at one place.
struct WindowResult {
  std::string tensor;
  Stage stage = Stage::x_in;
  int layer = 0;
  audit::TensorShape shape;
  int windows = 0;        // inputs with which the op was called
  double ratio = 0;       // the largest of an output's error to its bound
  bool all_zero = false;  // the tensor holds nothing else
  std::string finding;    // in one line; empty: read as the file means it
};

/// Passes a forward pass on to `inner` and, at every op that reads a weight, calls the same op of the suspect arm with the same
/// weight on seeded inputs: several rows at once labelled prefill, and single ones labelled decode. The outputs are held to
/// what the file's tensor gives, which is found by the stage's name in the contract, not by the view.
///
/// Matrices see one-hot inputs (first and last column, both sides of block borders, seeded ones; each moved to the next column
/// that is not all zero) and dense ones, and every output is judged, so every row of the matrix. Tables give rows: the first,
/// the last, seeded ones.
class WindowOps final : public Ops {
 public:
  /// Rows of a call at most.
  static constexpr std::int32_t kRows = 8;

  WindowOps(Ops& inner, ArmOps& suspect, const Plan& plan, audit::Contract contract)
      : inner_(inner), suspect_(suspect), plan_(plan), contract_(contract) {}
  const std::vector<WindowResult>& results() const { return results_; }

  void begin_step(const StepInfo& step, const RouteTable& routes) override { inner_.begin_step(step, routes); }
  void embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens, double scale,
             TensorView out) override;
  void rmsnorm(const OpSite& site, const TensorView& x, const WeightView& weight, double eps, TensorView out) override;
  void matmul(const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
              TensorView out) override;
  void rope(const OpSite& site, const TensorView& x, const RopeParams& params, std::span<const std::int32_t> positions,
            TensorView out) override {
    inner_.rope(site, x, params, positions, out);
  }
  void kv_write(const OpSite& site, const TensorView& x, KvPart part, KvView& kv) override {
    inner_.kv_write(site, x, part, kv);
  }
  void kv_shift(const OpSite& site, const KvShift& shift, KvView& kv) override { inner_.kv_shift(site, shift, kv); }
  void qk(const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv, TensorView out) override {
    inner_.qk(site, q, params, kv, out);
  }
  void softmax(const OpSite& site, const TensorView& scores, const AttentionParams& params, TensorView out) override {
    inner_.softmax(site, scores, params, out);
  }
  void pv(const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv, TensorView out) override {
    inner_.pv(site, probs, params, kv, out);
  }
  void add(const OpSite& site, const TensorView& a, const TensorView& b, TensorView out) override {
    inner_.add(site, a, b, out);
  }
  void act_mul(const OpSite& site, Activation act, const TensorView& gate, const TensorView& up, TensorView out) override {
    inner_.act_mul(site, act, gate, up, out);
  }
  void softcap(const OpSite& site, const TensorView& x, double cap, TensorView out) override {
    inner_.softcap(site, x, cap, out);
  }
  void quantize(const OpSite& site, const TensorView& x, TensorView out) override { inner_.quantize(site, x, out); }
  TensorView handoff(const OpSite& site, const TensorView& x) override { return inner_.handoff(site, x); }

 private:
  using Windows = std::vector<std::vector<double>>;
  /// A call of the op under `phase` on some windows: what it read and wrote, as float64.
  struct Call {
    Windows read, wrote;
  };
  using Op = std::function<void(const OpSite& site, const TensorView& x, const TensorView& out)>;

  /// Opens the result of a tensor; nullptr where the contract knows no such stage or tensor, which is a finding.
  WindowResult* open(const OpSite& site, const WeightView& weight, const std::string& tensor, OpKind op);
  /// `like` says how the forward pass holds the op's input: its type, and the stage of its codes.
  Call call(Phase phase, const OpSite& like_site, const TensorView& like, const Windows& windows, std::int64_t n_out,
            const Op& op);
  void judge(WindowResult& result, Phase phase, const audit::Estimate& due, const std::vector<double>& wrote);
  /// Both phases of a product with `windows`.
  void products(WindowResult& result, const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
                const audit::Op& op, const Windows& windows, std::int64_t n_out);
  Windows windows_of(const audit::Op& op, WindowResult& result) const;
  std::string_view route(OpKind op) const { return name(plan_.routes(1)[op]); }

  Ops& inner_;
  ArmOps& suspect_;
  const Plan& plan_;
  audit::Contract contract_;
  std::vector<WindowResult> results_;
  Buffer in_{0}, codes_{1}, out_{2};
};

}  // namespace greta::cli
