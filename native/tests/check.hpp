// The tests' own tools: a check that counts, buffers whose edges are watched, and random numbers.
#pragma once

#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "isa.hpp"

inline int failures = 0;
inline bool report_errors = false;  // print the largest measured error of every function

// Goes on after a failure, but prints only the first ones.
#define CHECK(condition, ...)                                             \
  do {                                                                    \
    if (!(condition) && ++failures <= 40) {                               \
      std::printf("%s:%d: failed: %s  ", __FILE__, __LINE__, #condition); \
      __VA_OPT__(std::printf(__VA_ARGS__);)                               \
      std::printf("\n");                                                  \
    }                                                                     \
  } while (false)

void test_isa();
void test_gemm();
void test_vecmath();
void test_pointwise();
void test_reduce();
void test_thread_pool();
void test_executor();
void test_refusals();
void test_concurrency();

inline std::mt19937_64& random_engine() {
  static std::mt19937_64 engine(20240607);
  return engine;
}

inline int64_t random_int(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random_engine());
}

template <class T>
T random_uniform(T low, T high) {
  return std::uniform_real_distribution<T>(low, high)(random_engine());
}

// [rows, width] with gaps between the rows and margins around. The gaps hold NaN, so that a kernel that reads beyond a
// row shows in the result, and intact() tells whether one wrote there.
template <class T>
struct Grid {
  int64_t rows, width, stride;
  std::vector<T> cells;
  static constexpr int64_t margin = 3;  // odd, so that rows are not aligned

  Grid(int64_t rows, int64_t width, int64_t gap = 5)
      : rows(rows),
        width(width),
        stride(width + gap),
        cells(size_t(rows * stride + 2 * margin), std::numeric_limits<T>::quiet_NaN()) {}

  static Grid random(int64_t rows, int64_t width, int64_t gap = 5, T low = -1, T high = 1) {
    Grid grid(rows, width, gap);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < width; ++i) grid(r, i) = random_uniform<T>(low, high);
    return grid;
  }

  T* data() { return cells.data() + margin; }
  const T* data() const { return cells.data() + margin; }
  T& operator()(int64_t r, int64_t i) { return data()[r * stride + i]; }
  T operator()(int64_t r, int64_t i) const { return data()[r * stride + i]; }

  bool intact() const {
    for (int64_t i = 0; i < int64_t(cells.size()); ++i) {
      const int64_t at = i - margin;
      const bool inside = at >= 0 && at < rows * stride && at % stride < width;
      if (!inside && cells[size_t(i)] == cells[size_t(i)]) return false;
    }
    return true;
  }
};
