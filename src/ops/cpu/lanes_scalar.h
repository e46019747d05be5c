// Sixteen virtual lanes as an array: what the vector types must equal bit for bit. Included by lanes.h, once per target.

struct Lanes {
  float v[kLanes];
};

// Bodies of one loop over the lanes each.
template <class F>
inline Lanes each(const F& f) {
  Lanes out;
  for (int i = 0; i < kLanes; ++i) out.v[i] = f(i);
  return out;
}

inline Lanes zero() { return Lanes{}; }
inline Lanes set1(float x) {
  return each([&](int) { return x; });
}
inline Lanes load(const float* p) {
  return each([&](int i) { return p[i]; });
}
inline void store(Lanes a, float* p) {
  for (int i = 0; i < kLanes; ++i) p[i] = a.v[i];
}
inline Lanes add(Lanes a, Lanes b) {
  return each([&](int i) { return a.v[i] + b.v[i]; });
}
inline Lanes sub(Lanes a, Lanes b) {
  return each([&](int i) { return a.v[i] - b.v[i]; });
}
inline Lanes mul(Lanes a, Lanes b) {
  return each([&](int i) { return a.v[i] * b.v[i]; });
}
inline Lanes div(Lanes a, Lanes b) {
  return each([&](int i) { return a.v[i] / b.v[i]; });
}
/// a * b + c, rounded once.
inline Lanes fma(Lanes a, Lanes b, Lanes c) {
  return each([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}
/// a > b ? yes : no, lane by lane; false for NaN.
inline Lanes select_gt(Lanes a, Lanes b, Lanes yes, Lanes no) {
  return each([&](int i) { return a.v[i] > b.v[i] ? yes.v[i] : no.v[i]; });
}
/// a is NaN ? yes : no.
inline Lanes select_nan(Lanes a, Lanes yes, Lanes no) {
  return each([&](int i) { return a.v[i] != a.v[i] ? yes.v[i] : no.v[i]; });
}
/// 2^n for integral n in -126..127.
inline Lanes exp2_int(Lanes n) {
  return each([&](int i) { return std::bit_cast<float>((static_cast<std::int32_t>(n.v[i]) + 127) << 23); });
}
/// Halving tree: lane i with i + 8, then i + 4, i + 2, i + 1.
inline float reduce_add(Lanes a) {
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) a.v[i] = a.v[i] + a.v[i + width];
  }
  return a.v[0];
}
/// reduce_add of each of four.
inline void reduce_add4(Lanes a, Lanes b, Lanes c, Lanes d, float* out) {
  out[0] = reduce_add(a);
  out[1] = reduce_add(b);
  out[2] = reduce_add(c);
  out[3] = reduce_add(d);
}
inline Lanes load_f16(const std::byte* p) {
  return each([&](int i) { return f16_to_f32(load_u16(p + 2 * i)); });
}
inline Lanes load_bf16(const std::byte* p) {
  return each([&](int i) { return bf16_to_f32(load_u16(p + 2 * i)); });
}
inline Lanes load_f64(const std::byte* p) {
  return each([&](int i) { return static_cast<float>(load_as<double>(p + 8 * i)); });
}
inline Lanes load_i8(const std::int8_t* p) {
  return each([&](int i) { return static_cast<float>(p[i]); });
}
/// Low (shift 0) or high (shift 4) nibbles of 16 bytes, minus 8.
template <int kShift>
inline Lanes load_nibbles(const std::uint8_t* p) {
  return each([&](int i) { return static_cast<float>(((p[i] >> kShift) & 15) - 8); });
}
/// a * b - c where a * b is exact: one rounding, fused or not.
inline Lanes exact_mul_sub(Lanes a, Lanes b, Lanes c) {
  return each([&](int i) { return a.v[i] * b.v[i] - c.v[i]; });
}

// Sixteen bytes: codes of a block before they become lanes.
struct Bytes {
  std::uint8_t v[kLanes];
};
template <class F>
inline Bytes each_byte(const F& f) {
  Bytes out;
  for (int i = 0; i < kLanes; ++i) out.v[i] = static_cast<std::uint8_t>(f(i));
  return out;
}
inline Bytes load_bytes(const void* p) {
  Bytes out;
  std::memcpy(out.v, p, sizeof out.v);
  return out;
}
inline Bytes bit_or(Bytes a, Bytes b) {
  return each_byte([&](int i) { return a.v[i] | b.v[i]; });
}
/// (a >> kShift) & kMask in every byte; kMask has no bits that a neighbour could shift in.
template <int kShift, int kMask>
inline Bytes bits(Bytes a) {
  static_assert(kMask <= 0xff >> kShift);
  return each_byte([&](int i) { return (a.v[i] >> kShift) & kMask; });
}
/// The bits that kMask selects after they moved from place kFrom of every byte to place kTo.
template <int kFrom, int kTo, int kMask>
inline Bytes moved_bits(Bytes a) {
  static_assert(kMask <= 0xff && (kMask & ((1 << kTo) - 1)) == 0 && kMask >> kTo <= 0xff >> kFrom);
  return each_byte([&](int i) { return ((a.v[i] >> kFrom) << kTo) & kMask; });
}
inline Bytes subtract(Bytes a, int b) {
  return each_byte([&](int i) { return a.v[i] - b; });
}
/// table[index] for every index below 16.
inline Bytes lookup(Bytes table, Bytes index) {
  return each_byte([&](int i) { return table.v[index.v[i]]; });
}
/// `value` in byte i where bit i of the little-endian p[0..2) is set, else 0.
inline Bytes spread_bits(const std::uint8_t* p, int value) {
  return each_byte([&](int i) { return ((p[i / 8] >> (i % 8)) & 1) * value; });
}
inline Lanes unsigned_lanes(Bytes a) {
  return each([&](int i) { return static_cast<float>(a.v[i]); });
}
inline Lanes signed_lanes(Bytes a) {
  return each([&](int i) { return static_cast<float>(static_cast<std::int8_t>(a.v[i])); });
}

/// A binary16 scale in every lane, exactly.
inline Lanes set1_f16(std::uint16_t h) { return set1(f16_to_f32(h)); }
