// Small random models and the machinery to run them.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "engine/kv_cache.h"
#include "engine/session.h"
#include "model/model.h"
#include "model/synth.h"
#include "ops/cpu_ops.h"
#include "tests/support/command.h"

namespace greta::test {

inline std::shared_ptr<const Model> synthetic_model(SynthSpec spec) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "synthetic.gguf";
  synthesize(spec, path, true);
  return Model::load(path);  // the mapping outlives the file's name
}

inline SynthSpec small_shape() {
  SynthSpec spec = synth_shape("tiny");
  spec.n_layers = 2;
  spec.seed = 5;
  return spec;
}

/// Everything that a forward call needs.
struct Engine {
  ThreadPool pool;
  KvCache kv;
  std::unique_ptr<Ops> ops;
  Session session;

  Engine(const Model& model, const Plan& plan, int threads = 1, Isa isa = supported_isas().back(), int sequences = 1,
         int capacity = 128)
      : pool(threads),
        kv(plan.kv, model.config.n_layers, sequences, capacity, std::int64_t{model.config.n_kv_heads} * model.config.head_dim),
        ops(make_cpu_ops({.routes = plan.routes(1), .isa = isa, .pool = pool})),
        session(model, plan, *ops, kv) {}

  /// Logits of every position of sequence 0, prefilled in chunks.
  std::vector<std::vector<double>> prefill(const std::vector<std::int32_t>& tokens, int chunk) {
    std::vector<std::vector<double>> logits;
    session.prefill(tokens, 0, chunk, 0, nullptr, [&](const TensorView& view) {
      for (std::int64_t r = 0; r < view.n_rows; ++r) logits.push_back(row_values(view, r));
    });
    return logits;
  }
};

}  // namespace greta::test
