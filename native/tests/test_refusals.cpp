// Everything that Plan::validate, Layout::validate and execute() refuse, one change of a good problem at a time. The arrays
// and weights lie at address zero, so that whoever touches them ends the tests.
#include <functional>
#include <stdexcept>

#include "problem.hpp"

using namespace unspool;

namespace {

constexpr int64_t H = 4, far = int64_t{1} << 40;

// Storages of the good problem, by number.
enum : int64_t { token, row, previous, vector, slot, scalar, temp, none };

// Its instructions, by number.
enum : size_t { product, unary, binary, ternary, reduce, repeat, gather, scatter, column_sums };

struct Case {
  Problem<double> p;
  std::vector<Array<double>> arrays;
  std::vector<Weight<double>> weights;
  int threads = 2;
  bool no_places = false;

  explicit Case(Batch batch) : p(std::move(batch)) {
    p.token(H), p.row(H), p.previous(token), p.vector(H), p.slot(H), p.scalar(0.5), p.temp(H), p.none();
    p.product(p.at(temp), H, p.at(previous), p.weight(H, H, false), p.at(vector));
    p.unary(Unary::tanh, p.at(token), H, p.at(temp));
    p.binary(Binary::add, p.at(temp), H, p.at(token), p.at(scalar));
    p.ternary(Ternary::where, p.at(token), H, p.at(temp), p.at(row), p.at(vector, 0, Operand::vector));
    p.reduce(Reduce::sum, p.at(temp), 2, 2, p.at(token));
    p.repeat(p.at(row), 2, 2, p.at(temp));
    p.gather(p.at(temp), H, p.at(token), H);
    p.scatter(p.at(row), H, p.at(temp), H);
    p.column_sums(p.at(slot), H, p.at(token));
    arrays = p.views(p.arrays), weights = p.weight_views();
    for (auto& a : arrays) a.data = nullptr;
    for (auto& w : weights) w.data = nullptr;
  }
  Storage& storage(int64_t i) { return p.plan.storages[size_t(i)]; }
  Instruction& code(size_t i) { return p.plan.instructions[i]; }
  Array<double>& array_of(int64_t i) { return arrays[size_t(storage(i).array)]; }
};

void refuses(const char* message, const std::function<void(Case&)>& change, int line) {
  Case c(ragged_batch(3, 2, 2));
  change(c);
  const auto layout = [&] {
    Layout made = c.p.batch.layout();
    if (c.no_places) made.times = made.sequences = nullptr;
    return made;
  };
  std::string found = "nothing";
  try {
    c.p.plan.validate();
    layout().validate();
    execute<double>(c.p.plan, layout(), c.arrays, c.weights, c.threads);
  } catch (const std::invalid_argument& error) {
    found = error.what();
  }
  CHECK(found.find(message) != found.npos, "line %d: expected '%s', got '%s'", line, message, found.c_str());
}

#define REFUSES(message, ...) refuses(message, [](Case & c) { __VA_ARGS__; }, __LINE__)

void check_storages() {
  for (const int64_t place : {int64_t{-1}, int64_t{99}, far})
    refuses("a storage of an unknown kind", [=](Case& c) { c.storage(temp).place = Place(place); }, __LINE__);
  for (const int64_t s : {token, row, previous, vector, slot})
    for (const int64_t array : {int64_t{-1}, int64_t{5}, far})
      refuses("a storage names an array that is not there", [=](Case& c) { c.storage(s).array = array; }, __LINE__);
  REFUSES("a storage names an array that is not there", c.storage(previous).first = 5);
  REFUSES("a storage names an array that is not there", c.storage(previous).first = -1);
  for (const int64_t width : {int64_t{-1}, (int64_t{1} << 28) + 1, INT64_MAX})
    refuses("a storage of negative or absurd width", [=](Case& c) { c.storage(temp).width = width; }, __LINE__);
  REFUSES("a constant that is not there", c.storage(scalar).array = 1);
  REFUSES("a constant that is not there", c.storage(scalar).array = -1);
}

void check_instructions() {
  REFUSES("an unknown kind of instruction", c.code(unary).kind = Kind::count_);
  REFUSES("an unknown kind of instruction", c.code(unary).kind = Kind(-1));
  for (const size_t i : {unary, binary, ternary, reduce})
    for (const int64_t op : {int64_t{-1}, int64_t{40}, int64_t{256}, far})
      refuses("an unknown operation", [=](Case& c) { c.code(i).op = op; }, __LINE__);
  REFUSES("an instruction with a bad width or constant", c.code(unary).width = -1);
  REFUSES("an instruction with a bad width or constant", c.code(unary).width = far);
  REFUSES("an instruction with a bad width or constant", c.code(unary).imm0 = 1);
  REFUSES("an instruction with a bad width or constant", c.code(unary).imm1 = far);
  for (const int64_t groups : {int64_t{-1}, int64_t{0}, int64_t{3}, far}) {
    refuses("groups that do not divide a width", [=](Case& c) { c.code(reduce).groups = groups; }, __LINE__);
    refuses("groups that do not divide a width", [=](Case& c) { c.code(repeat).groups = groups; }, __LINE__);
  }
  for (const size_t i : {gather, scatter}) {
    for (const int64_t first : {int64_t{-1}, int64_t{2 * H}, 2 * H - 1, far, INT64_MAX})
      refuses("indices that are not there", [=](Case& c) { c.code(i).weight = first; }, __LINE__);
    for (const int64_t index : {int64_t{-1}, H, far, INT64_MIN})
      refuses("an index beyond the features",
              [=](Case& c) { c.p.plan.indices[size_t(c.code(i).weight + H - 1)] = index; }, __LINE__);
    refuses("features are moved within one place", [=](Case& c) { c.code(i).a = c.code(i).dst; }, __LINE__);
    for (const int64_t features : {int64_t{-1}, far})
      refuses("features of absurd number", [=](Case& c) { c.code(i).groups = features; }, __LINE__);
    refuses("an operand reaches beyond its storage", [=](Case& c) { c.code(i).groups = H + 1; }, __LINE__);
    for (const int64_t s : {vector, scalar})
      refuses("features are taken from one vector per row", [=](Case& c) { c.code(i).a.storage = s; }, __LINE__);
  }
}

void check_operands() {
  const std::pair<size_t, OperandRef Instruction::*> operands[] = {
      {product, &Instruction::dst}, {product, &Instruction::a},     {product, &Instruction::b},
      {unary, &Instruction::dst},   {unary, &Instruction::a},       {binary, &Instruction::dst},
      {binary, &Instruction::a},    {binary, &Instruction::b},      {ternary, &Instruction::dst},
      {ternary, &Instruction::a},   {ternary, &Instruction::b},     {ternary, &Instruction::c},
      {reduce, &Instruction::dst},  {reduce, &Instruction::a},      {repeat, &Instruction::dst},
      {repeat, &Instruction::a},    {gather, &Instruction::dst},    {scatter, &Instruction::dst},
         {column_sums, &Instruction::a}, {column_sums, &Instruction::dst}};
  for (const auto& [i, operand] : operands) {
    const auto change = [i = i, operand = operand](int64_t storage, int64_t column, Operand mode) {
      return [=](Case& c) { c.code(i).*operand = {storage, column, mode}; };
    };
    const bool sums = i == column_sums && operand == &Instruction::dst, read = operand != &Instruction::dst;
    const bool given = i == product && operand == &Instruction::a;  // its width is the weight's
    const bool optional = i == product && operand == &Instruction::b;
    for (const int64_t storage : {int64_t{-1}, int64_t{8}, far})
      refuses("an operand without a storage", change(storage, 0, Operand::full), __LINE__);
    const char* beyond = sums ? "need a slot that is wide enough" : "an operand reaches beyond its storage";
    const int64_t good = sums ? slot : given ? row : temp;
    for (const int64_t column : {int64_t{-1}, H + 1, far, INT64_MIN, INT64_MAX})
      refuses(beyond, change(good, column, Operand::full), __LINE__);
    if (i != reduce && i != repeat && !given) refuses(beyond, change(good, 1, Operand::full), __LINE__);
    if (read) {
      refuses("a sum over tokens is read while it is summed", change(slot, 0, Operand::full), __LINE__);
      if (!optional) refuses("an operand is missing", change(none, 0, Operand::full), __LINE__);
    } else if (!sums) {
      for (const int64_t s : {vector, previous})
        refuses("a result goes where nothing may be written", change(s, 0, Operand::full), __LINE__);
      refuses("a sum over tokens is read", change(slot, 0, Operand::full), __LINE__);
      refuses("one value where a row is taken or written", change(scalar, 0, Operand::full), __LINE__);
      refuses("an operand is missing", change(none, 0, Operand::full), __LINE__);
    } else {
      for (const int64_t s : {vector, previous, row, token, temp, scalar, none})
        refuses("need a slot", change(s, 0, Operand::full), __LINE__);
    }
    // One value per row, or one value, where the kernel takes all columns: the last column would be beyond the end.
    const bool pointwise = read && (i == unary || i == binary || i == ternary);
    for (const Operand mode : {Operand::row_scalar, Operand::scalar, Operand(4), Operand(255)}) {
      if (sums) continue;  // the mode of a slot is not looked at
      const char* one = given ? "a product takes one vector per row" : "one value where a row is taken or written";
      if (mode > Operand::scalar)
        refuses("an operand of an unknown mode", change(good, 0, mode), __LINE__);
      else if (!pointwise)
        refuses(one, change(good, 0, mode), __LINE__);
      if (!pointwise && read) refuses(one, change(scalar, 0, mode), __LINE__);
    }
  }
  REFUSES("a product names a weight that is not there", c.code(product).weight = 1);
  REFUSES("a product names a weight that is not there", c.code(product).weight = -1);
  REFUSES("a product takes one vector per row", c.code(product).a.storage = vector);
  REFUSES("a product takes one vector per row", c.code(product).a.mode = Operand::vector);
}

void check_layouts() {
  REFUSES("a negative or absurd number of steps or blocks", c.p.batch.steps = -1);
  REFUSES("a negative or absurd number of steps or blocks", c.p.batch.blocks = -1);
  REFUSES("a negative or absurd number of steps or blocks", c.p.batch.blocks = far);
  REFUSES("a negative or absurd number of tokens or rows", c.p.batch.tokens = -1);
  REFUSES("a negative or absurd number of tokens or rows", c.p.batch.rows = -1);
  REFUSES("a negative or absurd number of tokens or rows", c.p.batch.rows = far);
  REFUSES("a block leaves the rows", c.p.batch.row_start[0] = -1);
  REFUSES("a block leaves the rows", c.p.batch.row_start[1] = 4);
  REFUSES("a block leaves the rows", c.p.batch.row_start[0] = INT64_MAX);
  REFUSES("a block leaves the rows", c.p.batch.counts[0] = 4);
  REFUSES("a block leaves the rows", c.p.batch.counts[0] = -1);
  REFUSES("a step of a block leaves the tokens", c.p.batch.counts[1] = c.p.batch.counts[0] + 1);  // grows
  REFUSES("a step of a block leaves the tokens", c.p.batch.counts[1] = -1);
  REFUSES("a step of a block leaves the tokens", c.p.batch.offsets[0] = -1);
  REFUSES("a step of a block leaves the tokens", c.p.batch.offsets[0] = c.p.batch.tokens);
  REFUSES("a step of a block leaves the tokens", c.p.batch.offsets[0] = INT64_MAX);
  REFUSES("a step of a block leaves the tokens", c.p.batch.tokens = 0);
}

void check_arrays() {
  REFUSES("another number of arrays", c.arrays.pop_back());
  REFUSES("another number of arrays", c.arrays.push_back(c.arrays[0]));
  REFUSES("another number of arrays", c.p.plan.arrays = 6);
  REFUSES("another number of weights", c.weights.clear());
  REFUSES("another number of weights", c.p.plan.weights = 2);
  for (const int64_t s : {token, row, vector, slot}) {
    refuses("an array is too small", [=](Case& c) { c.array_of(s).width = H - 1; }, __LINE__);
    refuses("an array is too small", [=](Case& c) { c.array_of(s).rows = s == vector ? 0 : 1; }, __LINE__);
    refuses("an array is too small", [=](Case& c) { c.array_of(s).rows = -1; }, __LINE__);
    if (s != vector) refuses("an array is too small", [=](Case& c) { c.array_of(s).stride = H - 1; }, __LINE__);
    if (s != vector) refuses("an array is too small", [=](Case& c) { c.array_of(s).stride = -H; }, __LINE__);
  }
  REFUSES("an array is too small", c.arrays[size_t(c.storage(previous).first)].rows = 2);
  REFUSES("an array is too small", c.arrays[size_t(c.storage(previous).first)].width = 3);
  REFUSES("an array is too small", c.threads = 9);  // sums have a row per thread
  REFUSES("a weight of another width than its product", c.weights[0].N = H + 1);
  REFUSES("a weight takes more than is given", c.weights[0].K = H + 1);
  REFUSES("a weight takes more than is given", c.code(product).a.column = 1);
  REFUSES("a weight of negative or absurd size", c.weights[0].K = -1);
  REFUSES("a weight of negative or absurd size", c.weights[0].N = far);
  REFUSES("larger weights than this machine has memory", c.weights[0].K = c.weights[0].N = 1 << 28);
  // Not one storage is absurd, but all together.
  REFUSES("more scratch than this machine has memory", for (int i = 0; i < 5000; ++i) c.p.temp(1 << 28));
  REFUSES("at least one thread", c.threads = 0);
  REFUSES("at least one thread", c.threads = -1);
}

// What is done for chunks of steps, and arrays of the user's.
void check_chunks() {
  enum : int64_t { user = none + 1, before, part };
  enum : size_t { fetch = column_sums + 1, store, gradient };
  const auto refuses_chunks = [](const char* message, const std::function<void(Case&)>& change, int line) {
    refuses(message, [&](Case& c) {
      c.p.batch = ragged_batch(3, 2, 2, true);
      c = Case(std::move(c.p.batch));
      c.p.padded(H), c.p.padded_previous(user), c.p.chunk(H);
      c.p.phase = Phase::before, c.p.fetch(part, H, user);
      c.p.phase = Phase::after, c.p.store(user, H, part);
      c.p.weight_gradient(c.p.slot(H * H), H, part, H, part);
      c.arrays = c.p.views(c.p.arrays);
      for (auto& a : c.arrays) a.data = nullptr;
      change(c);
    }, line);
  };
#define REFUSES_CHUNKS(message, ...) refuses_chunks(message, [](Case & c) { __VA_ARGS__; }, __LINE__)
  REFUSES_CHUNKS("an unknown phase", c.code(unary).phase = Phase::count_);
  REFUSES_CHUNKS("an unknown phase", c.code(unary).phase = Phase(-1));
  REFUSES_CHUNKS("a padded array is read without having been fetched", c.code(unary).a.storage = user);
  REFUSES_CHUNKS("a padded array is read without having been fetched", c.code(unary).a.storage = before);
  REFUSES_CHUNKS("a chunk takes something that is not there for each of its tokens", c.code(unary).phase = Phase::before);
  REFUSES_CHUNKS("nothing is there to be fetched", c.code(fetch).a.storage = part);
  REFUSES_CHUNKS("nothing is there to be fetched", c.code(fetch).a.storage = scalar);
  REFUSES_CHUNKS("what is fetched goes into scratch", c.code(fetch).dst.storage = token);
  REFUSES_CHUNKS("an operand reaches beyond its storage", c.code(fetch).a.column = 1);
  REFUSES_CHUNKS("an operand reaches beyond its storage", c.code(fetch).dst.column = -1);
  REFUSES_CHUNKS("an operand without a storage", c.code(fetch).a.storage = 99);
  REFUSES_CHUNKS("only padded arrays are stored to", c.code(store).dst.storage = token);
  REFUSES_CHUNKS("only padded arrays are stored to", c.code(store).dst.storage = before);
  REFUSES_CHUNKS("an operand reaches beyond its storage", c.code(store).dst.column = 1);
  REFUSES_CHUNKS("a store takes one vector per row", c.code(store).a.mode = Operand::row_scalar);
  REFUSES_CHUNKS("weights' gradients are summed after a chunk", c.code(gradient).phase = Phase::step);
  REFUSES_CHUNKS("a weight's gradient of absurd size", c.code(gradient).groups = -1);
  REFUSES_CHUNKS("need a slot that is wide enough", c.code(gradient).dst.storage = slot);
  REFUSES_CHUNKS("need a slot that is wide enough", c.code(gradient).dst.column = 1);
  REFUSES_CHUNKS("a weight's gradient takes one vector", c.code(gradient).a.mode = Operand::scalar);
  REFUSES_CHUNKS("an operand reaches beyond its storage", c.code(gradient).groups = H + 1);
  REFUSES_CHUNKS("a padded array needs the places of the tokens", c.no_places = true);
  REFUSES_CHUNKS("a padded array in the place of a matrix", c.storage(token).array = c.storage(user).array);
  REFUSES_CHUNKS("outside of a padded array", c.storage(user).array = c.storage(token).array);
  REFUSES_CHUNKS("an array is too small", c.array_of(user).width = H - 1);
  REFUSES_CHUNKS("outside of a padded array", c.array_of(user).rows = 1);
  REFUSES_CHUNKS("outside of a padded array", c.array_of(user).sequences = 0);
  REFUSES_CHUNKS("outside of a padded array", c.p.batch.times[1] = -1);
  REFUSES_CHUNKS("outside of a padded array", c.p.batch.sequences[0] = far);
  REFUSES_CHUNKS("the tokens of a block do not follow each other", c.p.batch.offsets[1] = 0);
}

// A layout without blocks has no counts to look at.
void check_empty() {
  for (const int threads : {1, 2}) {
    const Batch empty{4, 0, 0, 3, {}, {}, {}, {}, {}};
    empty.layout().validate();
    execute<float>({}, empty.layout(), {}, {}, threads);
  }
}

}  // namespace

void test_refusals() {
  check_storages();
  check_instructions();
  check_operands();
  check_layouts();
  check_arrays();
  check_chunks();
  check_empty();
}
