// The floating-point state under which every op runs: round to nearest even, denormals honoured, no traps.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#else
#include <cfenv>
#endif

namespace greta {

/// Sets the state for its lifetime on the calling thread and restores what was there. A host program (or a library loaded
/// with -ffast-math) may have set flush-to-zero on some threads and not on others: then the same sum gives different bits
/// depending on which thread computed it.
class ScopedFpState {
 public:
#if defined(__x86_64__)
  ScopedFpState() : saved_(_mm_getcsr()) {
    if ((saved_ & kControlBits) != kDefault) _mm_setcsr(kDefault);
  }
  ~ScopedFpState() {
    if ((saved_ & kControlBits) != kDefault) _mm_setcsr(saved_);
  }
#else
  ScopedFpState() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~ScopedFpState() { std::fesetenv(&saved_); }
#endif
  ScopedFpState(const ScopedFpState&) = delete;
  ScopedFpState& operator=(const ScopedFpState&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr unsigned kDefault = 0x1f80;      // all exceptions masked, nearest even, FTZ = DAZ = 0
  static constexpr unsigned kControlBits = 0xffc0;  // without the sticky exception flags
  unsigned saved_;
#else
  std::fenv_t saved_;
#endif
};

}  // namespace greta
