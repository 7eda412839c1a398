// Reductions along features and over rows, repetition, and features in another order.
#include <cmath>

#include "check.hpp"

using namespace unspool;

namespace {

template <class T>
void check_reduce(int64_t rows, int64_t groups, int64_t n) {
  const Grid<T> a = Grid<T>::random(rows, groups * n);
  const double tolerance = double(n + 1) * std::numeric_limits<T>::epsilon();
  for (Reduce op : {Reduce::sum, Reduce::mean, Reduce::max}) {
    Grid<T> out(rows, groups);
    kernels<T>().reduce(op, rows, groups, n, out.data(), out.stride, a.data(), a.stride);
    CHECK(out.intact());
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t g = 0; g < groups; ++g) {
        long double sum = 0, most = a(r, g * n);
        for (int64_t i = 0; i < n; ++i) sum += a(r, g * n + i), most = std::max<long double>(most, a(r, g * n + i));
        const long double wanted = op == Reduce::max ? most : op == Reduce::mean ? sum / n : sum;
        CHECK(op == Reduce::max ? out(r, g) == wanted : std::abs(out(r, g) - wanted) <= tolerance,
              "reduce %d rows=%ld groups=%ld n=%ld: %g, expected %g", int(op), rows, groups, n, double(out(r, g)),
              double(wanted));
      }
  }
}

template <class T>
void check_max_special() {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  for (int64_t n = 1; n <= 140; ++n) {
    std::vector<T> a(size_t(n), -inf);
    T out = 0;
    kernels<T>().reduce(Reduce::max, 1, 1, n, &out, 1, a.data(), n);
    CHECK(out == -inf);
    a[size_t(random_int(0, n - 1))] = nan;
    kernels<T>().reduce(Reduce::max, 1, 1, n, &out, 1, a.data(), n);
    CHECK(out != out, "a NaN among %ld values is lost", n);
  }
}

template <class T>
void check_column_sums(int64_t rows, int64_t width) {
  const Grid<T> a = Grid<T>::random(rows, width), start = Grid<T>::random(1, width);
  Grid<T> sums = start;
  kernels<T>().column_sums(rows, width, sums.data(), a.data(), a.stride);
  CHECK(sums.intact());
  for (int64_t i = 0; i < width; ++i) {
    long double wanted = start(0, i);
    for (int64_t r = 0; r < rows; ++r) wanted += a(r, i);
    CHECK(std::abs(sums(0, i) - wanted) <= double(rows + 1) * std::numeric_limits<T>::epsilon());
  }
}

template <class T>
void check_repeat(int64_t rows, int64_t groups, int64_t n) {
  const Grid<T> a = Grid<T>::random(rows, groups);
  Grid<T> out(rows, groups * n);
  kernels<T>().repeat(rows, groups, n, out.data(), out.stride, a.data(), a.stride);
  CHECK(out.intact());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < groups * n; ++i) CHECK(out(r, i) == a(r, i / n));
}

template <class T>
void check_moves(int64_t rows, int64_t width, int64_t n) {
  const Grid<T> a = Grid<T>::random(rows, n);
  std::vector<int64_t> taken(static_cast<size_t>(width)), put(static_cast<size_t>(n));
  for (auto& i : taken) i = random_int(0, n - 1);
  for (auto& j : put) j = random_int(0, width - 1);
  Grid<T> gathered(rows, width), scattered(rows, width);
  kernels<T>().gather(rows, width, gathered.data(), gathered.stride, a.data(), a.stride, taken.data());
  kernels<T>().scatter(rows, width, n, scattered.data(), scattered.stride, a.data(), a.stride, put.data());
  CHECK(gathered.intact() && scattered.intact());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < width; ++i) {
      CHECK(gathered(r, i) == a(r, taken[size_t(i)]));
      T sum = 0;
      for (int64_t k = 0; k < n; ++k)
        if (put[size_t(k)] == i) sum += a(r, k);
      CHECK(scattered(r, i) == sum);
    }
}

template <class T>
void check_all() {
  for (int64_t n = 1; n <= 140; ++n) {
    check_reduce<T>(random_int(0, 4), random_int(1, 5), n);
    check_column_sums<T>(random_int(0, 300), n);
    check_repeat<T>(random_int(0, 4), random_int(1, 5), n);
    check_moves<T>(random_int(0, 4), random_int(1, 40), n);
  }
  check_max_special<T>();
}

}  // namespace

void test_reduce() {
  check_all<float>();
  check_all<double>();
}
