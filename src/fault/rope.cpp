// RoPE: other pairs, another base, no factors, twice, other positions.
#include <array>

#include "fault/catalogue.h"

namespace greta {
namespace {

constexpr std::array kRopes{Stage::q_rope, Stage::k_rope};

void plant_pairing(const FaultSpec&, WrongCall& call) { call.rope.interleaved = !call.rope.interleaved; }

constexpr std::array kThetaKeys{FaultKey{.name = "theta",
                                         .type = KeyType::real,
                                         .doc = "the base that is used (10000, or 500000 where that is the model's)",
                                         .min = 1e-3,
                                         .max = 1e30}};

void plant_theta(const FaultSpec& fault, WrongCall& call) {
  call.rope.theta = fault.has("theta") ? fault.real("theta") : call.rope.theta == 10000.0 ? 500000.0 : 10000.0;
}

void plant_no_factors(const FaultSpec&, WrongCall& call) { call.rope.freq_factors = {}; }

std::string lacks_factors(const FaultSpec&, const FaultTarget& target) {
  return target.model.weights.rope_freq_factors.empty() ? "the model has no rope_freqs.weight" : "";
}

void plant_twice(const FaultSpec&, WrongCall& call) {
  const TensorView once = copy_of(call.out, call.arena);
  call.kernel.rope(call.site, call.x, call.rope, call.positions, once);
  call.x = once;
}

constexpr std::array kDeltaKeys{
    FaultKey{.name = "delta", .fallback = "1", .doc = "positions too many", .min = -1e9, .max = 1e9}};
constexpr std::array kBitsKeys{FaultKey{.name = "bits", .fallback = "16", .doc = "bits of a position", .min = 1, .max = 31}};

template <class Of>
void replace_positions(WrongCall& call, const Of& of) {
  auto& positions = call.arena.numbers.emplace_back(call.positions.begin(), call.positions.end());
  for (std::int32_t& position : positions) position = static_cast<std::int32_t>(of(position));
  call.positions = positions;
}

void plant_position(const FaultSpec& fault, WrongCall& call) {
  replace_positions(call, [&](std::int64_t position) { return position + fault.integer("delta"); });
}

void plant_narrow(const FaultSpec& fault, WrongCall& call) {
  replace_positions(call, [&](std::int64_t position) { return position & ((std::int64_t{1} << fault.integer("bits")) - 1); });
}

void plant_broadcast(const FaultSpec&, WrongCall& call) {
  replace_positions(call, [&](std::int64_t) { return call.whole.positions[0]; });
}

const auto kRows = std::to_array<FaultInfo>({
    {.name = "rope-pairing",
     .family = "rope",
     .doc = "RoPE turns pairs (i, i + n_rot/2) where the model has (2i, 2i+1), or the reverse",
     .found_at = "q_rope or k_rope (the first of those chosen)",
     .idle = "at position 0, where nothing turns",
     .stands_for = "the two layouts of RoPE confused (llama.cpp#3364, #22611)",
     .stages = kRopes,
     .plant = plant_pairing},
    {.name = "rope-theta",
     .family = "rope",
     .doc = "RoPE computes with another base than the model's",
     .found_at = "q_rope or k_rope (the first of those chosen)",
     .idle = "at position 0, where nothing turns",
     .stands_for = "RoPE base hard-coded",
     .stages = kRopes,
     .keys = kThetaKeys,
     .plant = plant_theta},
    {.name = "rope-factors-missing",
     .family = "rope",
     .doc = "RoPE leaves out the model's frequency factors",
     .found_at = "q_rope or k_rope (the first of those chosen)",
     .idle = "at position 0, where nothing turns",
     .needs = "a model with rope_freqs.weight (Llama 3.1)",
     .stands_for = "Llama-3.1 RoPE frequency factors missing (llama.cpp#8676)",
     .stages = kRopes,
     .plant = plant_no_factors,
     .lacks = lacks_factors},
    {.name = "rope-twice",
     .family = "rope",
     .doc = "RoPE is applied to what RoPE has turned already",
     .found_at = "q_rope or k_rope (the first of those chosen)",
     .idle = "at position 0, where nothing turns",
     .stands_for = "RoPE offset changed in place by a batched cache (mlx-lm#1699)",
     .stages = kRopes,
     .plant = plant_twice},
    {.name = "rope-position",
     .family = "rope",
     .doc = "RoPE turns by a wrong position",
     .found_at = "q_rope or k_rope (the first of those chosen)",
     .stands_for = "position off by one in decode",
     .stages = kRopes,
     .keys = kDeltaKeys,
     .plant = plant_position},
    {.name = "position-narrow",
     .family = "rope",
     .doc = "positions are kept in too few bits: RoPE turns by position mod 2^bits",
     .found_at = "q_rope or k_rope (the first of those chosen), at positions of 2^bits and above",
     .idle = "below position 2^bits",
     .needs = "a context of more than 2^bits positions",
     .stands_for = "position buffer of 2-byte type holding 4-byte values (gretacore B3.64)",
     .stages = kRopes,
     .keys = kBitsKeys,
     .plant = plant_narrow},
    {.name = "position-broadcast",
     .family = "rope",
     .doc = "every row of a call turns by the position of the first",
     .found_at = "q_rope or k_rope (the first of those chosen)",
     .idle = "at the first row of a call, which decode's only one is",
     .needs = "a call of two rows or more",
     .stands_for = "stride-0 broadcast read wrongly (mlx#3480)",
     .stages = kRopes,
     .plant = plant_broadcast},
});

}  // namespace

std::span<const FaultInfo> rope_faults() { return kRows; }

}  // namespace greta
