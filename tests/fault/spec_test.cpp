#include "fault/spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "fault/catalogue.h"

namespace greta {
namespace {

using ::testing::HasSubstr;

std::string error_of(std::string_view text) {
  try {
    (void)parse_fault(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(FaultSpec, PresetExpandsToTheFaultOfTheReport) {
  const FaultSpec fault = parse_fault("b3_41");
  EXPECT_EQ(fault.kind->name, "stale-input");
  EXPECT_EQ(fault.phase, Phase::decode);
  EXPECT_EQ(fault.layer, 0);
  EXPECT_EQ(fault.stage, Stage::ffn_norm);
  EXPECT_EQ(fault.stage_value("from"), Stage::x_after_attn);
  EXPECT_EQ(fault.integer("row"), 0);
  EXPECT_FALSE(fault.position);
  EXPECT_EQ(to_string(fault), "stale-input@decode:layer=0:stage=ffn_norm:from=x_after_attn:row=0");
}

TEST(FaultSpec, TextRoundTrips) {
  for (const std::string_view text :
       {"perturb@prefill:layer=3:stage=q:position=7:ulp=2:index=5", "perturb@any:stage=logits:rel=0.25:index=0",
        "perturb@any:layer=0:stage=v:add=-0.5:index=1", "nan@decode:layer=-1:stage=wo_out:position=-1:index=0",
        "rmsnorm-epsilon@any:eps=0.0001", "weight-transposed@decode:layer=2:stage=k", "rope-position@decode:delta=-2",
        "kv-slot-shift@prefill:layer=1:stage=v_cache:position=4:delta=1", "softmax-scale@any:factor=twice",
        "softmax-scale@any:factor=0.5", "residual-missing@any:lost=branch", "kv-stale@decode"})
    EXPECT_EQ(to_string(parse_fault(text)), text);
}

TEST(FaultSpec, OmittedAndAllSelectEverything) {
  const FaultSpec fault = parse_fault("rope-position@any:layer=all:position=all");
  EXPECT_FALSE(fault.layer);
  EXPECT_FALSE(fault.position);
  EXPECT_TRUE(fault.matches(Phase::prefill, 5, Stage::q_rope, 8));
  EXPECT_TRUE(fault.matches(Phase::decode, 0, Stage::k_rope, 8));
  EXPECT_FALSE(fault.matches(Phase::decode, 0, Stage::q, 8));
}

TEST(FaultSpec, LastLayerAndOnceATokenStages) {
  const FaultSpec last = parse_fault("rmsnorm-epsilon@decode:layer=-1");
  EXPECT_TRUE(last.matches(Phase::decode, 7, Stage::ffn_norm, 8));
  EXPECT_FALSE(last.matches(Phase::decode, 6, Stage::ffn_norm, 8));
  EXPECT_TRUE(last.matches(Phase::decode, 8, Stage::final_rms, 8));
  EXPECT_FALSE(last.matches(Phase::prefill, 7, Stage::ffn_norm, 8));
}

TEST(FaultSpec, ErrorsNameWhatIsWrongAndWhatIsKnown) {
  EXPECT_THAT(error_of("stale-imput@decode"), HasSubstr("did you mean 'stale-input'"));
  EXPECT_THAT(error_of("perturb"), HasSubstr("says no phase"));
  EXPECT_THAT(error_of("perturb@dekode:stage=q"), HasSubstr("phase 'dekode' is not known; use prefill, decode or any"));
  EXPECT_THAT(error_of("perturb@decode"), HasSubstr("needs stage="));
  EXPECT_THAT(error_of("perturb@decode:stage=fnn_norm"), HasSubstr("did you mean 'ffn_norm'"));
  EXPECT_THAT(error_of("perturb@decode:stage=q:eps=1"), HasSubstr("key 'eps' is not one of perturb's"));
  EXPECT_THAT(error_of("perturb@decode:stage=q:layer=-2"), HasSubstr("layer=-2"));
  EXPECT_THAT(error_of("perturb@decode:stage=q:layer=x"), HasSubstr("not a number"));
  EXPECT_THAT(error_of("perturb@decode:stage=q:stage=k"), HasSubstr("stands twice"));
  EXPECT_THAT(error_of("perturb@decode:stage=q:ulp=0"), HasSubstr("ulp=0 is out of range: 1 to"));
  EXPECT_THAT(error_of("perturb@decode:q"), HasSubstr("is not KEY=VALUE"));
  EXPECT_THAT(error_of("rmsnorm-epsilon@decode:stage=q"), HasSubstr("cannot stand at stage 'q'"));
  EXPECT_THAT(error_of("rmsnorm-epsilon@decode:eps=nan"), HasSubstr("eps=nan is out of range"));
  EXPECT_THAT(error_of("stale-input@decode:stage=ffn_norm"), HasSubstr("needs from="));
  EXPECT_THAT(error_of("kv-slot-shift@decode:delta=99999"), HasSubstr("delta=99999 is out of range: -64 to 64"));
  EXPECT_THAT(error_of("kv-slot-shift@decode:delta=99999999999999999999"), HasSubstr("not a number that fits"));
}

TEST(FaultSpec, FallbacksStandWhereNothingIsGiven) {
  EXPECT_EQ(parse_fault("rope-position@any").integer("delta"), 1);
  EXPECT_EQ(parse_fault("rmsnorm-epsilon@any").real("eps"), 1e-6);
  EXPECT_EQ(parse_fault("softmax-scale@any").word("factor"), "missing");
  EXPECT_FALSE(parse_fault("perturb@any:stage=q").has("ulp"));
}

TEST(FaultSpec, KeysAreTyped) {
  EXPECT_THAT(error_of("softmax-scale@any:factor=thrice"), HasSubstr("not a number that fits"));
  EXPECT_THAT(error_of("residual-missing@any:lost=both"), HasSubstr("is not known"));
  EXPECT_THAT(error_of("perturb@any:stage=q:ulp=1:rel=2"), HasSubstr("exclude each other"));
  EXPECT_THAT(error_of("stale-input@any:stage=q:from=k_cache"), HasSubstr("is the KV cache"));
  EXPECT_THAT(error_of("position-narrow@any:bits=32"), HasSubstr("out of range: 1 to 31"));
}

TEST(FaultCatalogue, EveryRowIsWhole) {
  for (const FaultInfo& kind : fault_catalogue()) {
    SCOPED_TRACE(kind.name);
    EXPECT_FALSE(kind.family.empty() || kind.doc.empty() || kind.found_at.empty() || kind.stands_for.empty());
    EXPECT_FALSE(kind.stages.empty());
    EXPECT_NE(kind.plant, nullptr);
    EXPECT_FALSE(kind.lacks != nullptr && kind.needs.empty());
    EXPECT_EQ(find_fault(kind.name), &kind);
  }
}

}  // namespace
}  // namespace greta
