// Accuracy of every unary function against the C library in long double, over wide ranges, in units in the last place.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "check.hpp"
#include "operation_names.hpp"

using namespace unspool;

namespace {

using Real = long double;

// Distance in units of the last place of the exact value; subnormal results count in the unit of subnormals.
template <class T>
double ulps(T got, Real exact) {
  if (std::isnan(got) || std::isnan(exact)) return std::isnan(got) && std::isnan(exact) ? 0 : 1e30;
  const T nearest = T(exact);
  if (std::isinf(got) || std::isinf(nearest)) {
    // One step beyond the largest finite number is a rounding error like any other.
    return got == nearest ? 0 : std::nextafter(got, nearest) == nearest ? 1 : 1e30;
  }
  const int lowest = std::numeric_limits<T>::min_exponent - 1;
  const int exponent = nearest == 0 ? lowest : std::max(std::ilogb(nearest), lowest);
  return double(std::abs(Real(got) - exact) / std::ldexp(Real(1), exponent - (std::numeric_limits<T>::digits - 1)));
}

struct Function {
  Unary op;
  std::function<Real(Real)> exact;
  double low, high;                  // range of the measurement
  double float_limit, double_limit;  // ulp
  double imm0 = 0, imm1 = 0;
};

Real sigmoid(Real x) { return 1 / (1 + std::exp(-x)); }
Real clamp(Real x, Real low, Real high) { return x < low ? low : x > high ? high : x; }

const double everything = 1e300;
const Function functions[] = {
    {Unary::copy, [](Real x) { return x; }, -everything, everything, 0, 0},
    {Unary::neg, [](Real x) { return -x; }, -everything, everything, 0, 0},
    {Unary::reciprocal, [](Real x) { return 1 / x; }, -everything, everything, 0.51, 0.51},
    {Unary::exp, [](Real x) { return std::exp(x); }, -1000, 1000, 1.5, 1.5},
    {Unary::log, [](Real x) { return std::log(x); }, 0, everything, 1.5, 1.5},
    {Unary::log1p, [](Real x) { return std::log1p(x); }, -1, everything, 2, 2},
    {Unary::expm1, [](Real x) { return std::expm1(x); }, -1000, 1000, 2.5, 2.5},
    {Unary::sqrt, [](Real x) { return std::sqrt(x); }, 0, everything, 0.51, 0.51},
    {Unary::rsqrt, [](Real x) { return 1 / std::sqrt(x); }, 0, everything, 2, 2},
    {Unary::square, [](Real x) { return x * x; }, -everything, everything, 0.51, 0.51},
    {Unary::abs, [](Real x) { return std::abs(x); }, -everything, everything, 0, 0},
    {Unary::sign, [](Real x) { return Real((x > 0) - (x < 0)); }, -everything, everything, 0, 0},
    // Below these bounds the exact value is subnormal and the functions give zero.
    {Unary::sigmoid, sigmoid, -87, everything, 2.5, 2.5},
    {Unary::silu, [](Real x) { return x * sigmoid(x); }, -87, everything, 3, 3},
    {Unary::tanh, [](Real x) { return std::tanh(x); }, -everything, everything, 3, 3},
    {Unary::relu, [](Real x) { return x > 0 ? x : 0; }, -everything, everything, 0, 0},
    {Unary::leaky_relu, [](Real x) { return x > 0 ? x : x * Real(0.25); }, -everything, everything, 0.51,
     0.51, 0.25},
    {Unary::elu, [](Real x) { return x > 0 ? x : std::expm1(x) * Real(1.5); }, -everything, everything, 5, 5,
     1.5},
    {Unary::softplus, [](Real x) { return 2 * x > 20 ? x : std::log1p(std::exp(2 * x)) / 2; }, -40,
     everything, 4, 4, 2, 20},
    {Unary::softsign, [](Real x) { return x / (1 + std::abs(x)); }, -everything, everything, 2, 2},
    {Unary::hard_sigmoid, [](Real x) { return clamp((x + 3) / 6, 0, 1); }, 0, everything, 2, 2},
    {Unary::hard_tanh, [](Real x) { return clamp(x, -1, 2); }, -everything, everything, 0, 0, -1, 2},
    {Unary::clamp, [](Real x) { return x < Real(-0.5) ? Real(-0.5) : x; }, -everything, everything, 0, 0, -0.5,
     INFINITY},
    {Unary::erf, [](Real x) { return std::erf(x); }, -everything, everything, 1.5, 1.5},
    {Unary::sin, [](Real x) { return std::sin(x); }, -1000, 1000, 1, 1},
    {Unary::cos, [](Real x) { return std::cos(x); }, -1000, 1000, 1, 1},
    {Unary::floor, [](Real x) { return std::floor(x); }, -everything, everything, 0, 0},
    {Unary::ceil, [](Real x) { return std::ceil(x); }, -everything, everything, 0, 0},
    {Unary::round, [](Real x) { return std::nearbyint(x); }, -everything, everything, 0, 0},
    {Unary::trunc, [](Real x) { return std::trunc(x); }, -everything, everything, 0, 0},
    {Unary::asin, [](Real x) { return std::asin(x); }, -1, 1, 1, 1},
    {Unary::acos, [](Real x) { return std::acos(x); }, -1, 1, 1, 1},
    {Unary::atan, [](Real x) { return std::atan(x); }, -everything, everything, 1, 1},
    {Unary::sinh, [](Real x) { return std::sinh(x); }, -1000, 1000, 2, 2},
    {Unary::cosh, [](Real x) { return std::cosh(x); }, -1000, 1000, 2, 2},
    {Unary::asinh, [](Real x) { return std::asinh(x); }, -everything, everything, 2, 2},
    {Unary::acosh, [](Real x) { return std::acosh(x); }, 1, everything, 2, 2},
    {Unary::atanh, [](Real x) { return std::atanh(x); }, -1, 1, 2, 2},
};

template <class T>
std::vector<T> apply(Unary op, std::vector<T> x, double imm0 = 0, double imm1 = 0) {
  kernels<T>().unary(op, 1, int64_t(x.size()), x.data(), 0, {x.data(), 0, Operand::full}, T(imm0), T(imm1));
  return x;
}

// Half of the numbers anywhere among all bit patterns, half where the functions bend.
template <class T>
std::vector<T> samples(double low, double high, int64_t count) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  std::vector<T> x;
  const T near_low = T(std::max(low, -12.0)), near_high = T(std::min(high, 12.0));
  while (int64_t(x.size()) < count) {
    T value = random_uniform<T>(near_low, near_high);
    if (x.size() % 2 == 0) {
      const Bits bits = Bits(random_engine()());
      std::memcpy(&value, &bits, sizeof(T));
    } else if (x.size() % 8 == 1 && high <= 1000) {
      value = random_uniform<T>(T(low), T(high));
    }
    if (value >= low && value <= high) x.push_back(value);
  }
  return x;
}

template <class T>
void check_accuracy(const char* type) {
  for (const Function& f : functions) {
    const std::vector<T> x = samples<T>(f.low, f.high, 200'001), y = apply<T>(f.op, x, f.imm0, f.imm1);
    double worst = 0;
    T worst_at = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double error = ulps<T>(y[i], f.exact(x[i]));
      if (error > worst) worst = error, worst_at = x[i];
    }
    const double limit = sizeof(T) == 4 ? f.float_limit : f.double_limit;
    CHECK(worst <= limit, "%s %s: %.3g ulp at %.17g", type, kUnaryNames[int(f.op)], worst, double(worst_at));
    if (report_errors) std::printf("  %-6s %-12s %6.2f ulp, worst at %.9g\n", type, kUnaryNames[int(f.op)], worst, double(worst_at));
  }
}

// Functions that lose digits by cancellation, in torch as here: the error counts against the argument.
template <class T>
void check_gelu() {
  const std::vector<T> x = samples<T>(-30, 30, 100'001);
  const std::vector<T> by_erf = apply<T>(Unary::gelu, x), by_tanh = apply<T>(Unary::gelu_tanh, x);
  for (size_t i = 0; i < x.size(); ++i) {
    const Real v = x[i],
               bound = 4 * std::abs(v) * std::numeric_limits<T>::epsilon() + std::numeric_limits<T>::denorm_min();
    const Real erf_form = v / 2 * (1 + std::erf(v / std::sqrt(Real(2))));
    const Real tanh_form =
        v / 2 * (1 + std::tanh(std::sqrt(2 / std::acos(Real(-1))) * (v + Real(0.044715) * v * v * v)));
    CHECK(std::abs(by_erf[i] - erf_form) <= bound, "gelu at %.17g", double(v));
    CHECK(std::abs(by_tanh[i] - tanh_form) <= bound, "gelu_tanh at %.17g", double(v));
  }
}

// gelu and gelu_tanh lose digits by cancellation, and have a check of their own.
void check_that_all_are_measured() {
  for (int op = 0; op < int(Unary::count_); ++op) {
    const auto is_it = [op](const Function& f) { return int(f.op) == op; };
    const bool apart = Unary(op) == Unary::gelu || Unary(op) == Unary::gelu_tanh;
    CHECK(std::any_of(std::begin(functions), std::end(functions), is_it) != apart, "%s", kUnaryNames[op]);
  }
}

template <class T>
void check_special() {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const auto same = [](T a, T b) { return a == b || (a != a && b != b); };
  for (int op = 0; op < int(Unary::count_); ++op) {
    const T y = apply<T>(Unary(op), {nan}, 0.5, 0.75)[0];
    CHECK(Unary(op) == Unary::sign ? y == 0 : y != y, "NaN through unary %s gives %g", kUnaryNames[op], double(y));
  }
  const struct {
    Unary op;
    T x, y;
  } cases[] = {
      {Unary::tanh, inf, 1},         {Unary::tanh, -inf, -1},        {Unary::sigmoid, inf, 1},
      {Unary::sigmoid, -inf, 0},     {Unary::exp, inf, inf},         {Unary::exp, -inf, 0},
      {Unary::exp, 1000, inf},       {Unary::exp, -2000, 0},         {Unary::exp, 0, 1},
      {Unary::log, 0, -inf},         {Unary::log, T(-0.0), -inf},    {Unary::log, -1, nan},
      {Unary::log, -inf, nan},       {Unary::log, inf, inf},         {Unary::log, 1, 0},
      {Unary::log1p, -1, -inf},      {Unary::log1p, -2, nan},        {Unary::log1p, inf, inf},
      {Unary::log1p, 0, 0},          {Unary::expm1, -inf, -1},       {Unary::expm1, inf, inf},
      {Unary::expm1, 0, 0},          {Unary::sqrt, -1, nan},         {Unary::sqrt, inf, inf},
      {Unary::rsqrt, 0, inf},        {Unary::rsqrt, inf, 0},         {Unary::reciprocal, 0, inf},
      {Unary::erf, inf, 1},          {Unary::erf, -inf, -1},         {Unary::relu, -inf, 0},
      {Unary::relu, inf, inf},       {Unary::softplus, inf, inf},    {Unary::softplus, -inf, 0},
      {Unary::elu, -inf, T(-0.5)},   {Unary::silu, inf, inf},        {Unary::gelu, inf, inf},
      {Unary::hard_sigmoid, inf, 1}, {Unary::hard_sigmoid, -inf, 0}, {Unary::clamp, inf, T(0.75)},
      {Unary::sin, inf, nan},        {Unary::cos, -inf, nan},        {Unary::abs, -inf, inf},
      {Unary::sigmoid, -1000, 0},    {Unary::tanh, 1000, 1},         {Unary::sign, T(-0.0), 0},
      {Unary::round, T(0.5), 0},     {Unary::round, T(1.5), 2},      {Unary::round, T(-2.5), -2},
      {Unary::floor, inf, inf},      {Unary::trunc, -inf, -inf},     {Unary::atan, inf, std::atan(inf)},
      {Unary::asin, 2, nan},         {Unary::acosh, 0, nan},         {Unary::atanh, 1, inf},
  };
  for (const auto& c : cases) {
    const T y = apply<T>(c.op, {c.x}, 0.5, 0.75)[0];
    CHECK(same(y, c.y), "%s of %g: %g, expected %g", kUnaryNames[int(c.op)], double(c.x), double(y), double(c.y));
  }
  for (Unary op : {Unary::tanh, Unary::sin, Unary::erf, Unary::copy, Unary::sqrt, Unary::floor, Unary::trunc, Unary::atan})
    CHECK(std::signbit(apply<T>(op, {T(-0.0)})[0]), "the sign of -0 is lost by %s", kUnaryNames[int(op)]);
  for (T x : {T(0.001), T(0.3), T(1), T(5), T(40)}) {
    const auto y = apply<T>(Unary::tanh, {x, -x});
    CHECK(y[0] == -y[1]);
  }
}

}  // namespace

void test_vecmath() {
  check_that_all_are_measured();
  check_accuracy<float>("float");
  check_accuracy<double>("double");
  check_gelu<float>();
  check_gelu<double>();
  check_special<float>();
  check_special<double>();
}
