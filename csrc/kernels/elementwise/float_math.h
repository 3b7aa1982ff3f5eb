// float32 functions that give the same bits on every ISA: only IEEE operations in a written order, every
// fused multiply-add explicit. Included inside an anonymous namespace by each ISA source; loops over these
// vectorize. Coefficients are weighted minimax fits made for this file. NaN passes through every function
// but exp_nonpositive_f32.
//
//   exp   x = n ln2 + r, |r| <= ln2/2: 2^n (1 + r + r^2 P(r)); 2^n in two factors, so the ends over- and
//   underflow right tanh  |x| < 0.625: x + x z P(z), z = x^2; else 1 - 2 / (exp(2|x|) + 1) erf   |x| < 1: x
//   P(z); else 1 - exp(-Q(min(|x|, 4))), Q(t) ~ -log(erfc(t))

inline uint32_t bits_of(float v) {
  uint32_t u;
  __builtin_memcpy(&u, &v, sizeof(u));
  return u;
}

inline float float_of(uint32_t u) {
  float v;
  __builtin_memcpy(&v, &u, sizeof(v));
  return v;
}

// Adding 1.5 * 2^23 leaves the integer nearest to v (half to even) in the low bits; right for |v| < 2^22.
constexpr float kRound = 12582912.0f;
constexpr uint32_t kRoundBits = 0x4B400000u;

inline float fma_f32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

inline float clamp_f32(float v, float lo, float hi) {
  v = v < lo ? lo : v;
  return v > hi ? hi : v;
}

inline float pow2_f32(uint32_t n) { return float_of((n + 127u) << 23); }

// exp: 1 / ln2, -ln2 in two parts, the coefficients of P from the highest power on; where that of a softmax
// ends.
constexpr float kLog2e = 1.44269504f, kMinusLn2 = -0.693147182f, kMinusLn2Rest = 1.90465421e-9f;
constexpr float kExp[5] = {0.0013951717f, 0.008369599f, 0.041666187f, 0.16666512f, 0.5f};
constexpr float kLeastSoftmax = -80.0f;

// exp(t) without its power of two, whose exponent `shifted` holds in its lowest bits.
inline float exp_fraction_f32(float t, float shifted) {
  const float whole = shifted - kRound;
  float r = fma_f32(whole, kMinusLn2, t);
  r = fma_f32(whole, kMinusLn2Rest, r);
  float p = kExp[0];
  p = fma_f32(p, r, kExp[1]);
  p = fma_f32(p, r, kExp[2]);
  p = fma_f32(p, r, kExp[3]);
  p = fma_f32(p, r, kExp[4]);
  return fma_f32(p, r * r, r) + 1.0f;
}

inline float exp_f32(float x) {
  const float t = clamp_f32(x, kLeastExponent, kMostExponent);
  const float shifted = fma_f32(t, kLog2e, kRound);
  const uint32_t n = bits_of(shifted) - kRoundBits;
  const uint32_t half = static_cast<uint32_t>(static_cast<int32_t>(n) >> 1);
  return exp_fraction_f32(t, shifted) * pow2_f32(half) * pow2_f32(n - half);
}

// exp_f32 for x <= 0 as far as a softmax needs it: the same bits down to -80, beyond that, and for NaN, what
// comes to nothing beside a maximum of 1. One addition to the exponent takes the place of two products.
inline float exp_nonpositive_f32(float x) {
  const float t = x > kLeastSoftmax ? x : kLeastSoftmax;
  const float shifted = fma_f32(t, kLog2e, kRound);
  return float_of(bits_of(exp_fraction_f32(t, shifted)) + (bits_of(shifted) << 23));  // kRound's go beyond 32
}

inline float tanh_f32(float x) {
  const float a = __builtin_fabsf(x), z = x * x;
  float p = -0.005717037f;
  p = fma_f32(p, z, 0.020650579f);
  p = fma_f32(p, z, -0.053743497f);
  p = fma_f32(p, z, 0.13331491f);
  p = fma_f32(p, z, -0.33333284f);
  const float small = fma_f32(x * z, p, x);
  const float big = 1.0f - 2.0f / (exp_f32(a + a) + 1.0f);
  return a < 0.625f ? small : __builtin_copysignf(big, x);
}

inline float erf_f32(float x) {
  const float a = __builtin_fabsf(x), z = x * x;
  float p = 7.853854e-05f;
  p = fma_f32(p, z, -0.00080101914f);
  p = fma_f32(p, z, 0.0051883273f);
  p = fma_f32(p, z, -0.026853811f);
  p = fma_f32(p, z, 0.112835854f);
  p = fma_f32(p, z, -0.37612626f);
  p = fma_f32(p, z, 1.1283791f);
  const float t = a > 4.0f ? 4.0f : a;
  float q = -0.0001855749f;
  q = fma_f32(q, t, 0.0029396156f);
  q = fma_f32(q, t, -0.021805352f);
  q = fma_f32(q, t, 0.10303743f);
  q = fma_f32(q, t, 0.6382256f);
  q = fma_f32(q, t, 1.12704f);
  q = fma_f32(q, t, 0.00035370892f);
  const float big = 1.0f - exp_f32(-q);
  return a < 1.0f ? x * p : __builtin_copysignf(big, x);
}

inline float sigmoid_f32(float x) { return 1.0f / (1.0f + exp_f32(-x)); }

inline float gelu_f32(float x) { return 0.5f * x * (1.0f + erf_f32(x * 0.707106781f)); }

inline float gelu_tanh_f32(float x) {
  const float inner = 0.797884561f * fma_f32(0.044715f * x, x * x, x);
  return 0.5f * x * (1.0f + tanh_f32(inner));
}

inline float hard_sigmoid_f32(float x, float alpha, float beta) {
  return clamp_f32(fma_f32(x, alpha, beta), 0.0f, 1.0f);
}

// The largest of n values, or -infinity; NaN are passed over. Unrolled, the loops over lanes would be made of
// scalars (GCC 12).
inline float row_maximum(size_t n, const float* s) {
  constexpr int kLanes = 16;
  float part[kLanes];
  for (int l = 0; l < kLanes; ++l) part[l] = -__builtin_inff();
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma GCC unroll 1
    for (int l = 0; l < kLanes; ++l) part[l] = s[i + l] > part[l] ? s[i + l] : part[l];
  }
  // Halved: with one lane after the other attention to 128 keys took 1.08 of the time.
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int l = 0; l < half; ++l) part[l] = part[l + half] > part[l] ? part[l + half] : part[l];
  }
  float maximum = part[0];
  for (; i < n; ++i) maximum = s[i] > maximum ? s[i] : maximum;
  return maximum;
}
