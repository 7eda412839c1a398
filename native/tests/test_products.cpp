// The products over all tokens against a triple loop in long double, on one and several threads.
#include <cmath>
#include <stdexcept>

#include "check.hpp"
#include "products.hpp"

using namespace unspool;

namespace {

const int64_t sizes[] = {1, 3, 7, 16, 17, 64, 129};

template <class T>
Array<T> view(Grid<T>& grid) {
  return {grid.data(), grid.rows, grid.width, grid.stride};
}

template <class T>
double tolerance(int64_t K) {
  return double(K + 2) * std::numeric_limits<T>::epsilon();
}

template <class T>
void check_multiply(int64_t M, int64_t K, int64_t N, int64_t init_rows, bool transposed, int threads) {
  Grid<T> x = Grid<T>::random(M, K), init = Grid<T>::random(init_rows, N), out(M, N);
  const Grid<T> w = transposed ? Grid<T>::random(N, K) : Grid<T>::random(K, N);
  multiply<T>(view(x), {w.data(), K, N, transposed ? 1 : w.stride, transposed ? w.stride : 1}, view(init), view(out),
              threads);
  CHECK(out.intact());
  for (int64_t m = 0; m < M; ++m)
    for (int64_t n = 0; n < N; ++n) {
      long double sum = init_rows == 0 ? 0 : init(init_rows == 1 ? 0 : m, n);
      for (int64_t k = 0; k < K; ++k) sum += static_cast<long double>(x(m, k)) * (transposed ? w(n, k) : w(k, n));
      CHECK(std::abs(out(m, n) - sum) <= tolerance<T>(K), "M=%ld K=%ld N=%ld, %ld rows added, %d threads, at %ld,%ld", M,
            K, N, init_rows, threads, m, n);
    }
}

template <class T>
void check_transposed(int64_t R, int64_t M, int64_t N, int threads) {
  Grid<T> a = Grid<T>::random(R, M), b = Grid<T>::random(R, N), out(M, N);
  multiply_transposed<T>(view(a), view(b), view(out), threads);
  CHECK(out.intact());
  for (int64_t m = 0; m < M; ++m)
    for (int64_t n = 0; n < N; ++n) {
      long double sum = 0;
      for (int64_t r = 0; r < R; ++r) sum += static_cast<long double>(a(r, m)) * b(r, n);
      CHECK(std::abs(out(m, n) - sum) <= tolerance<T>(R), "R=%ld M=%ld N=%ld, %d threads, at %ld,%ld", R, M, N, threads,
            m, n);
    }
}

template <class T>
void check_all() {
  const auto size = [] { return sizes[random_int(0, 6)]; };
  for (int i = 0; i < 80; ++i) {
    const int64_t M = i % 8 == 0 ? 200 : size(), init_rows = i % 3 == 0 ? 0 : i % 3 == 1 ? 1 : M;
    check_multiply<T>(M, size(), size(), init_rows, i % 2 == 0, 1 + i % 4);
    check_transposed<T>(M, size(), size(), 1 + i % 4);
  }
  for (int64_t M : {0, 1, 65}) check_multiply<T>(M, 0, 5, M, false, 2), check_multiply<T>(M, 4, 0, 0, false, 2);
  for (int64_t R : {0, 1, 65}) check_transposed<T>(R, 0, 5, 2), check_transposed<T>(R, 70, 0, 2), check_transposed<T>(R, 70, 3, 3);
}

// Shapes that do not fit are refused before memory is touched: there is none.
void check_refusals() {
  using A = Array<float>;
  const auto refuses = [](auto call) {
    try {
      call();
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  const auto product = [](A x, Weight<float> w, A init, A out, int threads = 1) {
    return [=] { multiply<float>(x, w, init, out, threads); };
  };
  const A x{nullptr, 5, 3, 3}, none{nullptr, 0, 4, 4}, out{nullptr, 5, 4, 4};
  const Weight<float> w{nullptr, 3, 4, 4, 1};
  CHECK(refuses(product(x, w, none, out, 0)));
  CHECK(refuses(product({nullptr, 5, 2, 2}, w, none, out)));
  CHECK(refuses(product(x, {nullptr, 3, 5, 5, 1}, none, out)));
  CHECK(refuses(product(x, w, none, {nullptr, 4, 4, 4})));
  CHECK(refuses(product(x, w, {nullptr, 2, 4, 4}, out)));
  CHECK(refuses(product(x, w, {nullptr, 1, 3, 3}, out)));
  const auto gradient = [](A a, A b, A c, int threads = 1) {
    return [=] { multiply_transposed<float>(a, b, c, threads); };
  };
  const A b{nullptr, 5, 4, 4}, c{nullptr, 3, 4, 4};
  CHECK(refuses(gradient(x, b, c, 0)));
  CHECK(refuses(gradient(x, {nullptr, 4, 4, 4}, c)));
  CHECK(refuses(gradient(x, b, {nullptr, 4, 4, 4})));
  CHECK(refuses(gradient(x, b, {nullptr, 3, 3, 3})));
}

}  // namespace

void test_products() {
  check_all<float>();
  check_all<double>();
  check_refusals();
}
