// The search for a cause: the transform under which right operands give the wrong output.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "audit/contract.h"
#include "audit/row_case.h"
#include "audit/rows.h"

namespace greta::audit {

/// A guilty row and what can explain it.
struct Scene {
  const Contract& contract;
  const Rows& rows;                      // of the arm
  std::span<const std::int32_t> tokens;  // by position
  const RowCase& right;                  // the op as it should have been called
  std::span<const double> actual;        // what it wrote
  const Estimate& due;                   // what it should have written
};

/// One way in which the op may have been called or computed wrongly.
struct Candidate {
  std::string hypothesis;                                   // "epsilon"
  std::vector<std::pair<std::string, std::string>> params;  // {"eps", "1e-06"}
  RowCase altered;
  std::function<void(Estimate&)> after;  // what happens to the output; empty: nothing
  bool last_resort = false;              // explains many outputs: tried only where nothing else reproduces the row
};
using Emit = std::function<void(Candidate)>;

struct Hypothesis {
  std::string_view name;
  std::string_view doc;  // what went wrong if it is true, one line
  /// Proposes candidates for the ops that it knows; nothing where the model or the arm has not what it is about.
  void (*propose)(const Scene&, const Emit&);
};

/// All hypotheses, one file a subject (audit/hypotheses/).
std::span<const Hypothesis> norm_hypotheses();
std::span<const Hypothesis> weight_hypotheses();
std::span<const Hypothesis> block_hypotheses();
std::span<const Hypothesis> quantisation_hypotheses();
std::span<const Hypothesis> rope_hypotheses();
std::span<const Hypothesis> attention_hypotheses();
std::span<const Hypothesis> mask_hypotheses();
std::span<const Hypothesis> softmax_hypotheses();
std::span<const Hypothesis> input_hypotheses();
std::span<const Hypothesis> residual_hypotheses();
std::span<const Hypothesis> slot_hypotheses();
std::span<const Hypothesis> output_hypotheses();
std::span<const Hypothesis> nan_hypotheses();
std::span<const Hypothesis> accumulation_hypotheses();
std::vector<Hypothesis> all_hypotheses();

/// A candidate that was computed.
struct Explained {
  std::string hypothesis;
  std::vector<std::pair<std::string, std::string>> params;
  bool reproduces = false;  // the wrong output, within its bound
  double distance = 0;      // RMS of candidate - output, over that of right - output: 1 explains nothing

  /// "epsilon eps=1e-06".
  std::string text() const;
};

/// Candidates for the row, at most 16 and all that reproduce it: those that reproduce it in the order of the hypotheses, of each one's those first that
/// are about as near as its nearest; then the others, nearest first. The right case is none of them, and of one hypothesis
/// equal values are named once. A wrong kernel may round in another order than the route declares, so that a candidate
/// reproduces within 4 times the bound; its worst error has to be half of the right output's at most, in units of their bounds,
/// because one that is as near to the right output as to the wrong one says nothing. What may be named as the cause:
/// cause_classes.h.
std::vector<Explained> explain(const Scene& scene, const Arithmetic& arithmetic);
/// Whether a candidate of this hypothesis, or of one that rows may not tell from it, reproduces the row.
bool reproduces(const Scene& scene, const Arithmetic& arithmetic, std::string_view hypothesis);

}  // namespace greta::audit
