// Plants every kind of fault over layers and positions by `greta isolate`, and compares where it was found with where it was
// planted.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fault/catalogue.h"
#include "fault/plants.h"
#include "tests/support/command.h"

namespace greta::test {

struct SweepCounts {
  int planted = 0, found = 0, idle = 0;
  int ok() const { return found + idle; }
};

/// `greta isolate` over one prompt of one model, with runs below a directory of its own.
class Sweeper {
 public:
  Sweeper(std::string model, std::string prompt, bool print)
      : model_(std::move(model)), prompt_(std::move(prompt)), print_(print) {
    const CommandResult healthy = isolate({});
    EXPECT_EQ(healthy.exit_code, 0) << healthy.err;  // no false alarm
    if (healthy.exit_code == 0) n_ = nlohmann::json::parse(healthy.out)["prompts"][0]["n_tokens"];
    if (print_)
      std::printf("%s: %d tokens\n%-7s %-22s %-34s %5s %5s  %s\n", model_.c_str(), n_, "phase", "kind", "keys", "layer", "pos",
                  "outcome");
  }
  int n_tokens() const { return n_; }

  CommandResult isolate(const std::vector<std::string>& faults, const Plant& plant = {}) {
    std::vector<std::string> arguments{
        "isolate", "--model", model_,   "--prompt", prompt_, "--span",
        "3",       "--json",  "--lang", "en",       "--out", (scratch_.path() / ("run" + std::to_string(++runs_))).string()};
    for (const std::string& fault : faults) arguments.insert(arguments.end(), {"--fault", fault});
    if (plant.chunk > 0) arguments.insert(arguments.end(), {"--arm-b", "chunk=" + std::to_string(plant.chunk)});
    if (plant.batch > 1) arguments.insert(arguments.end(), {"--arm-b", "batch=" + std::to_string(plant.batch)});
    if (plant.plan != "reference" || !plant.backend.empty()) arguments.insert(arguments.end(), {"--plan", plant.plan});
    if (!plant.backend.empty()) arguments.insert(arguments.end(), {"--backend", plant.backend});
    if (plant.shift) arguments.insert(arguments.end(), {"--shift", "1:2"});
    return greta(arguments);
  }

  void plant(const Plant& plant, const PlantPlace& place) {
    const std::string fault = plant.text(place);
    const CommandResult result = isolate({fault}, plant);
    const std::string_view why = reason_to_be_idle(plant, place, refused_as_idle(result));
    ++counts_.planted;
    const std::string outcome = why.empty() ? found(plant, place, fault, result) : idle(why, fault, result);
    if (print_)
      std::printf("%-7s %-22s %-34s %5d %5d  %s\n", place.prefill ? "prefill" : "decode", plant.kind.c_str(),
                  plant.keys.c_str(), place.layer, place.position, outcome.c_str());
  }
  const SweepCounts& counts() const { return counts_; }

 private:
  static bool refused_as_idle(const CommandResult& result) {
    return result.exit_code == 2 && result.err.find("changed nothing") != std::string::npos;
  }

  std::string idle(std::string_view why, const std::string& fault, const CommandResult& result) {
    const bool refused = refused_as_idle(result);
    EXPECT_TRUE(refused) << fault << " was to be without effect (" << why << "): exit code " << result.exit_code << "\n"
                         << result.err;
    counts_.idle += refused ? 1 : 0;
    return refused ? "refused, as foretold: " + std::string(why) : "WRONG: not refused";
  }

  std::string found(const Plant& plant, const PlantPlace& place, const std::string& fault, const CommandResult& result) {
    const auto verdict = nlohmann::json::parse(result.out, nullptr, false);
    EXPECT_TRUE(verdict.is_object()) << fault << "\n" << result.err;
    if (!verdict.is_object()) return "WRONG: no verdict";
    // One ULP is below the thresholds: found all the same, and not judged.
    EXPECT_TRUE(result.exit_code == 1 || verdict.value("reason", "") == "below_threshold") << fault << "\n" << result.err;
    if (find_fault(plant.kind)->races) {
      EXPECT_EQ(verdict.value("reason", ""), "nondeterministic") << fault << "\n" << result.err;
    }
    const auto first = verdict["prompts"][0]["first"];
    if (!first.is_object()) return "WRONG: nothing found";
    const int layer = plant.layer_found(place), position = plant.position_found(place);
    const bool right = first["stage"] == name(plant.stage) && first["layer"] == layer && first["position"] == position;
    EXPECT_TRUE(right) << fault << " was found at " << first.dump();
    counts_.found += right ? 1 : 0;
    return (right ? "found at " : "WRONG: ") + first["stage"].get<std::string>() + " layer " + first["layer"].dump() +
           " position " + first["position"].dump();
  }

  const TemporaryDirectory scratch_;
  std::string model_, prompt_;
  bool print_;
  int n_ = 0, runs_ = 0;
  SweepCounts counts_;
};

}  // namespace greta::test
