// Vectors of one instruction set, through the compilers' vector extensions.
//
// Only the kernels_*.cpp units include this file and the *_impl.hpp files, each with other compiler flags. Everything
// is in an unnamed namespace: a function with external linkage would be merged across the units by the linker, and a
// machine without AVX-512 could be given the AVX-512 copy. For the same reason nothing here calls inline functions of
// the standard library; the kernel_linkage test looks for such symbols in the objects.
#pragma once

#include <cstdint>

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define UNSPOOL_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define UNSPOOL_VECTOR_BYTES 32
#else
#define UNSPOOL_VECTOR_BYTES 16
#endif

#define UNSPOOL_INLINE inline __attribute__((always_inline))

namespace unspool {
namespace {

template <class T>
struct Lanes;

template <>
struct Lanes<float> {
  typedef float Vec __attribute__((vector_size(UNSPOOL_VECTOR_BYTES)));
  typedef float Loose __attribute__((vector_size(UNSPOOL_VECTOR_BYTES), aligned(4), may_alias));
  typedef int32_t Int __attribute__((vector_size(UNSPOOL_VECTOR_BYTES)));
  using Scalar = int32_t;
  static constexpr int mantissa = 23;
  static constexpr int32_t bias = 127;
  static constexpr int32_t sign_bit = INT32_MIN;
};

template <>
struct Lanes<double> {
  typedef double Vec __attribute__((vector_size(UNSPOOL_VECTOR_BYTES)));
  typedef double Loose __attribute__((vector_size(UNSPOOL_VECTOR_BYTES), aligned(8), may_alias));
  typedef int64_t Int __attribute__((vector_size(UNSPOOL_VECTOR_BYTES)));
  using Scalar = int64_t;
  static constexpr int mantissa = 52;
  static constexpr int64_t bias = 1023;
  static constexpr int64_t sign_bit = INT64_MIN;
};

template <class T>
using Vec = typename Lanes<T>::Vec;
template <class T>
using IntVec = typename Lanes<T>::Int;
template <class T>
constexpr int lanes = UNSPOOL_VECTOR_BYTES / sizeof(T);

// x - 0 and not x + 0, which would turn -0 into 0.
template <class T>
UNSPOOL_INLINE Vec<T> splat(T x) {
  return x - Vec<T>{};
}

template <class T>
UNSPOOL_INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename Lanes<T>::Loose*>(p);
}

template <class T>
UNSPOOL_INLINE void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename Lanes<T>::Loose*>(p) = v;
}

// ---- the first n lanes only, 0 < n < lanes; loads fill the others with zero
#if defined(__AVX512F__)
UNSPOOL_INLINE Vec<float> load_first(const float* p, int n) {
  return (Vec<float>)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
UNSPOOL_INLINE Vec<double> load_first(const double* p, int n) {
  return (Vec<double>)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
}
UNSPOOL_INLINE void store_first(float* p, Vec<float> v, int n) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
UNSPOOL_INLINE void store_first(double* p, Vec<double> v, int n) {
  _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
}
#elif defined(__AVX2__)
alignas(32) constexpr int32_t first_lanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
UNSPOOL_INLINE __m256i first_mask(int words) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first_lanes + 8 - words));
}
UNSPOOL_INLINE Vec<float> load_first(const float* p, int n) { return (Vec<float>)_mm256_maskload_ps(p, first_mask(n)); }
UNSPOOL_INLINE Vec<double> load_first(const double* p, int n) {
  return (Vec<double>)_mm256_maskload_pd(p, first_mask(2 * n));
}
UNSPOOL_INLINE void store_first(float* p, Vec<float> v, int n) { _mm256_maskstore_ps(p, first_mask(n), (__m256)v); }
UNSPOOL_INLINE void store_first(double* p, Vec<double> v, int n) {
  _mm256_maskstore_pd(p, first_mask(2 * n), (__m256d)v);
}
#else
template <class T>
UNSPOOL_INLINE Vec<T> load_first(const T* p, int n) {
  Vec<T> v{};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
template <class T>
UNSPOOL_INLINE void store_first(T* p, Vec<T> v, int n) {
  for (int i = 0; i < n; ++i) p[i] = v[i];
}
#endif

// ---- smaller and larger of two. With a NaN in either the result is b: so the instruction does it, and so callers
// count on.
#if defined(__AVX512F__)
UNSPOOL_INLINE Vec<float> smaller(Vec<float> a, Vec<float> b) {
  return (Vec<float>)_mm512_min_ps((__m512)a, (__m512)b);
}
UNSPOOL_INLINE Vec<float> larger(Vec<float> a, Vec<float> b) { return (Vec<float>)_mm512_max_ps((__m512)a, (__m512)b); }
UNSPOOL_INLINE Vec<double> smaller(Vec<double> a, Vec<double> b) {
  return (Vec<double>)_mm512_min_pd((__m512d)a, (__m512d)b);
}
UNSPOOL_INLINE Vec<double> larger(Vec<double> a, Vec<double> b) {
  return (Vec<double>)_mm512_max_pd((__m512d)a, (__m512d)b);
}
UNSPOOL_INLINE Vec<float> square_root(Vec<float> a) { return (Vec<float>)_mm512_sqrt_ps((__m512)a); }
UNSPOOL_INLINE Vec<double> square_root(Vec<double> a) { return (Vec<double>)_mm512_sqrt_pd((__m512d)a); }
#elif defined(__AVX2__)
UNSPOOL_INLINE Vec<float> smaller(Vec<float> a, Vec<float> b) {
  return (Vec<float>)_mm256_min_ps((__m256)a, (__m256)b);
}
UNSPOOL_INLINE Vec<float> larger(Vec<float> a, Vec<float> b) { return (Vec<float>)_mm256_max_ps((__m256)a, (__m256)b); }
UNSPOOL_INLINE Vec<double> smaller(Vec<double> a, Vec<double> b) {
  return (Vec<double>)_mm256_min_pd((__m256d)a, (__m256d)b);
}
UNSPOOL_INLINE Vec<double> larger(Vec<double> a, Vec<double> b) {
  return (Vec<double>)_mm256_max_pd((__m256d)a, (__m256d)b);
}
UNSPOOL_INLINE Vec<float> square_root(Vec<float> a) { return (Vec<float>)_mm256_sqrt_ps((__m256)a); }
UNSPOOL_INLINE Vec<double> square_root(Vec<double> a) { return (Vec<double>)_mm256_sqrt_pd((__m256d)a); }
#elif defined(__SSE2__)
UNSPOOL_INLINE Vec<float> smaller(Vec<float> a, Vec<float> b) { return (Vec<float>)_mm_min_ps((__m128)a, (__m128)b); }
UNSPOOL_INLINE Vec<float> larger(Vec<float> a, Vec<float> b) { return (Vec<float>)_mm_max_ps((__m128)a, (__m128)b); }
UNSPOOL_INLINE Vec<double> smaller(Vec<double> a, Vec<double> b) {
  return (Vec<double>)_mm_min_pd((__m128d)a, (__m128d)b);
}
UNSPOOL_INLINE Vec<double> larger(Vec<double> a, Vec<double> b) {
  return (Vec<double>)_mm_max_pd((__m128d)a, (__m128d)b);
}
UNSPOOL_INLINE Vec<float> square_root(Vec<float> a) { return (Vec<float>)_mm_sqrt_ps((__m128)a); }
UNSPOOL_INLINE Vec<double> square_root(Vec<double> a) { return (Vec<double>)_mm_sqrt_pd((__m128d)a); }
#else
template <class V>
UNSPOOL_INLINE V smaller(V a, V b) {
  return a < b ? a : b;
}
template <class V>
UNSPOOL_INLINE V larger(V a, V b) {
  return a > b ? a : b;
}
UNSPOOL_INLINE Vec<float> square_root(Vec<float> a) {
  for (int i = 0; i < lanes<float>; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
UNSPOOL_INLINE Vec<double> square_root(Vec<double> a) {
  for (int i = 0; i < lanes<double>; ++i) a[i] = __builtin_sqrt(a[i]);
  return a;
}
#endif

// ---- bits
template <class T>
UNSPOOL_INLINE Vec<T> absolute(Vec<T> x) {
  return (Vec<T>)((IntVec<T>)x & ~Lanes<T>::sign_bit);
}

template <class T>
UNSPOOL_INLINE Vec<T> with_sign_of(Vec<T> magnitude, Vec<T> sign) {
  const IntVec<T> s = (IntVec<T>)sign & Lanes<T>::sign_bit;
  return (Vec<T>)(((IntVec<T>)magnitude & ~Lanes<T>::sign_bit) | s);
}

// NaN where either is NaN, as torch.
template <class T>
UNSPOOL_INLINE Vec<T> minimum(Vec<T> a, Vec<T> b) {
  return a != a ? a : smaller(a, b);
}

template <class T>
UNSPOOL_INLINE Vec<T> maximum(Vec<T> a, Vec<T> b) {
  return a != a ? a : larger(a, b);
}

// Bounds that are not NaN themselves: x is the second operand, so that its NaN stays.
template <class T>
UNSPOOL_INLINE Vec<T> clamped(Vec<T> x, T low, T high) {
  return smaller(splat<T>(high), larger(splat<T>(low), x));
}

}  // namespace
}  // namespace unspool
