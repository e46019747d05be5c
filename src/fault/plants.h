// The table of plants: every kind of fault, what it is planted with, where it must be found, and where it cannot act, with the
// reason, stated before anything runs. The sweeps of the tests and the scorecard read it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/stage.h"

namespace greta {

/// One point at which a fault is planted.
struct PlantPlace {
  bool prefill = false;
  int layer = 0;
  int position = 0;
  int call_first = 0;  // first position of the forward call that computes it
  int n_layers = 0;
  bool first_of_call() const { return position == call_first; }
};

/// Why a plant is without effect at a place; empty: it must act and be found.
using Idle = std::string_view (*)(const PlantPlace&);

struct Plant {
  std::string kind, keys;  // keys: "stage=q:delta=2", or empty
  Stage stage = Stage::x_in;
  std::string model = "base";
  Idle idle = nullptr;
  int chunk = 0;                                 // of arm B's prefill
  int (*found_at)(const PlantPlace&) = nullptr;  // position; nullptr: its own
  int batch = 1;                                 // of arm B
  bool shift = false;  // with a context shift of 1:2, which fills slots 1, 2 and 3: these are the places then
  std::string plan = "reference";
  Idle either = nullptr;     // where it depends on the model's numbers whether it acts, and why; if it does, it must be found
  std::string backend = "";  // empty: the cpu
  /// The others need the command line's arms.
  bool in_process() const { return batch == 1 && !shift && backend.empty(); }
  bool fixed_layer() const { return kind == "embedding-row" || kind == "embedding-scale"; }
  /// What parse_fault reads.
  std::string text(const PlantPlace& place) const;
  /// Where it must be found: layer (n_layers for stages that exist once a token) and position.
  int layer_found(const PlantPlace& place) const { return once_per_token(stage) ? place.n_layers : place.layer; }
  int position_found(const PlantPlace& place) const { return found_at == nullptr ? place.position : found_at(place); }
};

/// Every kind of fault, most of them at several stages and strengths. `model` says what a model must have for it: "base"
/// nothing.
std::vector<Plant> all_plants();

/// Whether a plant is to be refused at a place: it must be where that is foretold, and may be where it depends on numbers.
std::string_view reason_to_be_idle(const Plant& plant, const PlantPlace& place, bool was_refused);

/// Decode at n-1, n, n+1 and prefill at 0, (n-1)/2, n-2 of a prompt of n tokens: all of a plant's places in one model.
std::vector<PlantPlace> all_places(const Plant& plant, int n, const std::vector<int>& layers, int n_layers);

}  // namespace greta
