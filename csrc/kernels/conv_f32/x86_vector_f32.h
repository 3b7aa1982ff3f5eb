// One float vector under one set of names, so that a kernel body is written once for AVX2 and AVX-512.
// Included by x86 ISA sources only; anonymous namespace, so each source has its own copy.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace pyruntime {
namespace {

#if defined(__AVX512F__)
constexpr int kVector = 16;
using Vector = __m512;
using Mask = __mmask16;

inline Mask first_lanes(int count) { return static_cast<Mask>((1u << count) - 1u); }  // 0 <= count <= 16
inline Vector broadcast(float v) { return _mm512_set1_ps(v); }
inline Vector load(const float* p) { return _mm512_loadu_ps(p); }
inline Vector load_masked(const float* p, Mask m) { return _mm512_maskz_loadu_ps(m, p); }
inline void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
inline void store_masked(float* p, Mask m, Vector v) { _mm512_mask_storeu_ps(p, m, v); }
inline Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
inline Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
// The zero-masking forms, since the plain ones make GCC 12 warn of uninitialized values inside its own
// header.
inline Vector min(Vector a, Vector b) { return _mm512_maskz_min_ps(0xFFFF, a, b); }
inline Vector max(Vector a, Vector b) { return _mm512_maskz_max_ps(0xFFFF, a, b); }
#else
constexpr int kVector = 8;
using Vector = __m256;
using Mask = __m256i;

inline Mask first_lanes(int count) {  // 0 <= count <= 8
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Vector broadcast(float v) { return _mm256_set1_ps(v); }
inline Vector load(const float* p) { return _mm256_loadu_ps(p); }
inline Vector load_masked(const float* p, Mask m) { return _mm256_maskload_ps(p, m); }
inline void store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
inline void store_masked(float* p, Mask m, Vector v) { _mm256_maskstore_ps(p, m, v); }
inline Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
inline Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
inline Vector min(Vector a, Vector b) { return _mm256_min_ps(a, b); }
inline Vector max(Vector a, Vector b) { return _mm256_max_ps(a, b); }
#endif

// v < lo ? lo : v, then v > hi ? hi : v. min and max return their second operand if either is NaN, or if both
// are zero.
inline Vector clamp(Vector v, Vector lo, Vector hi) { return min(hi, max(lo, v)); }

// Stops the compiler from loading a vector again at each use.
inline void keep_in_register(Vector& v) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(v));
#else
  __asm__("" : "+x"(v));
#endif
}

inline void prefetch_l2(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }
inline void prefetch_l1(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

inline const float* at(const float* p, ptrdiff_t bytes) {
  return reinterpret_cast<const float*>(reinterpret_cast<const char*>(p) + bytes);
}

inline float* at(float* p, ptrdiff_t bytes) {
  return reinterpret_cast<float*>(reinterpret_cast<char*>(p) + bytes);
}

}  // namespace
}  // namespace pyruntime
