// The life of a KV slot: written beside its place, in another layer, relative to the chunk, or not at all.
#include <array>
#include <cstring>

#include "fault/catalogue.h"
#include "fault/kv_views.h"

namespace greta {
namespace {

constexpr std::array kSlots{Stage::k_cache, Stage::v_cache};

// Caches keep 64 slots to spare behind the last position.
constexpr std::array kShiftKeys{
    FaultKey{.name = "delta", .fallback = "1", .doc = "slots away; before slot 0: nowhere", .min = -64, .max = 64}};

void plant_shift(const FaultSpec& fault, WrongCall& call) {
  if (call.op == OpKind::kv_shift) return;
  const auto delta = static_cast<std::int32_t>(fault.integer("delta"));
  const auto beside = [delta](SlotPlace place) -> std::optional<SlotPlace> {
    place.token.position += delta;
    return place.token.position < 0 ? std::nullopt : std::optional(place);
  };
  redirect_kv(call, beside, {});
}

constexpr std::array kLayerStages{Stage::k_cache, Stage::v_cache, Stage::attn_scores, Stage::attn_out};
constexpr std::array kLayerKeys{
    FaultKey{.name = "delta", .fallback = "1", .doc = "layers away, round the end", .min = -4096, .max = 4096}};

void plant_layer(const FaultSpec& fault, WrongCall& call) {
  if (call.op == OpKind::kv_shift) return;
  const auto n = std::int64_t{call.target.n_layers()};
  const auto other = [n, delta = fault.integer("delta")](SlotPlace place) -> std::optional<SlotPlace> {
    place.layer = static_cast<int>(((place.layer + delta) % n + n) % n);
    return place;
  };
  call.op == OpKind::kv_write ? redirect_kv(call, other, {}) : redirect_kv(call, {}, other);
}

std::string lacks_layers(const FaultSpec&, const FaultTarget& target) {
  return target.n_layers() > 1 ? "" : "the model has one layer";
}

constexpr std::array kStaleKeys{FaultKey{.name = "row",
                                         .doc = "yesterday's value is that of this earlier position (what the slot holds)",
                                         .min = 0,
                                         .max = 2147483647}};

void plant_stale(const FaultSpec& fault, WrongCall& call) {
  if (call.op == OpKind::kv_shift) return;
  KvView& kv = *call.kv;
  redirect_kv(call, [](SlotPlace) { return std::optional<SlotPlace>(); }, {});
  if (!fault.has("row")) return;
  call.after([&fault, &call, &kv] {
    for (std::int64_t r = 0; r < call.n_rows(); ++r) {
      const RowId yesterday{call.row_id(r).seq, static_cast<std::int32_t>(fault.integer("row"))};
      if (yesterday.position >= call.row_id(r).position) continue;
      std::memcpy(call.out.row(r), kv.read_slot(call.part, call.site.layer, yesterday),
                  static_cast<std::size_t>(row_bytes(kv.dtype(), kv.width())));
    }
  });
}

void plant_chunk_map(const FaultSpec&, WrongCall& call) {
  if (call.op == OpKind::kv_shift) return;
  const std::int32_t first = call.whole.site.rows.front().position;
  const auto relative = [first](SlotPlace place) -> std::optional<SlotPlace> {
    place.token.position -= first;
    return place;
  };
  redirect_kv(call, relative, {});
}

constexpr std::array kMoveKeys{FaultKey{.name = "how",
                                        .type = KeyType::word,
                                        .fallback = "turn",
                                        .doc = "K is not turned to its new position, or the slot is not moved at all",
                                        .words = "turn move"}};

void plant_no_shift(const FaultSpec& fault, WrongCall& call) {
  if (call.op != OpKind::kv_shift) return;
  call.shift.turn = 0;
  if (fault.word("how") == "turn") return;
  KvView& before = *call.kv;
  redirect_kv(call, [](SlotPlace) { return std::optional<SlotPlace>(); }, {});
  call.after([&call, &before] {
    for (std::int64_t r = 0; r < call.n_rows(); ++r)
      std::memcpy(call.out.row(r), before.read_slot(call.part, call.site.layer, call.row_id(r)),
                  static_cast<std::size_t>(row_bytes(before.dtype(), before.width())));
  });
}

const auto kRows = std::to_array<FaultInfo>({
    {.name = "kv-slot-shift",
     .family = "kv",
     .doc = "K or V is written DELTA slots beside its own",
     .found_at =
         "k_cache or v_cache (the first of those chosen), at the slot that is then wrong first: the row's own, or with DELTA "
         "below 0 the earlier one that is overwritten",
     .stands_for = "decode KV written at position L+1 (onnxruntime-genai#2354)",
     .stages = kSlots,
     .keys = kShiftKeys,
     .plant = plant_shift},
    {.name = "kv-wrong-layer",
     .family = "kv",
     .doc = "K or V is written to another layer's slots (k_cache, v_cache) or read from them (attn_scores, attn_out)",
     .found_at = "STAGE",
     .needs = "a model of two layers or more",
     .stands_for = "a wrong layer index or stride into the cache (aiter#3498)",
     .stages = kLayerStages,
     .stage_required = true,
     .keys = kLayerKeys,
     .plant = plant_layer,
     .lacks = lacks_layers},
    {.name = "kv-stale",
     .family = "kv",
     .doc = "a slot is not overwritten: it keeps yesterday's value",
     .found_at = "k_cache or v_cache (the first of those chosen)",
     .stands_for =
         "stale slot: yesterday's K/V not overwritten; defragmentation table used after it was moved (llama.cpp#14189)",
     .stages = kSlots,
     .keys = kStaleKeys,
     .plant = plant_stale},
    {.name = "kv-shift-missing",
     .family = "kv",
     .doc = "a context shift leaves a slot as it was: K is not turned to its new position (how=turn), or K or V is not moved "
            "(how=move)",
     .found_at = "k_cache or v_cache (the first of those chosen), at the slot that the shift fills",
     .idle = "how=turn: of v_cache, which does not turn",
     .needs = "a run with a context shift (--shift)",
     .stands_for = "K-shift skips streams above the first (llama.cpp#14742)",
     .stages = kSlots,
     .keys = kMoveKeys,
     .plant = plant_no_shift},
    {.name = "chunk-slot-map",
     .family = "kv",
     .doc = "rows of a call are written to slots that count from the call's first row",
     .found_at = "k_cache or v_cache (the first of those chosen), at the slot that is overwritten: position - first position "
                 "of the call",
     .idle = "in a call that begins at position 0",
     .needs = "a prefill in chunks, or decode",
     .stands_for = "slot mapping wrong in chunked prefill (vllm#36580); prefill and decode with different block sizes "
                   "(vllm-gaudi#1323)",
     .stages = kSlots,
     .plant = plant_chunk_map},
});

}  // namespace

std::span<const FaultInfo> kv_faults() { return kRows; }

}  // namespace greta
