// The KV cache by its accesses: what was written against what was read.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "trace/record.h"

namespace greta::audit {

/// A slot of the cache.
struct SlotPlace {
  bool value = false;  // of V; else of K
  int layer = 0;
  int sequence = 0;
  std::int32_t position = 0;
  friend bool operator==(const SlotPlace&, const SlotPlace&) = default;
};

/// One slot of sequence 0 that an op asked for.
struct SlotAccess {
  bool write = false;
  bool decode = false;               // of a decode step; else of a prefill call
  int call = 0;                      // of the op: accesses of one call have one number
  int step = 0;                      // forward call
  std::int32_t position = 0;         // for which the slot was asked
  std::int32_t last = 0;             // position of the call's last row: its reads are of positions 0..last
  std::optional<SlotPlace> reached;  // the slot that this was; nullopt: none of the cache
  Hash128 hash;                      // of what it held after the write, or when it was read
};

/// What does not hold, counted.
struct SlotFindings {
  std::int64_t writes = 0, reads = 0;
  int slots = 0;       // that were written
  int unwritten = 0;   // positions that were never written, and reads of slots that nobody had written
  int rewritten = 0;   // writes to a slot that had been written
  int misplaced = 0;   // accesses that reached another slot than their position's
  int changed = 0;     // reads of something else than was written for the position
  int miscounted = 0;  // calls that did not read exactly the slots 0..last, and steps that wrote and read nothing
  std::string first;   // in one line; empty: all holds
};

/// Accesses of K or V of one layer, in order.
class SlotJournal {
 public:
  SlotJournal(bool value, int layer) : value_(value), layer_(layer) {}
  void add(const SlotAccess& access);
  /// After the run of `positions` tokens.
  SlotFindings finish(std::int32_t positions);

 private:
  struct Written {
    Hash128 hash;
    std::int32_t position = 0;  // for which it was written
  };
  void find(int& count, std::string what);
  void write(const SlotAccess& access, bool own);
  void read(const SlotAccess& access, bool own);
  void end_call();
  std::string text(const std::optional<SlotPlace>& place) const;

  bool value_;
  int layer_;
  SlotFindings found_;
  std::map<std::int32_t, Written> written_;      // by the slot's position
  std::set<std::pair<int, std::int32_t>> read_;  // of the current call: layer, position
  std::optional<SlotAccess> a_read_;             // of the current call
  std::set<int> steps_written_, steps_read_;
  std::optional<int> call_;
};

}  // namespace greta::audit
