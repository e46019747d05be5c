// Which instruction sets Highway compiles the reference kernels for. Include before any header of Highway.
//
// A kernel file is compiled three times: for AVX-512, for AVX2 with FMA, and once for the plain machine, where our own scalar
// lanes take the place of vectors. No target without FMA is among them (docs/architecture.md, "The invariance contract"), and
// Highway's own scalar type is not used, because its MulAdd rounds twice.
#pragma once

#if defined(HWY_DISABLED_TARGETS) || defined(HWY_BASELINE_TARGETS)
#error "ops/cpu/targets.h must come before the headers of Highway"
#endif
// Bits of Highway's targets: 8 = AVX3, 9 = AVX2, 61 = EMU128, 62 = SCALAR. By number, because not every version names all of
// them.
#ifdef GRETA_TARGETS_WITH_VNNI  // a kernel of integers: also AVX-512 with VNNI (bit 7), chosen at run time where AVX-512 is
#define HWY_WANT_AVX3_DL
#define HWY_DISABLED_TARGETS (~((1LL << 7) | (1LL << 8) | (1LL << 9) | (1LL << 61) | (1LL << 62)))
#else
#define HWY_DISABLED_TARGETS (~((1LL << 8) | (1LL << 9) | (1LL << 61) | (1LL << 62)))
#endif
#define HWY_BASELINE_TARGETS HWY_BASELINE_SCALAR

#include "ops/routes.h"

namespace greta {

/// One kernel, compiled for each instruction set.
template <class Function>
struct PerIsa {
  Function scalar;
  Function avx2;
  Function avx512;
  Function operator[](Isa isa) const { return isa == Isa::avx512 ? avx512 : isa == Isa::avx2 ? avx2 : scalar; }
};

}  // namespace greta

// The set of a kernel `NAME` that HWY_NAMESPACE holds; to be used in the HWY_ONCE part of its file.
#if defined(__x86_64__)
#define GRETA_PER_ISA(NAME) \
  ::greta::PerIsa<decltype(&HWY_STATIC_DISPATCH(NAME))> { &HWY_STATIC_DISPATCH(NAME), &N_AVX2::NAME, &N_AVX3::NAME }
#else
#define GRETA_PER_ISA(NAME)                                                            \
  ::greta::PerIsa<decltype(&HWY_STATIC_DISPATCH(NAME))> {                              \
    &HWY_STATIC_DISPATCH(NAME), &HWY_STATIC_DISPATCH(NAME), &HWY_STATIC_DISPATCH(NAME) \
  }
#endif
