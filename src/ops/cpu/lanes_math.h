// Functions of lanes, made of the operations of a lane type alone: written once for the vectors of the CPU (lanes.h, once per
// target) and for the threads of a GPU, of which each is one lane (ops/gpu/kernels/lane_math.h). Included inside the namespace
// of the lane type, with GRETA_LANES_INLINE defined as how its functions are declared.

/// The larger of each lane; b where a is NaN.
GRETA_LANES_INLINE Lanes max(Lanes a, Lanes b) { return select_gt(a, b, a, b); }

/// Rounds to the nearest integer, ties to even; |a| <= 2^22. Adding 1.5 * 2^23 leaves no bits below the unit.
GRETA_LANES_INLINE Lanes round_even(Lanes a) {
  const Lanes magic = set1(12582912.0f);
  return sub(add(a, magic), magic);
}

/// e^r - 1 for |r| <= ln(2)/2: Taylor to r^7/7!, whose rest is below 2^-27.
GRETA_LANES_INLINE Lanes exp_less_one(Lanes r) {
  Lanes p = set1(1.0f / 5040.0f);
  p = fma(p, r, set1(1.0f / 720.0f));
  p = fma(p, r, set1(1.0f / 120.0f));
  p = fma(p, r, set1(1.0f / 24.0f));
  p = fma(p, r, set1(1.0f / 6.0f));
  p = fma(p, r, set1(0.5f));
  return fma(mul(r, r), p, r);
}

/// e^x, at most 1.0 ULP from the truth (tests/ops/math_test.cpp), results below the normal range rounded once; NaN for NaN.
/// x = n ln 2 + r with ln 2 in two floats (Cody & Waite), |r| <= ln(2)/2.
GRETA_LANES_INLINE Lanes exp(Lanes x) {
  const Lanes low = set1(-105.0f);  // below: 0
  const Lanes high = set1(90.0f);   // above: infinity
  Lanes y = select_gt(low, x, low, x);
  y = select_gt(y, high, high, y);
  y = select_nan(x, zero(), y);
  const Lanes n = round_even(mul(y, set1(1.44269504f)));
  Lanes r = fma(n, set1(-kLn2High), y);
  r = fma(n, set1(-kLn2Low), r);
  const Lanes e = add(exp_less_one(r), set1(1.0f));
  // In two steps, because n goes from -151 to 130: the first is exact, the second rounds.
  const Lanes half = round_even(mul(n, set1(0.5f)));
  const Lanes scaled = mul(mul(e, exp2_int(half)), exp2_int(sub(n, half)));
  return select_nan(x, x, scaled);
}

/// tanh x within 3 ULP (tests/ops/accuracy_test.cpp); NaN for NaN. tanh |x| = m / (m + 2) with m = e^2|x| - 1 = 2^n p + (2^n -
/// 1), p = e^r - 1, so that nothing cancels near 0; 1 from |x| = 10 on.
GRETA_LANES_INLINE Lanes tanh(Lanes x) {
  const Lanes size = select_gt(zero(), x, sub(zero(), x), x);
  Lanes y = select_gt(set1(10.0f), size, size, set1(10.0f));
  y = add(y, y);
  const Lanes n = round_even(mul(y, set1(1.44269504f)));
  Lanes r = fma(n, set1(-kLn2High), y);
  r = fma(n, set1(-kLn2Low), r);
  const Lanes power = exp2_int(n);
  const Lanes m = fma(power, exp_less_one(r), sub(power, set1(1.0f)));
  const Lanes t = div(m, add(m, set1(2.0f)));
  return select_nan(x, x, select_gt(zero(), x, sub(zero(), t), t));
}
