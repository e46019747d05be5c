// Plants every kind of fault over layers and positions and compares where it was found with where it was planted.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/command.h"

namespace greta::test {

/// A fault text with {L} and {P} for layer and position, and the stage at which it must be found.
struct Plant {
  std::string kind, keys, stage;
  bool has_layer = true;
};

inline std::vector<Plant> all_plants() {
  return {
      {"stale-input", "stage=ffn_norm:from=x_after_attn:row=0", "ffn_norm"},
      {"stale-input", "stage=wo_out:from=attn_out:row=0", "wo_out"},
      {"stale-input", "stage=x_out:from=x_after_attn:row=0", "x_out"},
      {"rmsnorm-epsilon", "eps=0.01", "attn_norm"},
      {"rmsnorm-epsilon", "stage=ffn_norm:eps=0.001", "ffn_norm"},
      {"perturb", "stage=x_in", "x_in"},
      {"perturb", "stage=attn_norm:index=3", "attn_norm"},
      {"perturb", "stage=q:ulp=2", "q"},
      {"perturb", "stage=k_cache:index=1", "k_cache"},
      {"perturb", "stage=v_cache:index=2", "v_cache"},
      {"perturb", "stage=attn_scores:rel=0.01", "attn_scores"},
      {"perturb", "stage=attn_probs:add=0.001", "attn_probs"},
      {"perturb", "stage=mlp_out:index=40", "mlp_out"},
      {"perturb", "stage=x_after_mlp", "x_after_mlp"},
      {"nan", "stage=v", "v"},
      {"nan", "stage=ffn_act:index=7", "ffn_act"},
      {"weight-transposed", "stage=q", "q"},
      {"weight-transposed", "stage=k", "k"},
      {"weight-transposed", "stage=wo_out", "wo_out"},
      {"weight-transposed", "stage=mlp_out", "mlp_out"},
      {"rope-position", "delta=1", "q_rope"},
      {"rope-position", "stage=k_rope:delta=-3", "k_rope"},
      {"kv-slot-shift", "delta=1", "k_cache"},
      {"kv-slot-shift", "stage=v_cache:delta=1", "v_cache"},
  };
}

struct SweepCounts {
  int planted = 0, found = 0, refused = 0;
};

/// `prompt` of `model`, span 3: decode at n-1, n, n+1 and prefill at 0, (n-1)/2, n-2, at each of `layers`.
inline SweepCounts sweep_faults(const std::string& model, const std::string& prompt, const std::vector<int>& layers,
                                const std::vector<Plant>& plants) {
  const TemporaryDirectory scratch;
  const auto isolate = [&](const std::string& fault, const std::string& out) {
    std::vector<std::string> arguments{"isolate", "--model", model, "--prompt", prompt, "--span", "3", "--json", "--lang", "en",
                                       "--out", (scratch.path() / out).string()};
    if (!fault.empty()) arguments.insert(arguments.end(), {"--fault", fault});
    return greta(arguments);
  };
  SweepCounts counts;
  const CommandResult healthy = isolate("", "healthy");
  EXPECT_EQ(healthy.exit_code, 0) << healthy.err;  // no false alarm
  if (healthy.exit_code != 0) return counts;
  const int n = nlohmann::json::parse(healthy.out)["prompts"][0]["n_tokens"];

  std::printf("%-7s %-18s %-44s %5s %5s  %s\n", "phase", "kind", "keys", "layer", "pos", "outcome");
  for (const Plant& plant : plants)
    for (const std::string& phase : {std::string("decode"), std::string("prefill")})
      for (const int position : phase == "decode" ? std::vector<int>{n - 1, n, n + 1} : std::vector<int>{0, (n - 1) / 2, n - 2})
        for (const int layer : layers) {
          const std::string fault = plant.kind + "@" + phase + ":layer=" + std::to_string(layer) +
                                    ":position=" + std::to_string(position) + ":" + plant.keys;
          const CommandResult result = isolate(fault, "run" + std::to_string(counts.planted));
          ++counts.planted;
          std::string outcome = "refused: without effect";
          if (result.exit_code == 2 && result.err.find("changed nothing") != std::string::npos) {
            ++counts.refused;
            // Only the row that is its own stale source can be without effect.
            EXPECT_TRUE(plant.kind == "stale-input" && position == 0) << fault << "\n" << result.err;
          } else {
            const auto verdict = nlohmann::json::parse(result.out, nullptr, false);
            // One ULP is below the thresholds: found all the same, and not judged.
            const bool judged = result.exit_code == 1;
            EXPECT_TRUE(verdict.is_object()) << fault << "\n" << result.err;
            if (!verdict.is_object()) continue;
            EXPECT_TRUE(judged || verdict.value("reason", "") == "below_threshold") << fault << "\n" << result.err;
            if (!verdict["prompts"][0]["first"].is_object()) continue;
            const auto first = verdict["prompts"][0]["first"];
            const bool right = first["stage"] == plant.stage && first["layer"] == layer && first["position"] == position;
            EXPECT_TRUE(right) << fault << " was found at " << first.dump();
            counts.found += right ? 1 : 0;
            outcome = (right ? "found at " : "WRONG: ") + first["stage"].get<std::string>() + " layer " + first["layer"].dump() +
                      " position " + first["position"].dump();
          }
          std::printf("%-7s %-18s %-44s %5d %5d  %s\n", phase.c_str(), plant.kind.c_str(), plant.keys.c_str(), layer, position,
                      outcome.c_str());
        }
  std::printf("planted %d, found at their place %d, refused as without effect %d\n", counts.planted, counts.found, counts.refused);
  return counts;
}

}  // namespace greta::test
