// The residual adds: missing, twice, from another source.
#include <array>

#include "core/error.h"
#include "core/quote.h"
#include "fault/catalogue.h"

namespace greta {
namespace {

constexpr std::array kAdds{Stage::x_after_attn, Stage::x_after_mlp};
constexpr std::array kLostKeys{FaultKey{.name = "lost",
                                        .type = KeyType::word,
                                        .fallback = "stream",
                                        .doc = "what is not added: the residual stream or the branch",
                                        .words = "stream branch"}};

void plant_missing(const FaultSpec& fault, WrongCall& call) {
  call.instead(fault, [&fault, &call] {
    const TensorView& kept = fault.word("lost") == "stream" ? call.x : call.second;
    run(call.kernel, {.op = std::nullopt, .site = call.site, .x = kept, .out = call.out});
  });
}

void plant_twice(const FaultSpec& fault, WrongCall& call) {
  call.instead(fault, [&call] {
    const TensorView once = copy_of(call.out, call.arena);
    call.kernel.add(call.site, call.second, call.x, once);
    call.kernel.add(call.site, call.second, once, call.out);
  });
}

constexpr std::array kSourceKeys{
    FaultKey{.name = "from",
             .type = KeyType::stage,
             .doc = "the stage that is added instead (attn_norm at x_after_attn, ffn_norm at x_after_mlp)"}};

Stage source(const FaultSpec& fault, Stage at) {
  if (fault.has("from")) return fault.stage_value("from");
  return at == Stage::x_after_attn ? Stage::attn_norm : Stage::ffn_norm;
}

std::optional<KeptKey> keep_source(const FaultSpec& fault, const FaultTarget& target, const OpSite& site, std::size_t r) {
  for (const Stage at : kAdds)
    if (fault.matches_layer(site.layer, at, target.n_layers()) && site.stage == source(fault, at))
      return KeptKey{site.stage, site.layer, site.rows[r].seq, site.rows[r].position};
  return std::nullopt;
}

void plant_source(const FaultSpec& fault, WrongCall& call) {
  std::vector<const KeptRow*> rows;
  for (std::int64_t r = 0; r < call.n_rows(); ++r) {
    const RowId id = call.row_id(r);
    rows.push_back(call.kept({source(fault, call.site.stage), call.site.layer, id.seq, id.position}));
    if (rows.back() == nullptr)
      fail("fault {}: stage {} of layer {} is not made before {}", quote(to_string(fault)),
           name(source(fault, call.site.stage)), call.site.layer, name(call.site.stage));
  }
  call.second = call.serve(call.second, rows);
}

const auto kRows = std::to_array<FaultInfo>({
    {.name = "residual-missing",
     .family = "residual",
     .doc = "a residual add gives one of its two inputs alone",
     .found_at = "x_after_attn or x_after_mlp (the first of those chosen)",
     .stands_for = "residual not added",
     .stages = kAdds,
     .keys = kLostKeys,
     .shows = ShowsIn::kernel,
     .plant = plant_missing},
    {.name = "residual-twice",
     .family = "residual",
     .doc = "the residual stream is added twice",
     .found_at = "x_after_attn or x_after_mlp (the first of those chosen)",
     .stands_for = "residual added twice",
     .stages = kAdds,
     .shows = ShowsIn::kernel,
     .plant = plant_twice},
    {.name = "residual-source",
     .family = "residual",
     .doc = "another stage of the layer is added where the residual stream is meant",
     .found_at = "x_after_attn or x_after_mlp (the first of those chosen)",
     .stands_for = "residual added from the wrong source",
     .stages = kAdds,
     .keys = kSourceKeys,
     .plant = plant_source,
     .keep = keep_source},
});

}  // namespace

std::span<const FaultInfo> residual_faults() { return kRows; }

}  // namespace greta
