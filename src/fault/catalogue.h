// The kinds of fault: one row each, in the file of its family. A row says what is wrong, where it must be found, what it needs
// and which bug of a shipped engine it stands for; its functions plant it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "fault/spec.h"
#include "fault/target.h"
#include "fault/wrong_call.h"

namespace greta {

enum class KeyType : std::uint8_t { integer, real, stage, word };

/// A KEY=VALUE of a kind.
struct FaultKey {
  std::string_view name;
  KeyType type = KeyType::integer;
  std::string_view fallback = {};  // what is meant where the key is not given; empty: nothing, `doc` says what that means
  std::string_view doc = {};
  double min = 0, max = 0;      // of numbers, both included
  std::string_view words = {};  // "missing twice": taken instead of a number, or the only values of a `word`
  bool required = false;
};

/// Where a fault shows beside the wrong output: what a kernel was handed differs from what its producer wrote or the model says
/// (`operand`), or all operands are right and the kernel computed wrongly (`kernel`), or the output changed after it was
/// computed (`output`).
enum class ShowsIn : std::uint8_t { operand, kernel, output };
std::string_view name(ShowsIn shows);

struct FaultInfo {
  std::string_view name = {};
  std::string_view family = {};
  std::string_view doc = {};           // what is wrong
  std::string_view found_at = {};      // where it must be found: stage and position; the layer is the fault's own
  std::string_view idle = {};          // where it is without effect, and why; empty: nowhere by construction
  std::string_view needs = {};         // of model, plan and arm; empty: nothing
  std::string_view stands_for = {};    // the real bug
  std::span<const Stage> stages = {};  // where it can be planted
  bool stage_required = false;         // else an omitted stage means all of `stages`
  std::span<const FaultKey> keys = {};
  ShowsIn shows = ShowsIn::operand;
  bool races = false;  // whether it acts is a matter of timing: it shows in that runs differ

  /// Makes the call wrong: alters its operands, or gives it another computation.
  void (*plant)(const FaultSpec& fault, WrongCall& call) = nullptr;
  /// What the model, plan or arm lacks for it, "no biases"; empty: nothing.
  std::string (*lacks)(const FaultSpec& fault, const FaultTarget& target) = nullptr;
  /// Whether row `r` of this healthy output is wanted later, and under which key.
  std::optional<KeptKey> (*keep)(const FaultSpec& fault, const FaultTarget& target, const OpSite& site,
                                 std::size_t r) = nullptr;
  bool keep_across_steps = false;  // else what was kept is dropped when a step begins
  /// Rules between keys; throws Error.
  void (*check)(const FaultSpec& fault, std::string_view text) = nullptr;
};

/// All kinds, family by family.
std::span<const FaultInfo> fault_catalogue();
/// nullptr for an unknown name.
const FaultInfo* find_fault(std::string_view name);
/// "delta=N (default 1): ...; ...", or "none".
std::string keys_text(const FaultInfo& kind);

struct FaultPreset {
  std::string_view name;
  std::string_view expansion;
  std::string_view doc;
};
std::span<const FaultPreset> fault_presets();

/// Throws Error where the model, plan or arm cannot have the fault, with one line that says what it lacks, or where its layer
/// is not one of the model's.
void check_fault(const FaultSpec& fault, const FaultTarget& target);

/// The rows of each family (src/fault/<family>.cpp).
std::span<const FaultInfo> norm_faults();
std::span<const FaultInfo> rope_faults();
std::span<const FaultInfo> weight_faults();
std::span<const FaultInfo> attention_faults();
std::span<const FaultInfo> accumulate_faults();
std::span<const FaultInfo> kv_faults();
std::span<const FaultInfo> residual_faults();
std::span<const FaultInfo> head_faults();
std::span<const FaultInfo> buffer_faults();
std::span<const FaultInfo> gpu_faults();

}  // namespace greta
