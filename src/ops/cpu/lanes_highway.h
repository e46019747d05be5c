// Sixteen virtual lanes as one 512-bit or two 256-bit vectors. Included by lanes.h, once per target.

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET <= HWY_AVX3
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
#if HWY_TARGET <= HWY_AVX3
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
/// reduce_add of each of four: the same trees, sharing their vectors.
HWY_INLINE void reduce_add4(Lanes a, Lanes b, Lanes c, Lanes d, float* out) {
#if HWY_TARGET <= HWY_AVX3
  const hn::FixedTag<float, 16> d16;
  const auto ab = hn::Add(hn::ConcatLowerLower(d16, b.p[0], a.p[0]), hn::ConcatUpperUpper(d16, b.p[0], a.p[0]));
  const auto cd = hn::Add(hn::ConcatLowerLower(d16, d.p[0], c.p[0]), hn::ConcatUpperUpper(d16, d.p[0], c.p[0]));
  // Eight lanes of each are left; 128-bit quarters 0 and 2 of a pair hold lanes 0..3 of its two, 1 and 3 hold lanes 4..7.
  const Part even{_mm512_shuffle_f32x4(ab.raw, cd.raw, _MM_SHUFFLE(2, 0, 2, 0))};
  const Part odd{_mm512_shuffle_f32x4(ab.raw, cd.raw, _MM_SHUFFLE(3, 1, 3, 1))};
  const auto s4 = hn::Add(even, odd);
  const auto s2 = hn::Add(s4, hn::Shuffle1032(s4));
  const auto s1 = hn::Add(s2, hn::Shuffle2301(s2));
  const __m512i first = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
  _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(first, s1.raw)));
#else
  const hn::FixedTag<float, 8> d8;
  const auto a8 = hn::Add(a.p[0], a.p[1]);
  const auto b8 = hn::Add(b.p[0], b.p[1]);
  const auto c8 = hn::Add(c.p[0], c.p[1]);
  const auto d8s = hn::Add(d.p[0], d.p[1]);
  const auto ab = hn::Add(hn::ConcatLowerLower(d8, b8, a8), hn::ConcatUpperUpper(d8, b8, a8));  // four lanes of a, four of b
  const auto cd = hn::Add(hn::ConcatLowerLower(d8, d8s, c8), hn::ConcatUpperUpper(d8, d8s, c8));
  const Part low{_mm256_shuffle_ps(ab.raw, cd.raw, _MM_SHUFFLE(1, 0, 1, 0))};   // a0 a1 c0 c1 | b0 b1 d0 d1
  const Part high{_mm256_shuffle_ps(ab.raw, cd.raw, _MM_SHUFFLE(3, 2, 3, 2))};  // a2 a3 c2 c3 | b2 b3 d2 d3
  const auto s2 = hn::Add(low, high);
  const auto s1 = hn::Add(s2, hn::Shuffle2301(s2));  // a a c c | b b d d
  float sums[8];
  hn::StoreU(s1, d8, sums);
  out[0] = sums[0];
  out[1] = sums[4];
  out[2] = sums[2];
  out[3] = sums[6];
#endif
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
/// a * b - c where a * b is exact: one rounding, fused or not.
HWY_INLINE Lanes exact_mul_sub(Lanes a, Lanes b, Lanes c) {
  return each([&](int i) HWY_ATTR { return hn::MulSub(a.p[i], b.p[i], c.p[i]); });
}

// Sixteen bytes: codes of a block before they become lanes.
using ByteTag = hn::FixedTag<std::uint8_t, kLanes>;
struct Bytes {
  hn::Vec<ByteTag> v;
};
HWY_INLINE Bytes load_bytes(const void* p) { return {hn::LoadU(ByteTag(), static_cast<const std::uint8_t*>(p))}; }
HWY_INLINE Bytes bit_or(Bytes a, Bytes b) { return {hn::Or(a.v, b.v)}; }
/// (a >> kShift) & kMask in every byte; kMask has no bits that a neighbour could shift in.
template <int kShift, int kMask>
HWY_INLINE Bytes bits(Bytes a) {
  static_assert(kMask <= 0xff >> kShift);
  const hn::Repartition<std::uint16_t, ByteTag> d16;  // there are no shifts of bytes
  const auto shifted = hn::BitCast(ByteTag(), hn::ShiftRight<kShift>(hn::BitCast(d16, a.v)));
  return {hn::And(shifted, hn::Set(ByteTag(), static_cast<std::uint8_t>(kMask)))};
}
/// The bits that kMask selects after they moved from place kFrom of every byte to place kTo.
template <int kFrom, int kTo, int kMask>
HWY_INLINE Bytes moved_bits(Bytes a) {
  static_assert(kMask <= 0xff && (kMask & ((1 << kTo) - 1)) == 0 && kMask >> kTo <= 0xff >> kFrom);
  const hn::Repartition<std::uint16_t, ByteTag> d16;
  const auto words = hn::BitCast(d16, a.v);
  const auto mask = hn::Set(ByteTag(), static_cast<std::uint8_t>(kMask));
  if constexpr (kFrom >= kTo) {
    return {hn::And(hn::BitCast(ByteTag(), hn::ShiftRight<kFrom - kTo>(words)), mask)};
  } else {
    return {hn::And(hn::BitCast(ByteTag(), hn::ShiftLeft<kTo - kFrom>(words)), mask)};
  }
}
HWY_INLINE Bytes subtract(Bytes a, int b) { return {hn::Sub(a.v, hn::Set(ByteTag(), static_cast<std::uint8_t>(b)))}; }
/// table[index] for every index below 16.
HWY_INLINE Bytes lookup(Bytes table, Bytes index) { return {hn::TableLookupBytes(table.v, index.v)}; }
/// `value` in byte i where bit i of the little-endian p[0..2) is set, else 0.
HWY_INLINE Bytes spread_bits(const std::uint8_t* p, int value) {
  const hn::Repartition<std::uint16_t, ByteTag> d16;
  const hn::Repartition<std::uint64_t, ByteTag> d64;
  alignas(16) static constexpr std::uint8_t kByteOf[kLanes] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
  const auto each_bit = hn::BitCast(ByteTag(), hn::Set(d64, 0x8040201008040201u));
  const auto pair = hn::BitCast(ByteTag(), hn::Set(d16, static_cast<std::uint16_t>(p[0] | (p[1] << 8))));
  const auto set = hn::TestBit(hn::TableLookupBytes(pair, hn::Load(ByteTag(), kByteOf)), each_bit);
  return {hn::IfThenElseZero(set, hn::Set(ByteTag(), static_cast<std::uint8_t>(value)))};
}
template <class Integer>
HWY_INLINE Lanes bytes_to_lanes(Bytes a) {
  const hn::Repartition<Integer, ByteTag> d8;
#if HWY_TARGET <= HWY_AVX3
  return {{hn::ConvertTo(F32Tag(), hn::PromoteTo(I32Tag(), hn::BitCast(d8, a.v)))}};
#else
  const hn::Half<decltype(d8)> half;
  const auto bytes = hn::BitCast(d8, a.v);
  return {{hn::ConvertTo(F32Tag(), hn::PromoteTo(I32Tag(), hn::LowerHalf(half, bytes))),
           hn::ConvertTo(F32Tag(), hn::PromoteTo(I32Tag(), hn::UpperHalf(half, bytes)))}};
#endif
}
HWY_INLINE Lanes unsigned_lanes(Bytes a) { return bytes_to_lanes<std::uint8_t>(a); }
HWY_INLINE Lanes signed_lanes(Bytes a) { return bytes_to_lanes<std::int8_t>(a); }

/// A binary16 scale in every lane, exactly.
HWY_INLINE Lanes set1_f16(std::uint16_t h) {
  const hn::Rebind<hwy::float16_t, F32Tag> d16;
  const hn::Rebind<std::uint16_t, F32Tag> bits;
  const Part scale = hn::PromoteTo(F32Tag(), hn::BitCast(d16, hn::Set(bits, h)));
  return each([&](int) HWY_ATTR { return scale; });
}
