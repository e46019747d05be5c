// Right values put in the place of wrong ones while an arm runs: how a cause is confirmed.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "audit/contract.h"
#include "audit/rows.h"
#include "cli/file_contract.h"
#include "ops/ops.h"
#include "recording/recorder.h"

namespace greta::cli {

/// Rows of sequence 0 whose values are to be what the model file and their inputs say.
using RightRows = std::set<RecordKey>;

/// The outermost decorator of an arm's ops: lets every call run, then overwrites the chosen rows of its output with the float64
/// result of what the op should have read, rounded once to the type in which it is stored. It knows the model file and the rows
/// that the arm itself computed, and of a fault nothing: what the decorators and kernels below do stays as it is. A chosen KV
/// slot that a later step finds changed gets what was written there back.
class SubstitutingOps final : public Ops, private audit::Rows {
 public:
  SubstitutingOps(Ops& inner, const Model& model);
  /// From now on; `tokens` by position, of sequence 0.
  void substitute(RightRows rows, std::vector<std::int32_t> tokens);
  /// Chosen rows that could not be computed, for want of an input: they stayed as they were.
  std::int64_t left() const { return left_; }

  void begin_step(const StepInfo& step, const RouteTable& routes) override;
  void embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens, double scale,
             TensorView out) override;
  void rmsnorm(const OpSite& site, const TensorView& x, const WeightView& weight, double eps, TensorView out) override;
  void matmul(const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
              TensorView out) override;
  void rope(const OpSite& site, const TensorView& x, const RopeParams& params, std::span<const std::int32_t> positions,
            TensorView out) override;
  void kv_write(const OpSite& site, const TensorView& x, KvPart part, KvView& kv) override;
  void kv_shift(const OpSite& site, const KvShift& shift, KvView& kv) override;
  void qk(const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv, TensorView out) override;
  void softmax(const OpSite& site, const TensorView& scores, const AttentionParams& params, TensorView out) override;
  void pv(const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv, TensorView out) override;
  void add(const OpSite& site, const TensorView& a, const TensorView& b, TensorView out) override;
  void act_mul(const OpSite& site, Activation act, const TensorView& gate, const TensorView& up, TensorView out) override;
  void softcap(const OpSite& site, const TensorView& x, double cap, TensorView out) override;
  void quantize(const OpSite& site, const TensorView& x, TensorView out) override;
  TensorView handoff(const OpSite& site, const TensorView& x) override;

 private:
  using Place = std::pair<std::int32_t, Stage>;  // layer, stage
  struct Kept {
    DType dtype = DType::f32;
    OpKind op = OpKind::add;
    std::map<int, std::vector<double>> rows;
    std::map<int, std::vector<std::byte>> slots;  // of the cache, as stored
  };

  std::span<const double> row(Stage stage, int layer, int position) const override;
  std::optional<DType> dtype(Stage stage, int layer) const override;
  std::string_view route(Stage stage, int layer) const override;
  std::vector<int> positions(Stage stage, int layer) const override;

  bool watches(int layer) const { return layers_.contains(layer); }
  bool chosen(const OpSite& site, int position) const { return rows_.contains({position, site.layer, site.stage}); }
  void after(const OpSite& site, OpKind op, const TensorView& out);
  void put_right(const OpSite& site, const TensorView& out, std::int64_t r);
  void keep(const OpSite& site, const TensorView& out, std::int64_t r);
  void keep_earlier_slots(const OpSite& site, KvPart part, KvView& kv);
  void restore_slots(const OpSite& site, KvPart part, KvView& kv);
  Kept& kept(const OpSite& site, OpKind op, DType dtype);

  Ops& inner_;
  audit::ModelContract contract_;
  FileTensors tensors_;
  RightRows rows_;
  std::set<int> layers_;  // whose outputs are kept: those of chosen rows and of their inputs
  std::vector<std::int32_t> tokens_;
  RouteTable routes_{};
  std::map<Place, Kept> kept_;
  std::array<std::vector<std::byte>, 2>
      handed_;  // what hand-overs with chosen rows give, in turn: one may be the next one's input
  std::size_t turn_ = 0;
  std::int64_t left_ = 0;
  int layer_ = -1;  // of the last call
};

}  // namespace greta::cli
