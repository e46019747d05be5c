// Sixteen virtual lanes as one 512-bit or two 256-bit vectors. Included by lanes.h, once per target.

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX3
constexpr int kParts = 1;
using F32Tag = hn::FixedTag<float, 16>;
#else
constexpr int kParts = 2;
using F32Tag = hn::FixedTag<float, 8>;
#endif
constexpr int kPart = kLanes / kParts;
using I32Tag = hn::Rebind<std::int32_t, F32Tag>;
using U32Tag = hn::Rebind<std::uint32_t, F32Tag>;
using Part = hn::Vec<F32Tag>;

struct Lanes {
  Part p[kParts];
};

template <class F>
HWY_INLINE Lanes each(const F& f) {
  Lanes out;
  for (int i = 0; i < kParts; ++i) out.p[i] = f(i);
  return out;
}

HWY_INLINE Lanes zero() {
  return each([](int) HWY_ATTR { return hn::Zero(F32Tag()); });
}
HWY_INLINE Lanes set1(float x) {
  return each([&](int) HWY_ATTR { return hn::Set(F32Tag(), x); });
}
HWY_INLINE Lanes load(const float* p) {
  return each([&](int i) HWY_ATTR { return hn::LoadU(F32Tag(), p + i * kPart); });
}
HWY_INLINE void store(Lanes a, float* p) {
  for (int i = 0; i < kParts; ++i) hn::StoreU(a.p[i], F32Tag(), p + i * kPart);
}
HWY_INLINE Lanes add(Lanes a, Lanes b) {
  return each([&](int i) HWY_ATTR { return hn::Add(a.p[i], b.p[i]); });
}
HWY_INLINE Lanes sub(Lanes a, Lanes b) {
  return each([&](int i) HWY_ATTR { return hn::Sub(a.p[i], b.p[i]); });
}
HWY_INLINE Lanes mul(Lanes a, Lanes b) {
  return each([&](int i) HWY_ATTR { return hn::Mul(a.p[i], b.p[i]); });
}
HWY_INLINE Lanes div(Lanes a, Lanes b) {
  return each([&](int i) HWY_ATTR { return hn::Div(a.p[i], b.p[i]); });
}
/// a * b + c, rounded once.
HWY_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
  return each([&](int i) HWY_ATTR { return hn::MulAdd(a.p[i], b.p[i], c.p[i]); });
}
/// a > b ? yes : no, lane by lane; false for NaN.
HWY_INLINE Lanes select_gt(Lanes a, Lanes b, Lanes yes, Lanes no) {
  return each([&](int i) HWY_ATTR { return hn::IfThenElse(hn::Gt(a.p[i], b.p[i]), yes.p[i], no.p[i]); });
}
/// a is NaN ? yes : no.
HWY_INLINE Lanes select_nan(Lanes a, Lanes yes, Lanes no) {
  return each([&](int i) HWY_ATTR { return hn::IfThenElse(hn::IsNaN(a.p[i]), yes.p[i], no.p[i]); });
}
/// 2^n for integral n in -126..127.
HWY_INLINE Lanes exp2_int(Lanes n) {
  return each([&](int i) HWY_ATTR {
    const I32Tag di;
    return hn::BitCast(F32Tag(), hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n.p[i]), hn::Set(di, 127))));
  });
}
/// Halving tree: lane i with i + 8, then i + 4, i + 2, i + 1.
HWY_INLINE float reduce_add(Lanes a) {
  const hn::FixedTag<float, 8> d8;
  const hn::FixedTag<float, 4> d4;
#if HWY_TARGET == HWY_AVX3
  const auto s8 = hn::Add(hn::LowerHalf(d8, a.p[0]), hn::UpperHalf(d8, a.p[0]));
#else
  const auto s8 = hn::Add(a.p[0], a.p[1]);
#endif
  (void)d8;
  const auto s4 = hn::Add(hn::LowerHalf(d4, s8), hn::UpperHalf(d4, s8));
  const auto s2 = hn::Add(s4, hn::Shuffle1032(s4));
  const auto s1 = hn::Add(s2, hn::Shuffle2301(s2));
  return hn::GetLane(s1);
}
HWY_INLINE Lanes load_f16(const std::byte* p) {
  return each([&](int i) HWY_ATTR {
    const hn::Rebind<hwy::float16_t, F32Tag> d16;
    return hn::PromoteTo(F32Tag(), hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p) + i * kPart));
  });
}
HWY_INLINE Lanes load_bf16(const std::byte* p) {
  return each([&](int i) HWY_ATTR {
    const hn::Rebind<std::uint16_t, F32Tag> d16;
    const auto bits = hn::LoadU(d16, reinterpret_cast<const std::uint16_t*>(p) + i * kPart);
    return hn::BitCast(F32Tag(), hn::ShiftLeft<16>(hn::PromoteTo(U32Tag(), bits)));
  });
}
HWY_INLINE Lanes load_f64(const std::byte* p) {
  return each([&](int i) HWY_ATTR {
    const hn::Half<F32Tag> half;
    const hn::Rebind<double, hn::Half<F32Tag>> d64;
    const double* from = reinterpret_cast<const double*>(p) + i * kPart;
    const auto low = hn::DemoteTo(half, hn::LoadU(d64, from));
    const auto high = hn::DemoteTo(half, hn::LoadU(d64, from + kPart / 2));
    return hn::Combine(F32Tag(), high, low);
  });
}
HWY_INLINE Lanes load_i8(const std::int8_t* p) {
  return each([&](int i) HWY_ATTR {
    const hn::Rebind<std::int8_t, F32Tag> d8;
    const auto bytes = hn::LoadU(d8, p + i * kPart);
    return hn::ConvertTo(F32Tag(), hn::PromoteTo(I32Tag(), bytes));
  });
}
/// Low (shift 0) or high (shift 4) nibbles of 16 bytes, minus 8.
template <int kShift>
HWY_INLINE Lanes load_nibbles(const std::uint8_t* p) {
  return each([&](int i) HWY_ATTR {
    const hn::Rebind<std::uint8_t, F32Tag> d8;
    const auto bytes = hn::PromoteTo(I32Tag(), hn::LoadU(d8, p + i * kPart));
    const auto nibbles = hn::And(hn::ShiftRight<kShift>(bytes), hn::Set(I32Tag(), 15));
    return hn::ConvertTo(F32Tag(), hn::Sub(nibbles, hn::Set(I32Tag(), 8)));
  });
}
