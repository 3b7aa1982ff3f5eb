/* Loops that measure what one core can do at most; bench/roofline/peaks.py compiles and times them.

   Products: independent accumulators in registers, no memory, the instructions a kernel would use for u8 * s8.
   Each function does `rounds` rounds and returns the multiply-adds done; `sink` keeps the compiler from dropping
   them. Reading: every byte of a buffer, `rounds` times, with the widest loads. */

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

volatile int32_t sink;

/* 2 vpmaddubsw, their sum in 16 bits, vpmaddwd + vpaddd: 64 products, exact where no sum saturates. */
__attribute__((target("avx2"))) int64_t macs_avx2(int64_t rounds) {
  __m256i acc[8], a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
  for (int i = 0; i < 8; i++) acc[i] = _mm256_set1_epi8((char)i);
  for (int64_t r = 0; r < rounds; r++) {
    for (int i = 0; i < 8; i++) {
      __asm__ volatile("" : "+x"(a), "+x"(b));
      __m256i first = _mm256_maddubs_epi16(a, b);
      __asm__ volatile("" : "+x"(a), "+x"(b));
      __m256i sums = _mm256_add_epi16(first, _mm256_maddubs_epi16(b, a));
      acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(sums, ones));
      __asm__ volatile("" : "+x"(acc[i]));
    }
  }
  for (int i = 0; i < 8; i++) sink += _mm256_extract_epi32(acc[i], 0);
  return rounds * 8 * 64;
}

/* vpmaddwd + vpaddd on bytes widened before: 16 products, always exact. */
__attribute__((target("avx2"))) int64_t macs_avx2_wide(int64_t rounds) {
  __m256i acc[8], a = _mm256_set1_epi16(3), b = _mm256_set1_epi16(5);
  for (int i = 0; i < 8; i++) acc[i] = _mm256_set1_epi8((char)i);
  for (int64_t r = 0; r < rounds; r++) {
    __asm__ volatile("" : "+x"(a), "+x"(b));
    for (int i = 0; i < 8; i++) {
      __m256i pairs = _mm256_madd_epi16(a, b);
      __asm__ volatile("" : "+x"(pairs));
      acc[i] = _mm256_add_epi32(acc[i], pairs);
    }
  }
  for (int i = 0; i < 8; i++) sink += _mm256_extract_epi32(acc[i], 0);
  return rounds * 8 * 16;
}

/* vpdpbusd on 256 bits: 32 products. */
__attribute__((target("avxvnni"))) int64_t macs_avxvnni(int64_t rounds) {
  __m256i acc[12], a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5);
  for (int i = 0; i < 12; i++) acc[i] = _mm256_set1_epi8((char)i);
  for (int64_t r = 0; r < rounds; r++) {
    __asm__ volatile("" : "+x"(a), "+x"(b));
    for (int i = 0; i < 12; i++) acc[i] = _mm256_dpbusd_avx_epi32(acc[i], a, b);
  }
  for (int i = 0; i < 12; i++) sink += _mm256_extract_epi32(acc[i], 0);
  return rounds * 12 * 32;
}

/* vpdpbusd on 512 bits: 64 products. With any loop over acc not unrolled it would lie in memory. */
__attribute__((target("avx512f,avx512vnni"))) int64_t macs_avx512vnni(int64_t rounds) {
  __m512i acc[16], a = _mm512_set1_epi32(0x03030303), b = _mm512_set1_epi32(0x05050505);
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) acc[i] = _mm512_set1_epi32(i);
  for (int64_t r = 0; r < rounds; r++) {
    __asm__ volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
      acc[i] = _mm512_dpbusd_epi32(acc[i], a, b);
      __asm__ volatile("" : "+v"(acc[i]));
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) sink += _mm512_reduce_add_epi32(acc[i]);
  return rounds * 16 * 64;
}

/* vfmadd231ps on 256 bits: 8 products of float32. */
__attribute__((target("avx2,fma"))) int64_t macs_f32(int64_t rounds) {
  __m256 acc[12], a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
  for (int i = 0; i < 12; i++) acc[i] = _mm256_set1_ps((float)i);
  for (int64_t r = 0; r < rounds; r++) {
    __asm__ volatile("" : "+x"(a), "+x"(b));
    for (int i = 0; i < 12; i++) acc[i] = _mm256_fmadd_ps(a, b, acc[i]);
  }
  for (int i = 0; i < 12; i++) sink += (int32_t)_mm256_cvtss_f32(acc[i]);
  return rounds * 12 * 8;
}

/* vfmadd231ps on 512 bits: 16 products of float32. */
__attribute__((target("avx512f"))) int64_t macs_f32_avx512(int64_t rounds) {
  __m512 acc[16], a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) acc[i] = _mm512_set1_ps((float)i);
  for (int64_t r = 0; r < rounds; r++) {
    __asm__ volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
      acc[i] = _mm512_fmadd_ps(a, b, acc[i]);
      __asm__ volatile("" : "+v"(acc[i]));
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) sink += (int32_t)_mm512_reduce_add_ps(acc[i]);
  return rounds * 16 * 16;
}

/* Reads `bytes` (a multiple of 256) at `p`, 32-byte aligned. */
__attribute__((target("avx2"))) int64_t read_bytes(const uint8_t* p, int64_t bytes, int64_t rounds) {
  __m256i x[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int64_t r = 0; r < rounds; r++) {
    for (int64_t i = 0; i < bytes; i += 256) {
      for (int j = 0; j < 8; j++) {
        __m256i loaded = _mm256_load_si256((const __m256i*)(p + i + 32 * j));
        x[j % 4] = _mm256_xor_si256(x[j % 4], loaded);
      }
    }
    __asm__ volatile("" ::: "memory");
  }
  for (int j = 0; j < 4; j++) sink += _mm256_extract_epi32(x[j], 0);
  return bytes * rounds;
}
