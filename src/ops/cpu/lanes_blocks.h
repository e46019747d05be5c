// Blocks of weights as lanes: the values that core/blocks.h defines, bit for bit, 16 elements at a time. Included by lanes.h,
// once per target.

// --- blocks of 32: half kHalf (0 or 1) of one
// -----------------------------------------------------------------------------------

HWY_INLINE Bytes iq4_levels() { return load_bytes(kIq4Values.data()); }

template <int kHalf>
HWY_INLINE Lanes load_block_half(const BlockQ8_0& block) {
  return mul(load_i8(block.q + kHalf * kLanes), set1_f16(block.d));
}
template <int kHalf>
HWY_INLINE Lanes load_block_half(const BlockQ4_0& block) {
  return mul(load_nibbles<4 * kHalf>(block.q), set1_f16(block.d));
}
template <int kHalf>
HWY_INLINE Lanes load_block_half(const BlockQ4_1& block) {
  const Lanes code = unsigned_lanes(bits<4 * kHalf, 15>(load_bytes(block.q)));
  return add(mul(code, set1_f16(block.d)), set1_f16(block.m));
}
template <int kHalf>
HWY_INLINE Lanes load_block_half(const BlockQ5_0& block) {
  const Bytes code = bit_or(bits<4 * kHalf, 15>(load_bytes(block.q)), spread_bits(block.high + 2 * kHalf, 16));
  return mul(signed_lanes(subtract(code, 16)), set1_f16(block.d));
}
template <int kHalf>
HWY_INLINE Lanes load_block_half(const BlockQ5_1& block) {
  const Bytes code = bit_or(bits<4 * kHalf, 15>(load_bytes(block.q)), spread_bits(block.high + 2 * kHalf, 16));
  return add(mul(unsigned_lanes(code), set1_f16(block.d)), set1_f16(block.m));
}
template <int kHalf>
HWY_INLINE Lanes load_block_half(const BlockIQ4_NL& block) {
  const Bytes level = lookup(iq4_levels(), bits<4 * kHalf, 15>(load_bytes(block.q)));
  return mul(signed_lanes(level), set1_f16(block.d));
}

// --- super-blocks: scales once, then group kGroup (0..15) of 16 elements
// ---------------------------------------------------------

/// Scales and minima of the sub-blocks of a super-block, multiplied out: in order, 8 or 16 of them.
struct SubScales {
  float scale[kLanes];
  float minimum[kLanes];
};

HWY_INLINE void load_scales(const BlockQ2_K& block, SubScales& out) {
  const Bytes packed = load_bytes(block.scales);
  store(mul(set1_f16(block.d), unsigned_lanes(bits<0, 15>(packed))), out.scale);
  store(mul(set1_f16(block.dmin), unsigned_lanes(bits<4, 15>(packed))), out.minimum);
}
HWY_INLINE void load_scales(const BlockQ3_K& block, SubScales& out) {
  store(mul(set1_f16(block.d), signed_lanes(load_bytes(q3_k_scales(block.scales).data()))), out.scale);
}
template <class Block>  // BlockQ4_K, BlockQ5_K
HWY_INLINE void load_k_scales(const Block& block, SubScales& out) {
  const Lanes packed = unsigned_lanes(load_bytes(k_scales_minima(block.scales).data()));
  store(mul(set1_f16(block.d), packed), out.scale);  // its first 8 are scales
  float minima[kLanes];
  store(mul(set1_f16(block.dmin), packed), minima);  // its last 8 are minima
  std::memcpy(out.minimum, minima + 8, 8 * sizeof(float));
}
HWY_INLINE void load_scales(const BlockQ4_K& block, SubScales& out) { load_k_scales(block, out); }
HWY_INLINE void load_scales(const BlockQ5_K& block, SubScales& out) { load_k_scales(block, out); }
HWY_INLINE void load_scales(const BlockQ6_K& block, SubScales& out) {
  store(mul(set1_f16(block.d), signed_lanes(load_bytes(block.scales))), out.scale);
}
HWY_INLINE void load_scales(const BlockIQ4_XS& block, SubScales& out) {
  std::int8_t padded[kLanes] = {};
  std::memcpy(padded, iq4_xs_scales(block).data(), 8);
  store(mul(set1_f16(block.d), signed_lanes(load_bytes(padded))), out.scale);
}

/// Bits 2*n.. of a plane of bytes where n counts 32s in a half of a super-block: the codes of Q2_K, the low ones of Q3_K.
template <int kGroup>
HWY_INLINE Bytes load_pairs(const std::uint8_t* q) {
  return bits<2 * (kGroup % 8 / 2), 3>(load_bytes(q + 32 * (kGroup / 8) + 16 * (kGroup % 2)));
}
/// The nibbles of Q4_K, the low bits of Q5_K.
template <int kGroup>
HWY_INLINE Bytes load_k_nibbles(const std::uint8_t* q) {
  return bits<4 * (kGroup / 2 % 2), 15>(load_bytes(q + 32 * (kGroup / 4) + 16 * (kGroup % 2)));
}
/// Bit n of a plane of 32 bytes, n the number of the 32 elements that kGroup lies in, moved to place kTo.
template <int kGroup, int kTo>
HWY_INLINE Bytes load_plane_bit(const std::uint8_t* high) {
  return moved_bits<kGroup / 2, kTo, 1 << kTo>(load_bytes(high + 16 * (kGroup % 2)));
}

template <int kGroup>
HWY_INLINE Lanes load_group(const BlockQ2_K& block, const SubScales& by) {
  return exact_mul_sub(unsigned_lanes(load_pairs<kGroup>(block.q)), set1(by.scale[kGroup]), set1(by.minimum[kGroup]));
}
template <int kGroup>
HWY_INLINE Lanes load_group(const BlockQ3_K& block, const SubScales& by) {
  const Bytes code = bit_or(load_pairs<kGroup>(block.q), load_plane_bit<kGroup, 2>(block.high));
  return mul(signed_lanes(subtract(code, 4)), set1(by.scale[kGroup]));
}
template <int kGroup>
HWY_INLINE Lanes load_group(const BlockQ4_K& block, const SubScales& by) {
  return exact_mul_sub(unsigned_lanes(load_k_nibbles<kGroup>(block.q)), set1(by.scale[kGroup / 2]),
                       set1(by.minimum[kGroup / 2]));
}
template <int kGroup>
HWY_INLINE Lanes load_group(const BlockQ5_K& block, const SubScales& by) {
  const Bytes code = bit_or(load_k_nibbles<kGroup>(block.q), load_plane_bit<kGroup, 4>(block.high));
  return exact_mul_sub(unsigned_lanes(code), set1(by.scale[kGroup / 2]), set1(by.minimum[kGroup / 2]));
}
template <int kGroup>
HWY_INLINE Lanes load_group(const BlockQ6_K& block, const SubScales& by) {
  constexpr int kHalf = kGroup / 8;
  constexpr int kPlace = kGroup % 8 * 16;  // in the half
  const Bytes low = bits<4 * (kPlace / 64), 15>(load_bytes(block.low + 64 * kHalf + kPlace % 64));
  const Bytes high = moved_bits<2 * (kPlace / 32), 4, 3 << 4>(load_bytes(block.high + 32 * kHalf + kPlace % 32));
  return mul(signed_lanes(subtract(bit_or(low, high), 32)), set1(by.scale[kGroup]));
}
template <int kGroup>
HWY_INLINE Lanes load_group(const BlockIQ4_XS& block, const SubScales& by) {
  const Bytes level = lookup(iq4_levels(), bits<4 * (kGroup % 2), 15>(load_bytes(block.q + 16 * (kGroup / 2))));
  return mul(signed_lanes(level), set1(by.scale[kGroup / 2]));
}

/// Calls use(std::integral_constant<int, group>) for the 16 groups of a super-block, in order.
template <class F>
HWY_INLINE void for_groups(const F& use) {
  [&]<int... kGroup>(std::integer_sequence<int, kGroup...>) HWY_ATTR { (use(std::integral_constant<int, kGroup>()), ...); }
  (std::make_integer_sequence<int, kSuperBlock / kLanes>());
}
