#include "plan.hpp"

#include <unistd.h>

#include <algorithm>
#include <stdexcept>
#include <string>

namespace unspool {
namespace {

void require(bool good, const char* what) {
  if (!good) throw std::invalid_argument(std::string("engine: ") + what);
}

constexpr int64_t kLargest = int64_t{1} << 31;  // of a width or a number of rows, so that no sum or product overflows
constexpr int64_t kWidest = int64_t{1} << 28;   // of scratch: one row of it fills a gigabyte

// Bytes of memory of this machine; as many as there can be where the system does not say. Asking takes longer than a step.
int64_t physical_memory() {
  static const int64_t bytes = [] {
    const int64_t pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGE_SIZE);
    return pages > 0 && size > 0 ? pages * size : INT64_MAX;
  }();
  return bytes;
}

bool is_padded(Place place) { return place == Place::padded || place == Place::padded_previous; }
bool is_previous(Place place) { return place == Place::previous || place == Place::padded_previous; }
// One row per valid step, so that it can be taken for all of a chunk.
bool per_token(Place place) { return place == Place::token || place == Place::chunk; }
bool scratch(Place place) { return place == Place::temp || place == Place::chunk; }

class PlanCheck {
 public:
  explicit PlanCheck(const Plan& plan) : plan_(plan) {}

  void run() {
    for (const Storage& s : plan_.storages) storage(s);
    for (const Instruction& in : plan_.instructions) instruction(in);
  }

 private:
  void array(int64_t i) const { require(i >= 0 && i < plan_.arrays, "a storage names an array that is not there"); }

  void storage(const Storage& s) const {
    require(s.place >= Place::temp && s.place < Place::count_, "a storage of an unknown kind");
    require(s.width >= 0 && s.width <= (scratch(s.place) ? kWidest : kLargest), "a storage of negative or absurd width");
    if (s.place == Place::scalar) {
      const auto constants = static_cast<int64_t>(plan_.constants.size());
      require(s.array >= 0 && s.array < constants, "a constant that is not there");
    } else if (!scratch(s.place) && s.place != Place::none) {
      array(s.array);
    }
    if (is_previous(s.place)) array(s.first);
  }

  const Storage& at(const OperandRef& ref) const {
    require(ref.storage >= 0 && ref.storage < static_cast<int64_t>(plan_.storages.size()), "an operand without a storage");
    return plan_.storages[static_cast<size_t>(ref.storage)];
  }

  static void reaches(const OperandRef& ref, const Storage& s, int64_t width) {
    require(width <= s.width && ref.column >= 0 && ref.column <= s.width - width, "an operand reaches beyond its storage");
  }

  void operand(const OperandRef& ref, int64_t width, Phase phase, bool optional = false) const {
    const Storage& s = at(ref);
    require(optional || s.place != Place::none, "an operand is missing");
    require(s.place != Place::slot, "a sum over tokens is read while it is summed");
    require(!is_padded(s.place), "a padded array is read without having been fetched");
    if (s.place == Place::none || s.place == Place::scalar) return;
    require(phase == Phase::step || per_token(s.place) || s.place == Place::vector,
            "a chunk takes something that is not there for each of its tokens");
    require(ref.mode >= Operand::full && ref.mode < Operand::count_, "an operand of an unknown mode");
    reaches(ref, s, ref.mode == Operand::row_scalar || ref.mode == Operand::scalar ? 1 : width);
  }

  // An operand with one vector per row.
  void matrix(const OperandRef& ref, int64_t width, Phase phase, const char* what) const {
    operand(ref, width, phase);
    const Place place = at(ref).place;
    const bool per_row = scratch(place) || place == Place::token || place == Place::previous || place == Place::row;
    require(per_row && ref.mode == Operand::full, what);
  }

  // Only pointwise operands have modes: everything else reads, or writes, `width` columns whatever the mode says.
  void whole(const OperandRef& ref, int64_t width, Phase phase, bool optional = false) const {
    operand(ref, width, phase, optional);
    const Storage& s = at(ref);
    if (s.place == Place::none) return;
    require(s.place != Place::scalar && (ref.mode == Operand::full || ref.mode == Operand::vector),
            "one value where a row is taken or written");
  }

  void written(const OperandRef& ref, int64_t width, Phase phase) const {
    whole(ref, width, phase);
    const Place place = at(ref).place;
    require(scratch(place) || place == Place::token || place == Place::row, "a result goes where nothing may be written");
  }

  void sums(const OperandRef& ref, int64_t width) const {
    const Storage& s = at(ref);
    require(s.place == Place::slot && ref.column >= 0 && width <= s.width && ref.column <= s.width - width,
            "sums over tokens need a slot that is wide enough");
  }

  template <class Op>
  static void counted(int64_t op, Op count) {
    require(op >= 0 && op < static_cast<int64_t>(count), "an unknown operation");
  }

  // Of `count` indices each must name one of `features`.
  void indices(int64_t first, int64_t count, int64_t features) const {
    const auto size = static_cast<int64_t>(plan_.indices.size());
    require(first >= 0 && count <= size && first <= size - count, "indices that are not there");
    const auto begin = plan_.indices.begin() + first;
    require(std::all_of(begin, begin + count, [&](int64_t i) { return i >= 0 && i < features; }),
            "an index beyond the features");
  }

  void instruction(const Instruction& in) const {
    const auto constants = static_cast<int64_t>(plan_.constants.size());
    require(in.kind >= Kind::unary && in.kind < Kind::count_, "an unknown kind of instruction");
    require(in.phase >= Phase::step && in.phase < Phase::count_, "an unknown phase");
    require(in.width >= 0 && in.width <= kLargest && in.imm0 < constants && in.imm1 < constants,
            "an instruction with a bad width or constant");
    switch (in.kind) {
      case Kind::unary:
        counted(in.op, Unary::count_), operand(in.a, in.width, in.phase), written(in.dst, in.width, in.phase);
        break;
      case Kind::binary:
        counted(in.op, Binary::count_), operand(in.a, in.width, in.phase), operand(in.b, in.width, in.phase);
        written(in.dst, in.width, in.phase);
        break;
      case Kind::ternary:
        counted(in.op, Ternary::count_), operand(in.a, in.width, in.phase), operand(in.b, in.width, in.phase);
        operand(in.c, in.width, in.phase), written(in.dst, in.width, in.phase);
        break;
      case Kind::reduce:
      case Kind::repeat: {
        const bool reduce = in.kind == Kind::reduce;
        require(in.groups > 0 && in.width % in.groups == 0, "groups that do not divide a width");
        if (reduce) counted(in.op, Reduce::count_);
        whole(in.a, reduce ? in.width : in.groups, in.phase);
        written(in.dst, reduce ? in.groups : in.width, in.phase);
        break;
      }
      case Kind::product:
        require(in.weight >= 0 && in.weight < plan_.weights, "a product names a weight that is not there");
        whole(in.b, in.width, in.phase, true);
        matrix(in.a, 0, in.phase, "a product takes one vector per row");
        written(in.dst, in.width, in.phase);
        break;
      case Kind::column_sums:
        whole(in.a, in.width, in.phase), sums(in.dst, in.width);
        break;
      case Kind::fetch:
        require(is_padded(at(in.a).place) || at(in.a).place == Place::previous ||
                    (at(in.a).place == Place::row && in.phase != Phase::step),
                "nothing is there to be fetched");
        require(scratch(at(in.dst).place), "what is fetched goes into scratch");
        reaches(in.a, at(in.a), in.width), written(in.dst, in.width, in.phase);
        break;
      case Kind::store:
        require(at(in.dst).place == Place::padded, "only padded arrays are stored to");
        reaches(in.dst, at(in.dst), in.width);
        matrix(in.a, in.width, in.phase, "a store takes one vector per row");
        break;
      case Kind::weight_gradient:
        require(in.phase == Phase::after, "weights' gradients are summed after a chunk");
        require(in.groups >= 0 && in.groups <= kLargest, "a weight's gradient of absurd size");
        matrix(in.a, in.width, in.phase, "a weight's gradient takes one vector per token");
        matrix(in.b, in.groups, in.phase, "a weight's gradient takes one vector per token");
        sums(in.dst, in.width * in.groups);
        break;
      case Kind::gather:
      case Kind::scatter:
        require(in.groups >= 0 && in.groups <= kLargest, "features of absurd number");
        matrix(in.a, in.groups, in.phase, "features are taken from one vector per row");
        written(in.dst, in.width, in.phase);
        require(in.dst.storage != in.a.storage, "features are moved within one place");
        if (in.kind == Kind::gather)
          indices(in.weight, in.width, in.groups);
        else
          indices(in.weight, in.groups, in.width);
        break;
      case Kind::count_: break;
    }
  }

  const Plan& plan_;
};

template <class T>
class ArrayCheck {
 public:
  ArrayCheck(const Plan& plan, const Layout& layout, const std::vector<Array<T>>& arrays) 
      : plan_(plan), layout_(layout), arrays_(arrays) {}

  void run(int threads) const {
    for (const Storage& s : plan_.storages) {
      if (s.place == Place::token || s.place == Place::previous) array(s.array, layout_.tokens, s.width);
      if (is_padded(s.place)) padded(s.array, s.width);
      if (is_previous(s.place)) array(s.first, layout_.rows, s.width);
      if (s.place == Place::row) array(s.array, layout_.rows, s.width);
      if (s.place == Place::vector) array(s.array, 1, s.width);
    }
    for (const Instruction& in : plan_.instructions) {
      if (in.kind != Kind::column_sums && in.kind != Kind::weight_gradient) continue;
      const Storage& s = plan_.storages[static_cast<size_t>(in.dst.storage)];
      // Threads that share a block sum columns each for itself, but share the gradient of a weight among them.
      const int64_t slots = in.kind == Kind::column_sums ? std::max<int64_t>(layout_.blocks, threads) : layout_.blocks;
      array(s.array, slots, s.width);
    }
  }

 private:
  void array(int64_t i, int64_t rows, int64_t width) const {
    const auto& a = arrays_[static_cast<size_t>(i)];
    require(a.sequences == 0, "a padded array in the place of a matrix");
    require(a.rows >= rows && a.width >= width && (a.stride >= a.width || a.rows <= 1), "an array is too small");
  }

  void padded(int64_t i, int64_t width) const {
    const auto& a = arrays_[static_cast<size_t>(i)];
    require(layout_.tokens == 0 || (layout_.times && layout_.sequences), "a padded array needs the places of the tokens");
    require(a.width >= width, "an array is too small");
    for (int64_t n = 0; n < layout_.tokens; ++n) {
      const int64_t t = layout_.times[n], b = layout_.sequences[n];
      require(t >= 0 && t < a.rows && b >= 0 && b < a.sequences, "a token stands outside of a padded array");
    }
  }

  const Plan& plan_;
  const Layout& layout_;
  const std::vector<Array<T>>& arrays_;
};

}  // namespace

void Plan::validate() const { PlanCheck(*this).run(); }

void Layout::validate() const {
  require(steps >= 0 && blocks >= 0 && blocks < kLargest, "a negative or absurd number of steps or blocks");
  require(tokens >= 0 && rows >= 0 && rows <= kLargest, "a negative or absurd number of tokens or rows");
  for (int64_t p = 0; p < blocks; ++p) {
    int64_t before = steps ? counts[p * steps] : 0;
    require(before >= 0 && before <= rows && row_start[p] >= 0 && row_start[p] <= rows - before, "a block leaves the rows");
    for (int64_t k = 0; k < steps; ++k) {
      const int64_t n = counts[p * steps + k], at = offsets[p * steps + k];
      require(n >= 0 && n <= before && n <= tokens && at >= 0 && at <= tokens - n, "a step of a block leaves the tokens");
      before = n;
    }
  }
}

template <class T>
void check(const Plan& plan, const Layout& layout, const std::vector<Array<T>>& arrays,
           const std::vector<Weight<T>>& weights, int threads) {
  require(threads >= 1, "at least one thread is needed");
  require(static_cast<int64_t>(arrays.size()) == plan.arrays, "another number of arrays than the plan has");
  require(static_cast<int64_t>(weights.size()) == plan.weights, "another number of weights than the plan has");
  int64_t width = 0, rows = 0;
  for (const Storage& s : plan.storages)
    if (scratch(s.place)) width += scratch_stride(s.width);
  for (int64_t p = 0; p < layout.blocks && layout.steps > 0; ++p) rows = std::max(rows, layout.counts[p * layout.steps]);
  const int64_t memory = physical_memory() / static_cast<int64_t>(sizeof(T));
  const int64_t at_once = std::max<int64_t>(1, std::min<int64_t>(layout.blocks, threads)) * std::clamp<int64_t>(rows, 1, kMostRows);
  require(width <= memory / at_once, "more scratch than this machine has memory");
  int64_t packed = 0;
  for (const auto& w : weights) {
    require(w.K >= 0 && w.K <= kLargest && w.N >= 0 && w.N <= kLargest, "a weight of negative or absurd size");
    packed += w.K * w.N;
    require(packed <= memory, "larger weights than this machine has memory");
  }
  ArrayCheck<T>(plan, layout, arrays).run(threads);
  bool chunks = false;
  for (const Instruction& in : plan.instructions) {
    chunks = chunks || in.phase != Phase::step;
    if (in.kind != Kind::product) continue;
    const auto& w = weights[static_cast<size_t>(in.weight)];
    require(w.N == in.width, "a weight of another width than its product");
    const int64_t given = plan.storages[static_cast<size_t>(in.a.storage)].width;
    require(w.K <= given && in.a.column <= given - w.K, "a weight takes more than is given");
  }
  for (const Storage& s : plan.storages) chunks = chunks || s.place == Place::chunk;
  for (int64_t p = 0; chunks && p < layout.blocks; ++p) {
    for (int64_t k = 1; k < layout.steps; ++k) {
      const int64_t i = p * layout.steps + k;
      require(layout.counts[i] == 0 || layout.offsets[i] == layout.offsets[i - 1] + layout.counts[i - 1],
              "the tokens of a block do not follow each other");
    }
  }
}

template void check(const Plan&, const Layout&, const std::vector<Array<float>>&, const std::vector<Weight<float>>&, int);
template void check(const Plan&, const Layout&, const std::vector<Array<double>>&, const std::vector<Weight<double>>&, int);

}  // namespace unspool
