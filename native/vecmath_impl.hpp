// exp, log, tanh and their relatives on vectors. tools/minimax.py makes the coefficients; the tests measure the errors.
#pragma once

#include "simd.hpp"

namespace unspool {
namespace {

template <class T>
struct MathConstants;

template <>
struct MathConstants<float> {
  static constexpr float log2_e = 1.44269504f;
  // ln 2 in two parts, the first with so few bits that n * ln2_high is exact without a fused multiply-add.
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  static constexpr float exp_low = -104.0f, exp_high = 89.0f;  // beyond: 0 and infinity
  static constexpr float expm1_low = -28.0f;                   // beyond: -1
  static constexpr float tanh_high = 10.0f;                    // beyond: 1
  static constexpr float smallest_normal = 0x1p-126f, subnormal_scale = 0x1p25f;
  static constexpr int32_t subnormal_exponent = 25;
  static constexpr int32_t sqrt_half = 0x3f3504f3;  // bits of sqrt(1/2)
  static constexpr float exp[] = {0.5f, 0.166665405f, 0.0416664779f, 0.00836684275f, 0.00139337149f};
  static constexpr float log[] = {0.666667759f, 0.399775833f, 0.298708409f};
};

template <>
struct MathConstants<double> {
  static constexpr double log2_e = 1.4426950408889634;
  static constexpr double ln2_high = 0x1.62e42feep-1, ln2_low = 1.90821492927058770002e-10;
  static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double exp_low = -746.0, exp_high = 710.0;
  static constexpr double expm1_low = -48.0;
  static constexpr double tanh_high = 20.0;
  static constexpr double smallest_normal = 0x1p-1022, subnormal_scale = 0x1p54;
  static constexpr int64_t subnormal_exponent = 54;
  static constexpr int64_t sqrt_half = 0x3fe6a09e667f3bcd;
  static constexpr double exp[] = {0.50000000000000056,    0.16666666666666677,    0.041666666666573295,
                                   0.0083333333333214209,  0.0013888888932543691,  0.00019841269886661521,
                                   2.4801504201127832e-05, 2.7557243661925588e-06, 2.7626437992750231e-07,
                                   2.5109231494365722e-08};
  static constexpr double log[] = {0.66666666666667362, 0.39999999999405034, 0.28571428744231647, 0.22222198403082999,
                                   0.18183572504150583, 0.15313853137896979, 0.14797840067142343};
};

constexpr float erf_small[] = {0.128379151f,   -0.376124948f,  0.112817965f,
                               -0.0267652199f, 0.00499041658f, -0.000597397739f};
constexpr float erf_large[] = {0.128665105f,   0.635082245f,     0.106353827f,   -0.0238651801f,
                               0.00369235128f, -0.000335354387f, 1.25129554e-05f};

template <class T, int terms>
UNSPOOL_INLINE Vec<T> polynomial(Vec<T> x, const T (&coefficients)[terms]) {
  Vec<T> sum = splat<T>(coefficients[terms - 1]);
#pragma GCC unroll 16
  for (int i = terms - 2; i >= 0; --i) sum = sum * x + coefficients[i];
  return sum;
}

// 2^n for whole n within the range of normal exponents.
template <class T>
UNSPOOL_INLINE Vec<T> power_of_two(IntVec<T> n) {
  return (Vec<T>)((n + Lanes<T>::bias) << Lanes<T>::mantissa);
}

// e^x = 2^n (1 + p) with |p| <= sqrt(2) - 1, p accurate relative to itself. |x| must be below 2^20.
template <class T>
struct ExpParts {
  IntVec<T> n;
  Vec<T> n_real;
  Vec<T> p;
};

template <class T>
UNSPOOL_INLINE ExpParts<T> exp_parts(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> shifted = x * C::log2_e + C::round;
  const IntVec<T> n = (IntVec<T>)shifted - (IntVec<T>)splat<T>(C::round);
  const Vec<T> n_real = shifted - C::round;
  Vec<T> r = x - n_real * C::ln2_high;
  r = r - n_real * C::ln2_low;
  return {n, n_real, r + r * r * polynomial<T>(r, C::exp)};
}

template <class T>
UNSPOOL_INLINE Vec<T> vector_exp(Vec<T> x) {
  using C = MathConstants<T>;
  const ExpParts<T> e = exp_parts<T>(clamped<T>(x, C::exp_low, C::exp_high));
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_scalef_ps((__m512)(e.p + T(1)), (__m512)e.n_real);
  else
    return (Vec<T>)_mm512_scalef_pd((__m512d)(e.p + T(1)), (__m512d)e.n_real);
#else
  // Two factors: 2^n itself may be subnormal or overflow where the result does not.
  const IntVec<T> half = e.n >> 1;
  return (e.p + T(1)) * power_of_two<T>(half) * power_of_two<T>(e.n - half);
#endif
}

template <class T>
UNSPOOL_INLINE Vec<T> vector_expm1(Vec<T> x) {
  using C = MathConstants<T>;
  const ExpParts<T> e = exp_parts<T>(clamped<T>(x, C::expm1_low, C::exp_high));
  // Half of the result first: 2^n overflows for the largest n, 2^(n-1) does not.
  const Vec<T> scale = power_of_two<T>(e.n - 1);
  const Vec<T> half = scale * e.p + (scale - T(0.5));
  return half + half;
}

// tanh|x| = -m / (2 + m) with m = expm1(-2|x|): no overflow, and accurate near zero.
template <class T>
UNSPOOL_INLINE Vec<T> vector_tanh(Vec<T> x) {
  const Vec<T> y = smaller(splat<T>(MathConstants<T>::tanh_high), absolute<T>(x));
  const ExpParts<T> e = exp_parts<T>(y * T(-2));
  const Vec<T> scale = power_of_two<T>(e.n);
  const Vec<T> m = scale * e.p + (scale - T(1));
  return with_sign_of<T>(m / (m + T(2)), x);
}

template <class T>
UNSPOOL_INLINE Vec<T> vector_sigmoid(Vec<T> x) {
  return T(1) / (vector_exp<T>(-x) + T(1));
}

template <class T>
UNSPOOL_INLINE Vec<T> vector_log(Vec<T> x) {
  using C = MathConstants<T>;
  constexpr T inf = T(__builtin_inf()), nan = T(__builtin_nan(""));
  const auto subnormal = x < C::smallest_normal;
  const IntVec<T> bits = (IntVec<T>)(subnormal ? x * C::subnormal_scale : x);
  // x = 2^n m with m in [sqrt(1/2), sqrt(2)): subtracting sqrt(1/2) moves the exponent's step there.
  // Without the sign: with it, the subtraction would overflow for negative numbers, whose result is NaN anyway.
  const IntVec<T> shifted = (bits & ~Lanes<T>::sign_bit) - C::sqrt_half;
  const IntVec<T> n = (shifted >> Lanes<T>::mantissa) - (subnormal & C::subnormal_exponent);
  const IntVec<T> fraction = shifted & ((typename Lanes<T>::Scalar(1) << Lanes<T>::mantissa) - 1);
  const Vec<T> f = (Vec<T>)(fraction + C::sqrt_half) - T(1);
  const Vec<T> n_real = (Vec<T>)(n + (IntVec<T>)splat<T>(C::round)) - C::round;
  const Vec<T> s = f / (f + T(2));
  const Vec<T> z = s * s;
  const Vec<T> half_square = f * f * T(0.5);
  const Vec<T> tail = s * (half_square + z * polynomial<T>(z, C::log)) + n_real * C::ln2_low;
  Vec<T> result = n_real * C::ln2_high + (f - (half_square - tail));
  result = x == inf ? x : result;
  result = x == T(0) ? splat<T>(-inf) : result;
  // NaN and negative numbers; a NaN keeps its own bits.
  return x >= T(0) ? result : x + nan;
}

// log(u) + (x - (u - 1)) / u with u = 1 + x rounded: the second term is what the rounding lost.
template <class T>
UNSPOOL_INLINE Vec<T> vector_log1p(Vec<T> x) {
  constexpr T inf = T(__builtin_inf());
  const Vec<T> u = x + T(1);
  const Vec<T> lost = (x - (u - T(1))) / u;
  const Vec<T> log_u = vector_log<T>(u);
  // Not where u is 0 or infinite: the correction would be NaN there.
  return ((u == T(0)) | (u == inf)) ? log_u : log_u + lost;
}

// One lane after another, by the C library. A plain loop over an array: lanes of a vector variable would be inserted
// one by one.
template <class T, class F>
UNSPOOL_INLINE Vec<T> lane_by_lane(Vec<T> x, F f) {
  T values[lanes<T>];
  store<T>(values, x);
  for (int i = 0; i < lanes<T>; ++i) values[i] = f(values[i]);
  return load<T>(values);
}

template <class T, class F>
UNSPOOL_INLINE Vec<T> lane_by_lane(Vec<T> x, Vec<T> y, F f) {
  T values[lanes<T>], others[lanes<T>];
  store<T>(values, x);
  store<T>(others, y);
  for (int i = 0; i < lanes<T>; ++i) values[i] = f(values[i], others[i]);
  return load<T>(values);
}

#define UNSPOOL_SCALAR(name, builtin)                                       \
  UNSPOOL_INLINE float scalar_##name(float x) { return builtin##f(x); }     \
  UNSPOOL_INLINE double scalar_##name(double x) { return builtin(x); }
#define UNSPOOL_SCALAR_OF_TWO(name, builtin)                                                    \
  UNSPOOL_INLINE float scalar_##name(float x, float y) { return builtin##f(x, y); }             \
  UNSPOOL_INLINE double scalar_##name(double x, double y) { return builtin(x, y); }
UNSPOOL_SCALAR(sin, __builtin_sin)
UNSPOOL_SCALAR(cos, __builtin_cos)
UNSPOOL_SCALAR(floor, __builtin_floor)
UNSPOOL_SCALAR(ceil, __builtin_ceil)
UNSPOOL_SCALAR(round, __builtin_rint)
UNSPOOL_SCALAR(trunc, __builtin_trunc)
UNSPOOL_SCALAR(asin, __builtin_asin)
UNSPOOL_SCALAR(acos, __builtin_acos)
UNSPOOL_SCALAR(atan, __builtin_atan)
UNSPOOL_SCALAR(sinh, __builtin_sinh)
UNSPOOL_SCALAR(cosh, __builtin_cosh)
UNSPOOL_SCALAR(asinh, __builtin_asinh)
UNSPOOL_SCALAR(acosh, __builtin_acosh)
UNSPOOL_SCALAR(atanh, __builtin_atanh)
UNSPOOL_SCALAR_OF_TWO(pow, __builtin_pow)
UNSPOOL_SCALAR_OF_TWO(fmod, __builtin_fmod)
UNSPOOL_SCALAR_OF_TWO(atan2, __builtin_atan2)
#undef UNSPOOL_SCALAR
#undef UNSPOOL_SCALAR_OF_TWO

UNSPOOL_INLINE Vec<double> vector_erf(Vec<double> x) {
  return lane_by_lane<double>(x, [](double v) { return __builtin_erf(v); });
}

UNSPOOL_INLINE Vec<float> vector_erf(Vec<float> x) {
  const Vec<float> t = smaller(splat<float>(4.0f), absolute<float>(x));
  const Vec<float> small = x + x * polynomial<float>(x * x, erf_small);
  const Vec<float> large = 1.0f - vector_exp<float>(-(t + t * polynomial<float>(t, erf_large)));
  return t < 0.93f ? small : with_sign_of<float>(large, x);
}

}  // namespace
}  // namespace unspool
