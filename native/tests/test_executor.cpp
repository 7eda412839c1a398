// The executor against its readable twin (problem.hpp), and the twin's LSTM against the equations themselves.
#include "problem.hpp"

using namespace unspool;

namespace {

const int64_t sizes[] = {1, 3, 7, 16, 17, 64, 129};
constexpr auto full = Operand::full, row_scalar = Operand::row_scalar, vector = Operand::vector, scalar = Operand::scalar;

struct LSTM {
  int64_t x, gates, cells, hidden, h, c, weight;  // storages; the weight's number
};

// i, f, g, o are kept for every valid step, as for a backward pass; c and h are carried.
template <class T>
LSTM lstm(Problem<T>& p, int64_t H, bool transposed) {
  LSTM s{};
  s.x = p.token(4 * H), s.gates = p.token(4 * H), s.cells = p.token(H), s.hidden = p.token(H);
  s.h = p.row(H), s.c = p.row(H), s.weight = p.weight(H, 4 * H, transposed);
  const int64_t sums = p.temp(4 * H), scratch = p.temp(H);
  p.product(p.at(sums), 4 * H, p.at(s.h), s.weight, p.at(s.x));
  p.unary(Unary::sigmoid, p.at(s.gates), 2 * H, p.at(sums));
  p.unary(Unary::tanh, p.at(s.gates, 2 * H), H, p.at(sums, 2 * H));
  p.unary(Unary::sigmoid, p.at(s.gates, 3 * H), H, p.at(sums, 3 * H));
  p.binary(Binary::mul, p.at(scratch), H, p.at(s.gates), p.at(s.gates, 2 * H));
  p.binary(Binary::mul, p.at(s.cells), H, p.at(s.gates, H), p.at(s.c));
  p.binary(Binary::add, p.at(s.cells), H, p.at(s.cells), p.at(scratch));
  p.unary(Unary::tanh, p.at(scratch), H, p.at(s.cells));
  p.binary(Binary::mul, p.at(s.hidden), H, p.at(scratch), p.at(s.gates, 3 * H));
  p.unary(Unary::copy, p.at(s.h), H, p.at(s.hidden));
  p.unary(Unary::copy, p.at(s.c), H, p.at(s.cells));
  return s;
}

// The equations, step by step, with nothing of plans, storages or blocks in them.
template <class T>
void check_equations(int64_t rows, int64_t blocks, int64_t H, int threads) {
  Problem<T> p(ragged_batch(rows, blocks, 4));
  const LSTM s = lstm(p, H, false);
  const auto array = [&](const std::vector<Grid<T>>& from, int64_t storage) -> const Grid<T>& {
    return from[size_t(p.plan.storages[size_t(storage)].array)];
  };
  const auto sigmoid = [](Real v) { return 1 / (1 + std::exp(-v)); };
  const auto results = p.run(threads);
  const Grid<T>& W = p.weights[size_t(s.weight)];
  const Batch& b = p.batch;
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = b.row_start[size_t(block)] + r;
      std::vector<Real> h, c;
      for (int64_t j = 0; j < H && row < rows; ++j) h.push_back(array(p.arrays, s.h)(row, j)), c.push_back(array(p.arrays, s.c)(row, j));
      for (int64_t k = 0; k < b.steps && r < b.counts[size_t(block * b.steps + k)]; ++k) {
        const int64_t token = b.offsets[size_t(block * b.steps + k)] + r;
        std::vector<Real> z;
        for (int64_t n = 0; n < 4 * H; ++n) {
          z.push_back(array(p.arrays, s.x)(token, n));
          for (int64_t j = 0; j < H; ++j) z.back() += h[size_t(j)] * Real(W(j, n));
        }
        for (size_t j = 0, n = size_t(H); j < n; ++j) {
          c[j] = sigmoid(z[n + j]) * c[j] + sigmoid(z[j]) * std::tanh(z[2 * n + j]);
          h[j] = sigmoid(z[3 * n + j]) * std::tanh(c[j]);
          const Real got = array(results, s.hidden)(token, int64_t(j));
          CHECK(std::abs(got - h[j]) <= 500 * std::numeric_limits<T>::epsilon(), "token %ld feature %zu", token, j);
        }
      }
    }
}

// One step of an LSTM backwards: gradients of the outputs come per valid step, those of the states are carried.
// The weight gets its gradient outside; that of the bias is a sum over valid steps.
template <class T>
void lstm_backward(Problem<T>& p, int64_t H, bool transposed) {
  p.plan.backward = true;
  const int64_t gates = p.token(4 * H), cells = p.token(H), grad_out = p.token(H), grad_x = p.token(4 * H);
  const int64_t c_before = p.previous(cells), dh = p.row(H), dc = p.row(H);
  const int64_t bias = p.slot(4 * H), weight = p.weight(4 * H, H, transposed), none = p.none();
  const int64_t tanh_c = p.temp(H), g = p.temp(H);
  p.unary(Unary::tanh, p.at(tanh_c), H, p.at(cells));
  p.binary(Binary::add, p.at(dh), H, p.at(dh), p.at(grad_out));
  p.binary(Binary::mul, p.at(g), H, p.at(dh), p.at(tanh_c));
  p.binary(Binary::sigmoid_grad, p.at(grad_x, 3 * H), H, p.at(g), p.at(gates, 3 * H));
  p.binary(Binary::mul, p.at(g), H, p.at(dh), p.at(gates, 3 * H));
  p.binary(Binary::tanh_grad, p.at(g), H, p.at(g), p.at(tanh_c));
  p.binary(Binary::add, p.at(dc), H, p.at(dc), p.at(g));
  p.binary(Binary::mul, p.at(g), H, p.at(dc), p.at(gates, 2 * H));
  p.binary(Binary::sigmoid_grad, p.at(grad_x), H, p.at(g), p.at(gates));
  p.binary(Binary::mul, p.at(g), H, p.at(dc), p.at(c_before));
  p.binary(Binary::sigmoid_grad, p.at(grad_x, H), H, p.at(g), p.at(gates, H));
  p.binary(Binary::mul, p.at(g), H, p.at(dc), p.at(gates));
  p.binary(Binary::tanh_grad, p.at(grad_x, 2 * H), H, p.at(g), p.at(gates, 2 * H));
  p.column_sums(p.at(bias), 4 * H, p.at(grad_x));
  p.binary(Binary::mul, p.at(dc), H, p.at(dc), p.at(gates, H));
  p.product(p.at(dh), H, p.at(grad_x), weight, p.at(none));
}

// A layer-normed step: one value per row from reductions, vectors of gain and bias, and a product that adds a vector.
template <class T>
void layer_norm(Problem<T>& p, int64_t H, bool transposed) {
  const int64_t h = p.row(H), out = p.token(H), gain = p.vector(H), bias = p.vector(H), mean = p.temp(1);
  const int64_t gate = p.vector(1), z = p.temp(H), centred = p.temp(H), square = p.temp(H), deviation = p.temp(1);
  const int64_t weight = p.weight(H, H, transposed), eps = p.scalar(1e-2), by_row = p.row(1);
  p.product(p.at(z), H, p.at(h), weight, p.at(bias, 0, vector));
  p.reduce(Reduce::mean, p.at(mean), 1, H, p.at(z));
  p.binary(Binary::sub, p.at(centred), H, p.at(z), p.at(mean, 0, row_scalar));
  p.unary(Unary::square, p.at(square), H, p.at(centred));
  p.reduce(Reduce::mean, p.at(deviation), 1, H, p.at(square));
  p.binary(Binary::add, p.at(deviation), 1, p.at(deviation), p.at(eps, 0, scalar));
  p.unary(Unary::rsqrt, p.at(deviation), 1, p.at(deviation));
  p.binary(Binary::mul, p.at(centred), H, p.at(centred), p.at(deviation, 0, row_scalar));
  p.binary(Binary::mul, p.at(z), H, p.at(centred), p.at(gain, 0, vector));
  p.binary(Binary::add, p.at(z), H, p.at(z), p.at(bias, 0, vector));
  p.binary(Binary::mul, p.at(z), H, p.at(z), p.at(gate, 0, scalar));
  p.binary(Binary::add, p.at(z), H, p.at(z), p.at(by_row, 0, row_scalar));
  p.unary(Unary::tanh, p.at(out), H, p.at(z));
  p.unary(Unary::copy, p.at(h), H, p.at(out));
}

// A softmax over groups of features, and products that follow each other, in place, from a previous step.
template <class T>
void groups(Problem<T>& p, int64_t n, bool transposed) {
  const int64_t g = 3, width = g * n, out = p.token(width), before = p.previous(out), extra = p.row(width), none = p.none();
  const int64_t z = p.temp(width), most = p.temp(g), wide = p.temp(width), whole = p.temp(g);
  const int64_t first = p.weight(width, width, transposed), second = p.weight(width, width, !transposed);
  p.product(p.at(z), width, p.at(before), first, p.at(extra));
  p.product(p.at(z), width, p.at(before), second, p.at(z));
  p.reduce(Reduce::max, p.at(most), g, n, p.at(z));
  p.repeat(p.at(wide), g, n, p.at(most));
  p.binary(Binary::sub, p.at(z), width, p.at(z), p.at(wide));
  p.unary(Unary::exp, p.at(z), width, p.at(z));
  p.reduce(Reduce::sum, p.at(whole), g, n, p.at(z));
  p.repeat(p.at(wide), g, n, p.at(whole));
  p.binary(Binary::div, p.at(z), width, p.at(z), p.at(wide));
  p.product(p.at(out), width, p.at(z), first, p.at(none));
}

// Work on chunks of steps: user arrays are fetched from and stored to, the input's product is taken before the steps.
template <class T>
void chunks(Problem<T>& p, int64_t H, bool transposed) {
  const int64_t input = p.padded(7), output = p.padded(H), x = p.chunk(7), sums = p.chunk(H), out = p.chunk(H);
  const int64_t h = p.row(H), bias = p.vector(H), z = p.temp(H), kept = p.token(H);
  p.phase = Phase::before;
  p.fetch(x, 7, input);
  p.product(p.at(sums), H, p.at(x), p.weight(7, H, transposed), p.at(bias, 0, vector));
  p.phase = Phase::step;
  p.product(p.at(z), H, p.at(h), p.weight(H, H, !transposed), p.at(sums));
  p.unary(Unary::tanh, p.at(out), H, p.at(z));
  p.unary(Unary::copy, p.at(h), H, p.at(out));
  p.phase = Phase::after;
  p.binary(Binary::mul, p.at(kept), H, p.at(out), p.at(bias, 0, vector));
  p.store(output, H, out);
}

// The same backwards: gradients of the weights are summed over each chunk, the input's is stored.
template <class T>
void chunks_backward(Problem<T>& p, int64_t H, bool transposed) {
  p.plan.backward = true;
  const int64_t grad_out = p.padded(H), grad_in = p.padded(7), output = p.padded(H), input = p.padded(7);
  const int64_t before = p.padded_previous(output), dh = p.row(H), none = p.none();
  const int64_t y = p.chunk(H), g = p.chunk(H), x = p.chunk(7), taken = p.chunk(H), dx = p.chunk(7), gate = p.row(H);
  const int64_t gates = p.chunk(H), of_input = p.slot(7 * H), of_state = p.slot(H * H), bias = p.slot(H);
  p.phase = Phase::before;
  p.fetch(y, H, output), p.fetch(g, H, grad_out), p.fetch(gates, H, gate);
  p.phase = Phase::step;
  p.binary(Binary::add, p.at(dh), H, p.at(dh), p.at(g));
  p.binary(Binary::tanh_grad, p.at(g), H, p.at(dh), p.at(y));
  p.product(p.at(dh), H, p.at(g), p.weight(H, H, transposed), p.at(none));
  p.phase = Phase::after;
  p.fetch(x, 7, input), p.fetch(taken, H, before);
  p.weight_gradient(of_input, 7, x, H, g);
  p.weight_gradient(of_state, H, taken, H, g);
  p.binary(Binary::mul, p.at(gates), H, p.at(gates), p.at(g));
  p.column_sums(p.at(bias), H, p.at(gates));
  p.product(p.at(dx), 7, p.at(g), p.weight(H, 7, transposed), p.at(none));
  p.store(grad_in, 7, dx);
}

// Instructions by chance over storages by chance. What could grow is brought back by tanh, and a result never goes where
// an operand lies, save in the operation that follows.
template <class T>
void anything(Problem<T>& p, int length) {
  const auto size = [] { return sizes[random_int(0, 6)]; };
  const auto pick = [](const std::vector<int64_t>& from) { return from[size_t(random_int(0, int64_t(from.size()) - 1))]; };
  p.plan.backward = random_int(0, 1) == 1;
  std::vector<int64_t> taken, written, temps, known;  // storages
  for (int i = 0; i < 2; ++i) taken.push_back(p.token(size())), taken.push_back(p.row(size()));
  for (int i = 0; i < 2; ++i) written.push_back(p.token(size())), written.push_back(p.row(size()));
  const int64_t kept = p.token(size()), slot = p.slot(129), gain = p.vector(129), eps = p.scalar(0.25), none = p.none();
  taken.push_back(p.previous(written[0])), taken.push_back(p.previous(kept));
  for (int i = 0; i < 3; ++i) temps.push_back(p.temp(size()));
  known = taken;
  const auto width_of = [&](int64_t s) { return p.plan.storages[size_t(s)].width; };
  // An operand of a pointwise operation of some width that is not in `dst`.
  const auto operand = [&](int64_t dst, int64_t width) {
    switch (random_int(0, 4)) {
      case 0: return p.at(gain, random_int(0, 129 - width), vector);
      case 1: return p.at(gain, random_int(0, 128), scalar);
      case 2: return p.at(eps, 0, scalar);
      default: break;
    }
    const int64_t s = pick(known);
    if (s == dst) return p.at(gain, 0, vector);
    if (width_of(s) < width) return p.at(s, random_int(0, width_of(s) - 1), row_scalar);
    return p.at(s, random_int(0, width_of(s) - width));
  };
  for (int i = 0; i < length; ++i) {
    const bool to_temp = random_int(0, 1) == 0;
    const int64_t dst = to_temp ? pick(temps) : pick(written), width = width_of(dst);
    int64_t from = pick(known);
    if (from == dst) from = taken[0];
    switch (random_int(0, 8)) {
      case 0: p.product(p.at(dst), width, p.at(from), p.weight(width_of(from), width, i % 2), p.at(none)); break;
      case 1:
        p.product(p.at(dst), width, p.at(from), p.weight(width_of(from), width, i % 2), p.at(gain, 129 - width, vector));
        break;
      case 2: p.binary(Binary::add, p.at(dst), width, operand(dst, width), operand(dst, width)); break;
      case 3:
        p.ternary(Ternary::where, p.at(dst), width, operand(dst, width), operand(dst, width), operand(dst, width));
        break;
      case 4: p.unary(Unary::sigmoid, p.at(dst), width, operand(dst, width)); break;
      case 5: p.binary(Binary::maximum, p.at(dst), width, operand(dst, width), p.at(eps, 0, scalar)); break;
      case 6: p.gather(p.at(dst), width, p.at(from), width_of(from)); break;
      case 7: p.scatter(p.at(dst), width, p.at(from), width_of(from)); break;
      default: {  // the largest groups that fit into both
        const int64_t n = std::max<int64_t>(1, width_of(from) / width);
        if (n * width <= width_of(from))
          p.reduce(random_int(0, 1) ? Reduce::max : Reduce::mean, p.at(dst), width, n, p.at(from));
        else
          p.repeat(p.at(dst), 1, width, p.at(from, width_of(from) - 1));
      }
    }
    p.unary(Unary::tanh, p.at(dst), width, p.at(dst));
    if (to_temp) known.push_back(dst);
    if (random_int(0, 3) == 0) {
      const int64_t summed = std::min<int64_t>(width, 129);
      p.column_sums(p.at(slot, 129 - summed), summed, p.at(dst));
    }
  }
}

template <class T>
void check_all() {
  int turn = 0;
  for (int64_t H : sizes)
    for (int64_t blocks : {1, 2, 5}) {
      const int64_t rows = sizes[turn % 5];
      const bool transposed = turn % 2 == 0;
      ++turn;
      const auto check = [&](const char* what, auto build) {
        Problem<T> p(ragged_batch(rows, blocks, 3));
        build(p);
        check_problem(p, what);
      };
      check("lstm", [&](auto& p) { lstm(p, H, transposed); });
      check("lstm backward", [&](auto& p) { lstm_backward(p, H, transposed); });
      check("layer norm", [&](auto& p) { layer_norm(p, H, transposed); });
      check("groups", [&](auto& p) { groups(p, std::min<int64_t>(H, 17), transposed); });
      // Two hundred steps are more than one chunk.
      for (const int64_t steps : {3, H < 16 ? 200 : 20}) {
        Problem<T> forward(ragged_batch(rows, blocks, steps, true)), backward(forward.batch);
        chunks(forward, H, transposed), chunks_backward(backward, H, transposed);
        check_problem(forward, "chunks"), check_problem(backward, "chunks backward");
      }
      if (H < 64) check_equations<T>(rows, blocks, H, 1 + turn % 4);
    }
  for (int i = 0; i < 40; ++i) {
    Problem<T> p(ragged_batch(sizes[random_int(0, 4)], random_int(1, 4), random_int(1, 5)));
    anything(p, int(random_int(1, 12)));
    check_problem(p, "anything");
  }
  // More rows than a tile of pointwise work holds.
  Problem<T> tall(ragged_batch(129, 1, 2));
  lstm(tall, 129, false);
  check_problem(tall, "tall");
  // More rows at a step than are worked on at once, by one thread, by blocks and by a team.
  for (const int64_t blocks : {1, 2}) {
    const auto check = [&](auto build) {
      Problem<T> p(ragged_batch(2 * kMostRows + 90, blocks, 3, true));
      build(p);
      check_problem(p, "many rows");
    };
    check([](auto& p) { lstm(p, 3, true); });
    check([](auto& p) { lstm_backward(p, 3, true); });
    check([](auto& p) { chunks(p, 3, true); });
    check([](auto& p) { chunks_backward(p, 3, true); });
  }
}

// Without rows, steps, blocks, instructions or columns there is nothing to do, and nothing happens.
template <class T>
void check_nothing() {
  for (int64_t rows : {0, 3})
    for (int64_t blocks : {0, 1, 2})
      for (int64_t steps : {0, 2}) {
        if (rows > 0 && blocks == 0) continue;
        Problem<T> p(ragged_batch(rows, blocks, steps));
        lstm(p, 3, false);
        check_problem(p, "nothing");
      }
  Problem<T> idle(ragged_batch(3, 1, 2));
  check_problem(idle, "no instructions");
  Problem<T> narrow(ragged_batch(3, 1, 2));
  lstm(narrow, 0, false);
  check_problem(narrow, "no columns");
  // A product of no features is what it adds.
  Problem<T> empty(ragged_batch(3, 1, 2));
  const int64_t out = empty.token(7), added = empty.row(7), x = empty.token(2);
  empty.product(empty.at(out), 7, empty.at(x, 2), empty.weight(0, 7, false), empty.at(added));
  check_problem(empty, "no features");
}

}  // namespace

void test_executor() {
  check_all<float>();
  check_all<double>();
  check_nothing<float>();
  check_nothing<double>();
}
