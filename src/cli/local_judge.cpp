#include "cli/local_judge.h"

#include "cli/arm_judge.h"
#include "cli/kept_rows.h"

namespace greta::cli {

isolate::LocalPair judge_locally(AlignedRun& run, const RunContext& context,
                                 const std::function<void(int done, int all)>& on_layers) {
  const int n_layers = context.model_a.config.n_layers;
  const auto groups = layer_groups(context.model_a.config, run.n_positions());
  ArmJudge a(context.model_a, context.arm_a), b(context.model_b, context.arm_b);
  std::vector<int> positions;
  for (int p = run.first_row(); p < run.n_positions(); ++p)
    if (run.span_differs() == 0 || p < run.n_prompt()) positions.push_back(p);
  for (const auto& group : groups) {
    if (on_layers) on_layers(group.front(), n_layers);
    a.judge(run.run_whole('a', group), group, positions);
    b.judge(run.run_whole('b', group), group, positions);
  }
  for (ArmJudge* arm : {&a, &b}) {
    arm->leave_out(run.first_row(), "slots of positions before the context shift");
    if (run.span_differs() > 0)
      arm->leave_out(run.n_positions() - run.n_prompt(), "rows of the span, which arm A computed in a prefill of other bits");
  }
  return {a.result(), b.result()};
}

}  // namespace greta::cli
