// The cache's accesses: healthy runs, and every way in which they can be wrong.
#include "audit/slot_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace greta::audit {
namespace {

using ::testing::HasSubstr;

/// K of layer 1: a prefill of 3 rows, then two decode steps. Slot p holds the hash p + 100.
std::vector<SlotAccess> healthy_run() {
  std::vector<SlotAccess> out;
  int call = 0;
  const auto access = [&](bool write, int step, std::int32_t position) {
    out.push_back({write, step > 0, call, step, position, 2 + step, SlotPlace{false, 1, 0, position},
                   Hash128{static_cast<std::uint64_t>(position) + 100, 0}});
  };
  for (int step = 0; step < 3; ++step) {
    const std::int32_t first = step == 0 ? 0 : 2 + step, last = 2 + step;
    for (std::int32_t p = first; p <= last; ++p) access(true, step, p);
    ++call;
    for (std::int32_t p = 0; p <= last; ++p) access(false, step, p);
    ++call;
  }
  return out;
}

SlotFindings judge(const std::vector<SlotAccess>& run) {
  SlotJournal journal(false, 1);
  for (const SlotAccess& access : run) journal.add(access);
  return journal.finish(5);
}

/// The first access that is a write or a read of `position` in `step`.
SlotAccess& at(std::vector<SlotAccess>& run, bool write, int step, std::int32_t position) {
  for (SlotAccess& access : run)
    if (access.write == write && access.step == step && access.position == position) return access;
  throw std::logic_error("no such access");
}

TEST(SlotJournal, AHealthyRunHolds) {
  const SlotFindings found = judge(healthy_run());
  EXPECT_EQ(found.first, "");
  EXPECT_EQ(found.slots, 5);
  EXPECT_EQ(found.writes, 5);
  EXPECT_EQ(found.reads, 3 + 4 + 5);
  EXPECT_EQ(found.unwritten + found.rewritten + found.misplaced + found.changed + found.miscounted, 0);
}

TEST(SlotJournal, AStepThatReadsASlotTooFewOrTooManyIsMiscounted) {
  std::vector<SlotAccess> run = healthy_run();
  std::erase_if(run, [](const SlotAccess& access) { return !access.write && access.step == 2 && access.position == 1; });
  SlotFindings found = judge(run);
  EXPECT_EQ(found.miscounted, 1);
  EXPECT_THAT(found.first, HasSubstr("decode step 2 read 4 slots, not those of positions 0..4"));

  run = healthy_run();
  std::erase_if(run, [](const SlotAccess& access) { return !access.write && access.step == 0 && access.position == 0; });
  found = judge(run);
  EXPECT_EQ(found.miscounted, 1);
  EXPECT_THAT(found.first, HasSubstr("prefill step 0 read 2 slots"));

  run = healthy_run();  // not its own key
  std::erase_if(run, [](const SlotAccess& access) { return !access.write && access.step == 1 && access.position == 3; });
  found = judge(run);
  EXPECT_EQ(found.miscounted, 1);
  EXPECT_THAT(found.first, HasSubstr("decode step 1 read 3 slots, not those of positions 0..3"));

  run = healthy_run();  // no key at all
  std::erase_if(run, [](const SlotAccess& access) { return !access.write && access.step == 1; });
  found = judge(run);
  EXPECT_EQ(found.miscounted, 1);
  EXPECT_EQ(found.first, "step 1 wrote slots and read none");

  run = healthy_run();
  SlotAccess extra = at(run, false, 2, 4);
  extra.reached->layer = 0;  // beside its own slot
  run.push_back(extra);
  found = judge(run);
  EXPECT_EQ(found.miscounted, 1);
  EXPECT_EQ(found.misplaced, 1);
}

TEST(SlotJournal, EveryOtherWrongIsCountedWhereItBelongs) {
  std::vector<SlotAccess> run = healthy_run();
  at(run, false, 2, 3).hash.lo += 1;
  SlotFindings found = judge(run);
  EXPECT_EQ(found.changed, 1);
  EXPECT_EQ(found.first, "step 2 read position 3, which changed after it was written");

  run = healthy_run();
  run.insert(run.begin() + 3, at(run, true, 0, 1));
  found = judge(run);
  EXPECT_EQ(found.rewritten, 1);
  EXPECT_EQ(found.first, "step 0 wrote the slot of position 1 again");

  run = healthy_run();
  at(run, true, 1, 3).reached.reset();  // written nowhere: two later steps read a slot that nobody wrote
  found = judge(run);
  EXPECT_EQ(found.misplaced, 1);
  EXPECT_EQ(found.unwritten, 3);
  EXPECT_EQ(found.slots, 4);
  EXPECT_EQ(found.first, "step 1 wrote position 3 to no slot of the cache");

  run = healthy_run();
  at(run, true, 2, 4).reached->position = 2;  // overwrites position 2, which is then read as another's
  found = judge(run);
  EXPECT_EQ(found.misplaced, 1);
  EXPECT_EQ(found.rewritten, 1);
  EXPECT_EQ(found.changed, 1);

  for (const auto& elsewhere :
       {SlotPlace{true, 1, 0, 2}, SlotPlace{false, 0, 0, 2}, SlotPlace{false, 1, 1, 2}, SlotPlace{false, 1, 0, 1}}) {
    run = healthy_run();
    at(run, false, 1, 2).reached = elsewhere;
    EXPECT_GE(judge(run).misplaced, 1);
  }
}

}  // namespace
}  // namespace greta::audit
