// Problems for the executor: a plan made by hand, a ragged batch, arrays and weights; and the readable twin that runs them
// row by row and value by value, in long double.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "check.hpp"
#include "executor.hpp"

namespace unspool {

using Real = long double;

// Owns what a Layout points at.
struct Batch {
  int64_t steps = 0, blocks = 0, tokens = 0, rows = 0;
  std::vector<int64_t> row_start, counts, offsets;
  std::vector<int64_t> times, sequences;  // where valid steps stand in padded arrays

  Layout layout() const {
    return {steps, blocks, tokens, rows, row_start.data(), counts.data(), offsets.data(), times.data(),
            sequences.data()};
  }
};

// Rows of random lengths, the first as long as there are steps. The tokens of a block follow each other, or there are some
// between the tokens of two steps that nobody visits.
inline Batch ragged_batch(int64_t rows, int64_t blocks, int64_t steps, bool together = false) {
  Batch batch{steps, blocks, 0, rows, {}, std::vector<int64_t>(size_t(blocks * steps)), {}, {}, {}};
  batch.offsets = batch.counts;
  for (int64_t p = 0; p < blocks; ++p) {
    const int64_t first = rows * p / blocks, last = rows * (p + 1) / blocks;
    batch.row_start.push_back(first);
    for (int64_t r = first; r < last; ++r) {
      const int64_t length = r == 0 ? steps : random_int(0, steps);
      for (int64_t k = 0; k < length; ++k) ++batch.counts[size_t(p * steps + k)];
    }
  }
  for (int64_t i = 0; i < steps * blocks; ++i) {
    const int64_t p = together ? i / steps : i % blocks, k = together ? i % steps : i / blocks, at = p * steps + k;
    batch.offsets[size_t(at)] = batch.tokens;
    batch.tokens += batch.counts[size_t(at)] + (together ? 0 : random_int(0, 1));
  }
  batch.times.resize(size_t(batch.tokens)), batch.sequences.resize(size_t(batch.tokens));
  for (int64_t p = 0; p < blocks; ++p)
    for (int64_t k = 0; k < steps; ++k)
      for (int64_t r = 0; r < batch.counts[size_t(p * steps + k)]; ++r) {
        const size_t token = size_t(batch.offsets[size_t(p * steps + k)] + r);
        batch.times[token] = k, batch.sequences[token] = batch.row_start[size_t(p)] + r;
      }
  return batch;
}

template <class T>
struct Problem {
  static constexpr int64_t slots = 8;  // at least as many as blocks and as threads

  Plan plan;
  Batch batch;
  std::vector<Grid<T>> arrays, weights;
  std::vector<bool> transposed;
  std::vector<int64_t> padded_arrays;
  Phase phase = Phase::step;  // of the instructions to come

  explicit Problem(Batch b) : batch(std::move(b)) {}

  // ---- what a plan is made of
  int64_t array(int64_t rows, int64_t width) {
    arrays.push_back(Grid<T>::random(rows, width, random_int(0, 5)));
    return plan.arrays++;
  }
  int64_t storage(Place place, int64_t array, int64_t width, int64_t first = -1) {
    plan.storages.push_back({place, array, width, first});
    return int64_t(plan.storages.size()) - 1;
  }
  int64_t temp(int64_t width) { return storage(Place::temp, -1, width); }
  int64_t none() { return storage(Place::none, -1, 0); }
  int64_t token(int64_t width) { return storage(Place::token, array(batch.tokens, width), width); }
  int64_t row(int64_t width) { return storage(Place::row, array(batch.rows, width), width); }
  int64_t vector(int64_t width) { return storage(Place::vector, array(1, width), width); }
  int64_t slot(int64_t width) { return storage(Place::slot, array(slots, width), width); }
  // The values of a token storage at the rows' previous valid steps.
  int64_t previous(int64_t of) {
    const Storage s = plan.storages[size_t(of)];
    return storage(Place::previous, s.array, s.width, array(batch.rows, s.width));
  }
  int64_t chunk(int64_t width) { return storage(Place::chunk, -1, width); }
  // [steps, rows, width], as a grid of steps x rows.
  int64_t padded(int64_t width) {
    padded_arrays.push_back(array(batch.steps * batch.rows, width));
    return storage(Place::padded, padded_arrays.back(), width);
  }
  int64_t padded_previous(int64_t of) {
    const int64_t s = previous(of);
    plan.storages[size_t(s)].place = Place::padded_previous;
    return s;
  }
  int64_t number(double value) {
    plan.constants.push_back(value);
    return int64_t(plan.constants.size()) - 1;
  }
  int64_t scalar(double value) { return storage(Place::scalar, number(value), 1); }
  int64_t weight(int64_t K, int64_t N, bool transpose) {
    const T bound = T(1) / std::sqrt(T(std::max<int64_t>(K, 1)));
    weights.push_back(transpose ? Grid<T>::random(N, K, 2, -bound, bound) : Grid<T>::random(K, N, 2, -bound, bound));
    transposed.push_back(transpose);
    return plan.weights++;
  }

  // ---- instructions
  static OperandRef at(int64_t storage, int64_t column = 0, Operand mode = Operand::full) {
    return {storage, column, mode};
  }
  void emit(Kind kind, int64_t op, OperandRef dst, int64_t width, int64_t groups, OperandRef a, OperandRef b = {},
            OperandRef c = {}, int64_t weight = -1, int64_t imm0 = -1, int64_t imm1 = -1) {
    plan.instructions.push_back({kind, op, dst, width, groups, a, b, c, weight, imm0, imm1, phase});
  }
  void unary(Unary op, OperandRef dst, int64_t width, OperandRef a) { emit(Kind::unary, int64_t(op), dst, width, 1, a); }
  void binary(Binary op, OperandRef dst, int64_t width, OperandRef a, OperandRef b) {
    emit(Kind::binary, int64_t(op), dst, width, 1, a, b);
  }
  void ternary(Ternary op, OperandRef dst, int64_t width, OperandRef a, OperandRef b, OperandRef c) {
    emit(Kind::ternary, int64_t(op), dst, width, 1, a, b, c);
  }
  void reduce(Reduce op, OperandRef dst, int64_t groups, int64_t n, OperandRef a) {
    emit(Kind::reduce, int64_t(op), dst, groups * n, groups, a);
  }
  void repeat(OperandRef dst, int64_t groups, int64_t n, OperandRef a) {
    emit(Kind::repeat, 0, dst, groups * n, groups, a);
  }
  void product(OperandRef dst, int64_t width, OperandRef a, int64_t weight, OperandRef b) {
    emit(Kind::product, 0, dst, width, 1, a, b, {}, weight);
  }
  void fetch(int64_t dst, int64_t width, int64_t a) { emit(Kind::fetch, 0, at(dst), width, 1, at(a)); }
  void store(int64_t dst, int64_t width, int64_t a) { emit(Kind::store, 0, at(dst), width, 1, at(a)); }
  void weight_gradient(int64_t dst, int64_t a_width, int64_t a, int64_t b_width, int64_t b) {
    emit(Kind::weight_gradient, 0, at(dst), a_width, b_width, at(a), at(b));
  }
  // Every index below `n`; some may occur twice, and others not at all.
  int64_t indices(int64_t count, int64_t n) {
    const auto first = int64_t(plan.indices.size());
    for (int64_t i = 0; i < count; ++i) plan.indices.push_back(random_int(0, n - 1));
    return first;
  }
  void gather(OperandRef dst, int64_t width, OperandRef a, int64_t n) {
    emit(Kind::gather, 0, dst, width, n, a, {}, {}, indices(width, n));
  }
  void scatter(OperandRef dst, int64_t width, OperandRef a, int64_t n) {
    emit(Kind::scatter, 0, dst, width, n, a, {}, {}, indices(n, width));
  }
  void column_sums(OperandRef dst, int64_t width, OperandRef a) { emit(Kind::column_sums, 0, dst, width, 1, a); }

  // ---- what execute() takes; the arrays are given from outside, so that a problem can be run many times
  std::vector<Array<T>> views(std::vector<Grid<T>>& grids) const {
    std::vector<Array<T>> found;
    for (auto& g : grids) found.push_back({g.data(), g.rows, g.width, g.stride});
    for (const int64_t i : padded_arrays) {
      const int64_t stride = grids[size_t(i)].stride;
      found[size_t(i)] = {grids[size_t(i)].data(), batch.steps, grids[size_t(i)].width, stride * batch.rows, batch.rows, stride};
    }
    return found;
  }
  std::vector<Weight<T>> weight_views() const {
    std::vector<Weight<T>> found;
    for (size_t i = 0; i < weights.size(); ++i) {
      const auto& w = weights[i];
      found.push_back(transposed[i] ? Weight<T>{w.data(), w.width, w.rows, 1, w.stride}
                                    : Weight<T>{w.data(), w.rows, w.width, w.stride, 1});
    }
    return found;
  }
  // Returns the arrays afterwards.
  std::vector<Grid<T>> run(int threads, Watch* watch = nullptr) const {
    std::vector<Grid<T>> results = arrays;
    plan.validate();
    batch.layout().validate();
    execute<T>(plan, batch.layout(), views(results), weight_views(), threads, nullptr, watch);
    return results;
  }
};

// ---- the readable twin

inline Real plain(Unary op, Real x) {
  switch (op) {
    case Unary::copy: return x;
    case Unary::neg: return -x;
    case Unary::square: return x * x;
    case Unary::rsqrt: return 1 / std::sqrt(x);
    case Unary::sigmoid: return 1 / (1 + std::exp(-x));
    case Unary::tanh: return std::tanh(x);
    case Unary::exp: return std::exp(x);
    default: return NAN;
  }
}

inline Real plain(Binary op, Real a, Real b) {
  switch (op) {
    case Binary::add: return a + b;
    case Binary::sub: return a - b;
    case Binary::mul: return a * b;
    case Binary::div: return a / b;
    case Binary::maximum: return std::max(a, b);
    case Binary::sigmoid_grad: return a * b * (1 - b);
    case Binary::tanh_grad: return a * (1 - b * b);
    default: return NAN;
  }
}

inline Real plain(Ternary op, Real a, Real b, Real c) {
  switch (op) {
    case Ternary::where: return a != 0 ? b : c;
    default: return NAN;
  }
}

template <class T>
class Plainly {
 public:
  explicit Plainly(const Problem<T>& problem) : problem_(problem), plan_(problem.plan), batch_(problem.batch) {
    for (const auto& g : problem.arrays) {
      arrays.emplace_back(g.rows, g.width);
      for (int64_t r = 0; r < g.rows; ++r)
        for (int64_t i = 0; i < g.width; ++i) arrays.back()(r, i) = g(r, i);
    }
    for (const Storage& s : plan_.storages) temps_.emplace_back(size_t(s.width), NAN);
    for (int64_t block = 0; block < batch_.blocks; ++block)
      for (int64_t i = 0; i < batch_.steps; ++i) {
        step_ = plan_.backward ? batch_.steps - 1 - i : i;
        const size_t at = size_t(block * batch_.steps + step_);
        for (int64_t r = 0; r < batch_.counts[at]; ++r) {
          row_ = batch_.row_start[size_t(block)] + r;
          token_ = batch_.offsets[at] + r;
          before_ = step_ == 0 ? -1 : batch_.offsets[at - 1] + r;
          one_row();
        }
      }
  }

  std::vector<Grid<Real>> arrays;

 private:
  void one_row() {
    // What is done for a whole chunk is done for each of its valid steps alone here.
    for (const Phase phase : {Phase::before, Phase::step, Phase::after})
      for (const Instruction& in : plan_.instructions)
        if (in.phase == phase) instruction(in);
  }

  Real& value(const OperandRef& ref, int64_t i) {
    const Storage& s = plan_.storages[size_t(ref.storage)];
    const auto of = [&](int64_t array) -> Grid<Real>& { return arrays[size_t(array)]; };
    const int64_t j = ref.column + (ref.mode == Operand::row_scalar || ref.mode == Operand::scalar ? 0 : i);
    switch (s.place) {
      case Place::temp:
      case Place::chunk: return temps_[size_t(ref.storage)][size_t(j)];
      case Place::token: return of(s.array)(token_, j);
      case Place::previous: return before_ < 0 ? of(s.first)(row_, j) : of(s.array)(before_, j);
      case Place::padded: return of(s.array)(step_ * batch_.rows + row_, j);
      case Place::padded_previous:
        return before_ < 0 ? of(s.first)(row_, j) : of(s.array)((step_ - 1) * batch_.rows + row_, j);
      case Place::row: return of(s.array)(row_, j);
      case Place::vector:
      case Place::slot: return of(s.array)(0, j);  // all slots in the first: only their sum is looked at
      case Place::scalar: return constant_ = problem_.plan.constants[size_t(s.array)];
      case Place::none:
      case Place::count_: break;
    }
    return constant_ = 0;
  }

  void instruction(const Instruction& in) {
    if (in.kind == Kind::weight_gradient) {
      for (int64_t i = 0; i < in.width * in.groups; ++i)
        value(in.dst, i) += value(in.a, i / in.groups) * value(in.b, i % in.groups);
      return;
    }
    std::vector<Real> result(size_t(in.kind == Kind::reduce ? in.groups : in.width));
    const int64_t n = in.width / std::max<int64_t>(in.groups, 1);
    for (int64_t i = 0; i < int64_t(result.size()); ++i) {
      Real& to = result[size_t(i)];
      switch (in.kind) {
        case Kind::unary: to = plain(Unary(in.op), value(in.a, i)); break;
        case Kind::binary: {
          const Real a = value(in.a, i);
          to = plain(Binary(in.op), a, value(in.b, i));
          break;
        }
        case Kind::ternary: {
          const Real a = value(in.a, i), b = value(in.b, i);
          to = plain(Ternary(in.op), a, b, value(in.c, i));
          break;
        }
        case Kind::reduce:
          to = Reduce(in.op) == Reduce::max ? -INFINITY : 0;
          for (int64_t k = 0; k < n; ++k) {
            const Real v = value(in.a, i * n + k);
            to = Reduce(in.op) == Reduce::max ? std::max(to, v) : to + v;
          }
          if (Reduce(in.op) == Reduce::mean) to /= Real(n);
          break;
        case Kind::repeat: to = value(in.a, i / n); break;
        case Kind::product: {
          const auto& w = problem_.weights[size_t(in.weight)];
          const bool t = problem_.transposed[size_t(in.weight)];
          to = value(in.b, i);
          for (int64_t k = 0; k < (t ? w.width : w.rows); ++k) to += value(in.a, k) * Real(t ? w(i, k) : w(k, i));
          break;
        }
        case Kind::column_sums: to = value(in.dst, i) + value(in.a, i); break;
        case Kind::gather: to = value(in.a, plan_.indices[size_t(in.weight + i)]); break;
        case Kind::scatter:
          to = 0;
          for (int64_t k = 0; k < in.groups; ++k)
            if (plan_.indices[size_t(in.weight + k)] == i) to += value(in.a, k);
          break;
        case Kind::fetch:
        case Kind::store: to = value(in.a, i); break;
        case Kind::weight_gradient:
        case Kind::count_: break;
      }
    }
    for (size_t i = 0; i < result.size(); ++i) value(in.dst, int64_t(i)) = result[i];
  }

  const Problem<T>& problem_;
  const Plan& plan_;
  const Batch& batch_;
  std::vector<std::vector<Real>> temps_;
  int64_t step_ = 0, row_ = 0, token_ = 0, before_ = 0;
  Real constant_ = 0;
};

// Compares every element of every array with the twin's, and what lies between and around the arrays with what was there.
template <class T>
void compare(const Problem<T>& problem, const std::vector<Grid<T>>& got, const std::vector<Grid<Real>>& wanted,
             const char* what, int threads) {
  const Real tolerance = 2000 * Real(std::numeric_limits<T>::epsilon());
  std::vector<bool> sums(got.size(), false);
  for (const Storage& s : problem.plan.storages)
    if (s.place == Place::slot) sums[size_t(s.array)] = true;
  for (size_t a = 0; a < got.size(); ++a) {
    CHECK(got[a].intact(), "%s, %d threads, array %zu: written beside it", what, threads, a);
    for (int64_t r = 0; r < (sums[a] ? 1 : got[a].rows); ++r)
      for (int64_t i = 0; i < got[a].width; ++i) {
        Real mine = 0, plain = 0;
        for (int64_t s = r; s < (sums[a] ? got[a].rows : r + 1); ++s) mine += got[a](s, i), plain += wanted[a](s, i);
        CHECK(std::abs(mine - plain) <= tolerance * std::max<Real>(1, std::abs(plain)),
              "%s, %ld rows, %ld blocks, %d threads, array %zu at %ld,%ld: %.9g, expected %.9g", what,
              problem.batch.rows, problem.batch.blocks, threads, a, r, i, double(mine), double(plain));
      }
  }
}

// Runs a problem on every number of threads.
template <class T>
void check_problem(const Problem<T>& problem, const char* what) {
  const Plainly<T> twin(problem);
  for (int threads = 1; threads <= 4; ++threads) compare(problem, problem.run(threads), twin.arrays, what, threads);
}

}  // namespace unspool
