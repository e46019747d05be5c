// Buffers, offsets, single wrong numbers: stale-input, perturb, nan, uninitialised-tail.
#include <array>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/quote.h"
#include "fault/catalogue.h"
#include "fault/spoil.h"

namespace greta {
namespace {

constexpr FaultKey kIndex{.name = "index", .fallback = "0", .doc = "element of the row", .min = 0, .max = 1e15};

// stale-input

constexpr std::array kStaleKeys{
    FaultKey{.name = "from", .type = KeyType::stage, .doc = "the stage whose row is served", .required = true},
    FaultKey{.name = "row", .fallback = "0", .doc = "position of that row", .min = 0, .max = 2147483647}};

std::optional<KeptKey> keep_stale(const FaultSpec& fault, const FaultTarget&, const OpSite& site, std::size_t r) {
  if (site.stage != fault.stage_value("from") || site.rows[r].position != fault.integer("row")) return std::nullopt;
  return KeptKey{site.stage, site.layer, site.rows[r].seq, site.rows[r].position};
}

void plant_stale(const FaultSpec& fault, WrongCall& call) {
  const KeptKey key{fault.stage_value("from"), call.site.layer, call.row_id(0).seq,
                    static_cast<std::int32_t>(fault.integer("row"))};
  if (const KeptRow* row = call.kept(key)) call.x = call.serve(call.x, *row);
}

void check_stale(const FaultSpec& fault, std::string_view text) {
  const Stage from = fault.stage_value("from");
  if (from == Stage::k_cache || from == Stage::v_cache)
    fail("fault {}: from={} is the KV cache; use kv-slot-shift or kv-stale, or from=k_rope or v", quote(text), name(from));
}

// perturb, nan

constexpr std::array kPerturbKeys{
    FaultKey{.name = "ulp", .doc = "steps of the stored type, away from zero (1 where nothing is given)", .min = 1, .max = 1e9},
    FaultKey{.name = "rel", .type = KeyType::real, .doc = "x * (1 + rel) instead", .min = -1e300, .max = 1e300},
    FaultKey{.name = "add", .type = KeyType::real, .doc = "x + add instead", .min = -1e300, .max = 1e300}, kIndex};
constexpr std::array kNanKeys{kIndex};

void plant_spoil(const FaultSpec& fault, WrongCall& call, const Spoil& how) {
  call.after([&fault, &call, how] {
    const std::int64_t index = fault.integer("index");
    for (std::int64_t r = 0; r < call.n_rows(); ++r) {
      if (index >= call.out.cols(r)) fail("fault {}: the row has {} elements", quote(to_string(fault)), call.out.cols(r));
      spoil(how, call.out.row(r), index, call.out.dtype);
    }
  });
}

void plant_perturb(const FaultSpec& fault, WrongCall& call) {
  Spoil how;
  if (fault.has("rel")) how.rel = fault.real("rel");
  if (fault.has("add")) how.add = fault.real("add");
  if (fault.has("ulp")) how.ulp = fault.integer("ulp");
  plant_spoil(fault, call, how);
}

void check_perturb(const FaultSpec& fault, std::string_view text) {
  if (fault.has("ulp") + fault.has("rel") + fault.has("add") > 1)
    fail("fault {}: ulp=, rel= and add= exclude each other", quote(text));
}

void plant_nan(const FaultSpec& fault, WrongCall& call) { plant_spoil(fault, call, {.nan = true}); }

// uninitialised-tail: what the buffer held before this call is the row that the last call of the same stage left in that place.

constexpr std::array kTailKeys{
    FaultKey{.name = "elements", .fallback = "1", .doc = "how many, from the end of the row", .min = 1, .max = 1e9}};
constexpr std::array kTailStages{Stage::attn_norm, Stage::q,        Stage::k,       Stage::v,         Stage::q_rope,
                                 Stage::k_rope,    Stage::attn_out, Stage::wo_out,  Stage::ffn_norm,  Stage::ffn_gate,
                                 Stage::ffn_up,    Stage::ffn_act,  Stage::mlp_out, Stage::final_rms, Stage::logits};

std::optional<KeptKey> keep_buffer(const FaultSpec& fault, const FaultTarget&, const OpSite& site, std::size_t r) {
  if (fault.stage ? site.stage != *fault.stage : !fault.can_stand_at(site.stage)) return std::nullopt;
  return KeptKey{site.stage, -1, 0, static_cast<std::int32_t>(r)};
}

void plant_tail(const FaultSpec& fault, WrongCall& call) {
  call.after([&fault, &call] {
    for (std::int64_t r = 0; r < call.n_rows(); ++r) {
      const KeptRow* held =
          call.kept({call.site.stage, -1, 0, static_cast<std::int32_t>(call.indices[static_cast<std::size_t>(r)])});
      const std::int64_t cols = call.out.cols(r);
      const std::int64_t first = std::max<std::int64_t>(0, cols - fault.integer("elements"));
      const auto begin = static_cast<std::size_t>(row_bytes(call.out.dtype, first));
      const auto size = static_cast<std::size_t>(row_bytes(call.out.dtype, cols)) - begin;
      if (held != nullptr && held->cols == cols) {
        std::memcpy(call.out.row(r) + begin, held->bytes.data() + begin, size);
      } else {
        std::memset(call.out.row(r) + begin, 0xff, size);  // as the workspace poisons fresh memory: NaN
      }
    }
  });
}

const auto kRows = std::to_array<FaultInfo>({
    {.name = "stale-input",
     .family = "buffers",
     .doc = "the op that makes STAGE reads the row that stage FROM of the same layer wrote at position ROW, instead of its own "
            "input "
            "(of the two inputs of a residual add: the branch; of ffn_act: the gate)",
     .found_at = "STAGE, at every chosen position other than ROW",
     .idle = "at position ROW where FROM is the stage's own input: the row is right",
     .stands_for =
         "RMSNorm reads another stage's buffer, or the right buffer at another token's offset (gretacore B3.42); staging "
         "buffer reused under an asynchronous copy (TensorRT-LLM#15546)",
     .stages = all_stages(),
     .stage_required = true,
     .keys = kStaleKeys,
     .plant = plant_stale,
     .keep = keep_stale,
     .keep_across_steps = true,
     .check = check_stale},
    {.name = "perturb",
     .family = "buffers",
     .doc = "one element of STAGE is moved after it was computed",
     .found_at = "STAGE",
     .idle = "by ulp at the largest finite value or at an infinity; by rel at zero",
     .stands_for = "any small wrong number: what a comparison must be able to see",
     .stages = all_stages(),
     .stage_required = true,
     .keys = kPerturbKeys,
     .shows = ShowsIn::output,
     .plant = plant_perturb,
     .check = check_perturb},
    {.name = "nan",
     .family = "buffers",
     .doc = "one element of STAGE becomes NaN",
     .found_at = "STAGE",
     .stands_for = "NaN from uninitialised memory",
     .stages = all_stages(),
     .stage_required = true,
     .keys = kNanKeys,
     .shows = ShowsIn::output,
     .plant = plant_nan},
    {.name = "uninitialised-tail",
     .family = "buffers",
     .doc = "the last elements of the row are not written: they hold what the buffer held before (the row that the last call "
            "of the "
            "stage left there; NaN bytes in fresh memory)",
     .found_at = "STAGE (omitted: the first of those chosen)",
     .stands_for = "a tail that no thread writes; missing barrier before shared memory is reused (llama.cpp#13469, #13742)",
     .stages = kTailStages,
     .keys = kTailKeys,
     .shows = ShowsIn::output,
     .plant = plant_tail,
     .keep = keep_buffer,
     .keep_across_steps = true},
});

}  // namespace

std::span<const FaultInfo> buffer_faults() { return kRows; }

}  // namespace greta
