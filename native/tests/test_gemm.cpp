// Products against a triple loop in long double, at sizes around every edge of the tiles and blocks.
#include <algorithm>
#include <cmath>

#include "check.hpp"

using namespace unspool;

namespace {

enum class Init { none, one_row, rows, in_place };

// The rounding error of a sum of K products is below about K times the unit of the sum of magnitudes.
template <class T>
double tolerance(int64_t K) {
  return double(K + 2) * std::numeric_limits<T>::epsilon();
}

template <class T>
void check_gemm(int64_t M, int64_t N, int64_t K, Init init, bool transposed, int64_t n0, int64_t n1) {
  const Kernels<T>& k = kernels<T>();
  const Grid<T> A = Grid<T>::random(M, K), W = transposed ? Grid<T>::random(N, K) : Grid<T>::random(K, N);
  const Grid<T> start = Grid<T>::random(init == Init::one_row ? 1 : M, N);
  Grid<T> C = init == Init::in_place ? start : Grid<T>(M, N, 3);
  std::vector<T> packed(size_t(k.packed_size(K, N)) + 1, T(42));
  k.pack(W.data(), transposed ? 1 : W.stride, transposed ? W.stride : 1, K, N, packed.data());
  CHECK(packed.back() == T(42));
  const T* from = init == Init::none ? nullptr : init == Init::in_place ? C.data() : start.data();
  const int64_t ld_init = init == Init::one_row ? 0 : init == Init::in_place ? C.stride : start.stride;
  const Grid<T> before = C;
  k.gemm(M, N, K, A.data(), A.stride, packed.data(), from, ld_init, C.data(), C.stride, n0, n1);
  CHECK(C.intact());
  for (int64_t m = 0; m < M; ++m)
    for (int64_t n = 0; n < N; ++n) {
      if (n < n0 || n >= n1) {
        const bool untouched = C(m, n) == before(m, n) || before(m, n) != before(m, n);
        CHECK(untouched, "M=%ld N=%ld K=%ld at %ld,%ld outside [%ld,%ld)", M, N, K, m, n, n0, n1);
        continue;
      }
      long double sum = init == Init::none ? 0 : start(init == Init::one_row ? 0 : m, n);
      for (int64_t i = 0; i < K; ++i) sum += static_cast<long double>(A(m, i)) * (transposed ? W(n, i) : W(i, n));
      CHECK(std::abs(C(m, n) - sum) <= tolerance<T>(K), "M=%ld N=%ld K=%ld at %ld,%ld: %g, expected %g", M, N, K, m, n,
            double(C(m, n)), double(sum));
    }
}

template <class T>
void check_gemm_tn(int64_t M, int64_t N, int64_t R, bool accumulate) {
  const Kernels<T>& k = kernels<T>();
  const Grid<T> A = Grid<T>::random(R, M), B = Grid<T>::random(R, N), start = Grid<T>::random(M, N);
  Grid<T> C = accumulate ? start : Grid<T>(M, N);
  std::vector<T> scratch(size_t(k.gemm_tn_scratch(M, N, R)) + 1, std::numeric_limits<T>::quiet_NaN());
  scratch.back() = T(42);
  k.gemm_tn(M, N, R, A.data(), A.stride, B.data(), B.stride, C.data(), C.stride, accumulate, scratch.data());
  CHECK(C.intact());
  CHECK(scratch.back() == T(42));
  for (int64_t m = 0; m < M; ++m)
    for (int64_t n = 0; n < N; ++n) {
      long double sum = accumulate ? start(m, n) : 0;
      for (int64_t r = 0; r < R; ++r) sum += static_cast<long double>(A(r, m)) * B(r, n);
      CHECK(std::abs(C(m, n) - sum) <= tolerance<T>(R), "tn M=%ld N=%ld R=%ld at %ld,%ld: %g, expected %g", M, N, R, m,
            n, double(C(m, n)), double(sum));
    }
}

template <class T>
void check_all() {
  const Init inits[] = {Init::none, Init::one_row, Init::rows, Init::in_place};
  int turn = 0;
  for (int64_t M = 1; M <= 13; ++M) {
    for (int64_t N : {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 100, 127, 128, 129, 130}) {
      check_gemm<T>(M, N, random_int(1, 70), inits[turn % 4], turn % 3 == 0, 0, N);
      ++turn;
    }
    for (int64_t K : {0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 70}) {
      const int64_t N = random_int(1, 130);
      check_gemm<T>(M, N, K, inits[turn % 4], turn % 3 == 0, 0, N);
      ++turn;
    }
  }
  const int64_t panel = kernels<T>().panel;
  for (int i = 0; i < 60; ++i) {
    const int64_t N = random_int(1, 300), panels = (N + panel - 1) / panel;
    const int64_t first = random_int(0, panels - 1), last = random_int(first, panels);
    check_gemm<T>(random_int(1, 40), N, random_int(1, 100), inits[i % 4], i % 3 == 0, first * panel,
                  std::min(N, last * panel));
  }
  // Sums and heights beyond one block.
  check_gemm<T>(37, 70, 2050, Init::rows, false, 0, 70);
  check_gemm<T>(500, 40, 700, Init::one_row, true, 0, 40);
  check_gemm<T>(0, 40, 7, Init::none, false, 0, 40);

  for (int i = 0; i < 150; ++i) check_gemm_tn<T>(random_int(1, 40), random_int(1, 130), random_int(0, 70), i % 2 == 0);
  check_gemm_tn<T>(13, 1030, 70, false);
  check_gemm_tn<T>(70, 33, 1100, false);
  check_gemm_tn<T>(70, 33, 1100, true);
  check_gemm_tn<T>(300, 600, 520, true);
}

// NaN and infinity come through also where the packed panel is padded with zeros.
template <class T>
void check_special() {
  const Kernels<T>& k = kernels<T>();
  const T inf = std::numeric_limits<T>::infinity();
  std::vector<T> packed(size_t(k.packed_size(2, 3)));
  const T w[] = {1, 2, 3, 4, 5, 6}, a[] = {inf, 1, std::numeric_limits<T>::quiet_NaN(), 0};
  T c[6];
  k.pack(w, 3, 1, 2, 3, packed.data());
  k.gemm(2, 3, 2, a, 2, packed.data(), nullptr, 0, c, 3, 0, 3);
  for (int i = 0; i < 3; ++i) CHECK(c[i] == inf && c[3 + i] != c[3 + i]);
}

}  // namespace

void test_gemm() {
  check_all<float>();
  check_all<double>();
  check_special<float>();
  check_special<double>();
}
