// Which op makes which stage, of what: the forward pass as data (docs/architecture.md, "Stages").
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "audit/contract.h"
#include "audit/rows.h"
#include "core/stage.h"

namespace greta::audit {

enum class OpClass : std::uint8_t {
  embed,
  rmsnorm,
  matmul,
  rope,
  kv_write,
  qk,
  softmax,
  pv,
  add,
  act_mul,
  softcap,
  quantize,
  handoff
};
std::string_view name(OpClass op);

/// A stage of a layer.
struct Place {
  Stage stage = Stage::x_in;
  int layer = 0;
  friend bool operator==(const Place&, const Place&) = default;
};

/// The op behind a stage. Its row at a position reads the inputs' rows at that position; of `k_cache` and `v_cache` as an input
/// of attention, those of all positions up to it.
struct Op {
  OpClass op = OpClass::handoff;
  std::vector<Place> inputs;  // in the order of the op's arguments
  std::string weight, bias;   // tensor names; empty: none
};

/// nullopt for a stage that the model does not have. `rows` says which activations the arm quantised, and whether the head's
/// output is a stage of its own.
std::optional<Op> op_of(const Contract& contract, const Rows& rows, Place place);

}  // namespace greta::audit
