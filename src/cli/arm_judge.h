// Holds one arm, op by op, to float64 results of what its ops read.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "audit/examine.h"
#include "cli/aligned_run.h"
#include "cli/file_contract.h"
#include "isolate/local.h"

namespace greta::cli {

class ArmJudge {
 public:
  /// `right`: rows of the runs to come that get their right values. What their ops read does not count then.
  ArmJudge(const Model& model, const ArmSpec& spec, RightRows right = {})
      : spec_(spec),
        contract_(contract_of(model)),
        tensors_(*model.file),
        n_layers_(model.config.n_layers),
        right_(std::move(right)) {}

  /// Judges rows at `positions` of the layers of `group`, and with the last layer those of the head.
  void judge(const WholeRun& run, const std::vector<std::int32_t>& group, const std::vector<int>& positions);
  /// Rows at `positions` of these places, ordered by layer, and what was read in their layers.
  void judge_places(const WholeRun& run, const std::vector<audit::Place>& places, const std::vector<int>& positions);
  /// Positions that are compared and whose rows are not judged.
  void leave_out(int positions, std::string why);

  isolate::LocalJudgement result() const;
  /// All rows that no rounding explains, or that are not what was written when they were read.
  RightRows guilty() const;
  std::int64_t unjudged() const { return sum_.unjudged; }

 private:
  using Order = std::tuple<int, int, Stage, int>;  // step, layer, stage, position

  void add(audit::Place place, int position, double ratio, std::string what, std::optional<int> at_step);
  std::int64_t weights_of(const audit::Rows& rows, audit::Place place) const;
  void add_reads(const Capture& capture, int layer);

  const ArmSpec& spec_;
  audit::ModelContract contract_;
  FileTensors tensors_;
  int n_layers_;
  RightRows right_;
  audit::Examination sum_;
  std::map<RecordKey, int> steps_;
  std::map<Order, isolate::LocalFinding> findings_;
};

}  // namespace greta::cli
