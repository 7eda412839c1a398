// Sums, means and maxima along features, sums over rows, repetition, and features in another order.
#pragma once

#include "kernels.hpp"
#include "simd.hpp"

namespace unspool {
namespace {

struct Add {
  template <class T>
  static constexpr T start = T(0);
  template <class T>
  static UNSPOOL_INLINE Vec<T> join(Vec<T> a, Vec<T> b) {
    return a + b;
  }
  template <class T>
  static UNSPOOL_INLINE T join_one(T a, T b) {
    return a + b;
  }
};

struct Larger {
  template <class T>
  static constexpr T start = T(-__builtin_inf());
  template <class T>
  static UNSPOOL_INLINE Vec<T> join(Vec<T> a, Vec<T> b) {
    return maximum<T>(a, b);
  }
  template <class T>
  static UNSPOOL_INLINE T join_one(T a, T b) {
    return a != a || a > b ? a : b;
  }
};

// Four vectors of partial results hide the latency of an addition.
template <class T, class Join>
UNSPOOL_INLINE T reduced(const T* a, int64_t n) {
  constexpr int64_t L = lanes<T>;
  T result = Join::template start<T>;
  int64_t i = 0;
  if (n >= L) {
    Vec<T> part[4];
    for (int j = 0; j < 4; ++j) part[j] = splat<T>(Join::template start<T>);
    for (; i + 4 * L <= n; i += 4 * L)
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) part[j] = Join::template join<T>(part[j], load<T>(a + i + j * L));
    for (; i + L <= n; i += L) part[0] = Join::template join<T>(part[0], load<T>(a + i));
    const Vec<T> all =
        Join::template join<T>(Join::template join<T>(part[0], part[1]), Join::template join<T>(part[2], part[3]));
    T values[L];
    store<T>(values, all);
    for (int64_t half = L / 2; half > 0; half /= 2)
      for (int64_t j = 0; j < half; ++j) values[j] = Join::join_one(values[j], values[j + half]);
    result = values[0];
  }
  for (; i < n; ++i) result = Join::join_one(result, a[i]);
  return result;
}

template <class T>
void reduce(Reduce op, int64_t rows, int64_t groups, int64_t n, T* dst, int64_t ldd, const T* a, int64_t lda) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t g = 0; g < groups; ++g) {
      const T* group = a + r * lda + g * n;
      T& out = dst[r * ldd + g];
      switch (op) {
#define UNSPOOL_REDUCE(name, ...) \
  case Reduce::name: out = __VA_ARGS__; break;
#include "operations.def"
        case Reduce::count_: break;
      }
    }
}

// Blocks of rows are summed on their own first: the rounding error of a long sum grows with the number of blocks, not
// of rows.
template <class T>
void column_sums(int64_t rows, int64_t width, T* acc, const T* a, int64_t lda) {
  constexpr int64_t block = 128, L = lanes<T>;
  for (int64_t r0 = 0; r0 < rows; r0 += block) {
    const int64_t r1 = r0 + block < rows ? r0 + block : rows;
    int64_t i = 0;
    for (; i + 4 * L <= width; i += 4 * L) {
      Vec<T> sum[4] = {};
      for (int64_t r = r0; r < r1; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) sum[j] += load<T>(a + r * lda + i + j * L);
      for (int j = 0; j < 4; ++j) store<T>(acc + i + j * L, load<T>(acc + i + j * L) + sum[j]);
    }
    for (; i + L <= width; i += L) {
      Vec<T> sum{};
      for (int64_t r = r0; r < r1; ++r) sum += load<T>(a + r * lda + i);
      store<T>(acc + i, load<T>(acc + i) + sum);
    }
    if (const int rest = int(width - i)) {
      Vec<T> sum{};
      for (int64_t r = r0; r < r1; ++r) sum += load_first(a + r * lda + i, rest);
      store_first(acc + i, load_first(acc + i, rest) + sum, rest);
    }
  }
}

template <class T>
void repeat(int64_t rows, int64_t groups, int64_t n, T* dst, int64_t ldd, const T* a, int64_t lda) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t g = 0; g < groups; ++g) {
      const T value = a[r * lda + g];
      T* out = dst + r * ldd + g * n;
      for (int64_t i = 0; i < n; ++i) out[i] = value;
    }
}

template <class T>
void gather(int64_t rows, int64_t width, T* dst, int64_t ldd, const T* a, int64_t lda, const int64_t* index) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < width; ++i) dst[r * ldd + i] = a[r * lda + index[i]];
}

template <class T>
void scatter(int64_t rows, int64_t width, int64_t n, T* dst, int64_t ldd, const T* a, int64_t lda,
             const int64_t* index) {
  for (int64_t r = 0; r < rows; ++r) {
    T* out = dst + r * ldd;
    for (int64_t j = 0; j < width; ++j) out[j] = T(0);
    for (int64_t i = 0; i < n; ++i) out[index[i]] += a[r * lda + i];
  }
}

}  // namespace
}  // namespace unspool
