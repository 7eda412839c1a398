// Every operation at every combination of operand modes, at widths around the vectors' edges, in place and not.
#include <algorithm>
#include <cmath>

#include "check.hpp"
#include "operation_names.hpp"

using namespace unspool;

namespace {

const Operand modes[] = {Operand::full, Operand::row_scalar, Operand::vector, Operand::scalar};
const int64_t widths[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 67};

template <class T>
bool same(T a, T b) {
  return a == b || (a != a && b != b);
}

// Small whole numbers and now and then something special, so that comparisons meet equal numbers and results are exact.
template <class T>
Grid<T> operand(Operand mode, int64_t rows, int64_t width, int64_t gap) {
  const bool many_rows = mode == Operand::full || mode == Operand::row_scalar;
  const bool many_columns = mode == Operand::full || mode == Operand::vector;
  Grid<T> grid(many_rows ? rows : 1, many_columns ? width : 1, gap);
  const T special[] = {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity(),
                       -std::numeric_limits<T>::infinity()};
  for (int64_t r = 0; r < grid.rows; ++r)
    for (int64_t i = 0; i < grid.width; ++i)
      grid(r, i) = random_int(0, 19) == 0 ? special[random_int(0, 2)] : T(random_int(-3, 3));
  return grid;
}

template <class T>
T value(const Grid<T>& grid, Operand mode, int64_t r, int64_t i) {
  return grid(mode == Operand::full || mode == Operand::row_scalar ? r : 0,
              mode == Operand::full || mode == Operand::vector ? i : 0);
}

template <class T>
Source<T> source(const Grid<T>& grid, Operand mode) {
  // The stride of a vector and of a scalar must not be looked at.
  const bool strided = mode == Operand::full || mode == Operand::row_scalar;
  return {grid.data(), strided ? grid.stride : 1'000'000'007, mode};
}

template <class T>
T expected(Binary op, T a, T b) {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  switch (op) {
    case Binary::add: return a + b;
    case Binary::sub: return a - b;
    case Binary::mul: return a * b;
    case Binary::div: return a / b;
    case Binary::minimum: return a != a || b != b ? nan : std::min(a, b);
    case Binary::maximum: return a != a || b != b ? nan : std::max(a, b);
    case Binary::pow: return std::pow(a, b);
    case Binary::eq: return a == b;
    case Binary::ne: return a != b;
    case Binary::lt: return a < b;
    case Binary::le: return a <= b;
    case Binary::gt: return a > b;
    case Binary::ge: return a >= b;
    case Binary::sigmoid_grad: return a * b * (1 - b);
    case Binary::tanh_grad: return a * (1 - b * b);
    case Binary::fmod: return std::fmod(a, b);
    case Binary::atan2: return std::atan2(a, b);
    case Binary::count_: break;
  }
  return nan;
}

template <class T>
T expected(Ternary op, T a, T b, T c) {
  switch (op) {
    case Ternary::where: return a != 0 ? b : c;
    case Ternary::count_: break;
  }
  return 0;
}

template <class T>
void check_unary() {
  for (Operand mode : modes)
    for (int64_t width : widths)
      for (int64_t gap : {0, 5}) {
        const int64_t rows = random_int(0, 5);
        const Grid<T> a = operand<T>(mode, rows, width, gap);
        Grid<T> out(rows, width, gap);
        kernels<T>().unary(Unary::neg, rows, width, out.data(), out.stride, source(a, mode), 0, 0);
        CHECK(out.intact());
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t i = 0; i < width; ++i) CHECK(same(out(r, i), -value(a, mode, r, i)));
      }
}

template <class T>
void check_binary(Binary op) {
  for (Operand mode_a : modes)
    for (Operand mode_b : modes)
      for (int64_t width : widths) {
        const int64_t rows = random_int(0, 4), gap = random_int(0, 1) * 5;
        const Grid<T> a = operand<T>(mode_a, rows, width, gap), b = operand<T>(mode_b, rows, width, gap);
        Grid<T> apart(rows, width, gap), over_a = a, over_b = b;
        const auto run = [&](Grid<T>& out, const Grid<T>& x, const Grid<T>& y) {
          kernels<T>().binary(op, rows, width, out.data(), out.stride, source(x, mode_a), source(y, mode_b));
          CHECK(out.intact());
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t i = 0; i < width; ++i) {
              const T left = value(a, mode_a, r, i), right = value(b, mode_b, r, i), wanted = expected(op, left, right);
              CHECK(same(out(r, i), wanted), "%s of %g, %g: %g, expected %g", kBinaryNames[int(op)], double(left),
                    double(right), double(out(r, i)), double(wanted));
            }
        };
        run(apart, a, b);
        if (mode_a == Operand::full) run(over_a, over_a, b);
        if (mode_b == Operand::full) run(over_b, a, over_b);
      }
}

template <class T>
void check_ternary(Ternary op) {
  for (Operand mode_a : modes)
    for (Operand mode_b : modes)
      for (Operand mode_c : modes)
        for (int64_t width : {1, 5, 16, 35}) {
          const int64_t rows = random_int(1, 4), gap = random_int(0, 1) * 5;
          const Grid<T> a = operand<T>(mode_a, rows, width, gap), b = operand<T>(mode_b, rows, width, gap),
                        c = operand<T>(mode_c, rows, width, gap);
          Grid<T> apart(rows, width, gap), over_c = c;
          const auto run = [&](Grid<T>& out, const Grid<T>& z) {
            kernels<T>().ternary(op, rows, width, out.data(), out.stride, source(a, mode_a), source(b, mode_b),
                                 source(z, mode_c));
            CHECK(out.intact());
            for (int64_t r = 0; r < rows; ++r)
              for (int64_t i = 0; i < width; ++i) {
                const T wanted = expected(op, value(a, mode_a, r, i), value(b, mode_b, r, i), value(c, mode_c, r, i));
                CHECK(same(out(r, i), wanted), "%s: %g, expected %g", kTernaryNames[int(op)], double(out(r, i)),
                      double(wanted));
              }
          };
          run(apart, c);
          if (mode_c == Operand::full) run(over_c, over_c);
        }
}

template <class T>
void check_all() {
  check_unary<T>();
  for (int op = 0; op < int(Binary::count_); ++op) check_binary<T>(Binary(op));
  for (int op = 0; op < int(Ternary::count_); ++op) check_ternary<T>(Ternary(op));
}

}  // namespace

void test_pointwise() {
  check_all<float>();
  check_all<double>();
}
