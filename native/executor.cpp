#include "executor.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

#include "isa.hpp"
#include "thread_pool.hpp"

namespace unspool {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument("engine: " + what); }

void require(bool good, const char* what) {
  if (!good) refuse(what);
}

constexpr int64_t kLargest = int64_t{1} << 31;  // of a width or a number of rows, so that no sum or product overflows
constexpr int64_t kAlign = 16;  // elements between rows of scratch are multiples of this
constexpr int64_t kTileBytes = 24 * 1024;  // what a tile of rows may take of the first-level cache

int64_t padded(int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

template <class T>
struct Scratch {  // memory of one block, kept from call to call by its thread
  std::vector<T> memory;
  T* reserve(int64_t n) {
    if (static_cast<int64_t>(memory.size()) < n) memory.resize(static_cast<size_t>(n));
    return memory.data();
  }
};

template <class T>
struct PackedWeights {
  std::unique_ptr<T[]> memory;
  std::vector<T*> data;
};

// A run of instructions between two products: walked over in tiles of rows, so that what they hand on stays in cache.
struct Segment {
  size_t begin, end;
  bool product;
  int64_t tile;
};

template <class T>
class Runner {
 public:
  Runner(const Plan& plan, const Layout& layout, const std::vector<Array<T>>& arrays,
         const std::vector<Weight<T>>& weights)
      : plan_(plan), layout_(layout), arrays_(arrays), weights_(weights), kernels_(kernels<T>()) {
    cut();
  }

  void run(int threads) {
    pack(threads);
    const int blocks = static_cast<int>(layout_.blocks);
    if (blocks > 1 || threads == 1) {
      parallel_for(blocks, threads, [&](int block) { run_block(block, 0, 1, nullptr); });
    } else {
      T* shared = scratch(max_rows(0));
      run_together(threads, [&](int rank, Barrier& barrier) { run_block(0, rank, threads, &barrier, shared); });
    }
  }

 private:
  void cut() {
    const auto& code = plan_.instructions;
    for (size_t i = 0; i < code.size();) {
      if (code[i].kind == Kind::product) {
        segments_.push_back({i, i + 1, true, 0});
        ++i;
        continue;
      }
      size_t end = i;
      int64_t width = 1;
      while (end < code.size() && code[end].kind != Kind::product) width += code[end++].width;
      // Most instructions read about as much as they write, and some of it again.
      const int64_t tile = std::max<int64_t>(1, kTileBytes / static_cast<int64_t>(sizeof(T)) / width);
      segments_.push_back({i, end, false, tile});
      i = end;
    }
    int64_t at = 0;
    for (const Storage& s : plan_.storages) {
      const bool has_temp = s.place == Place::temp || s.place == Place::previous;
      temp_at_.push_back(at);
      if (has_temp) at += padded(s.width);
    }
    temp_width_ = at;
  }

  int64_t max_rows(int64_t block) const {
    return layout_.steps == 0 ? 0 : layout_.counts[block * layout_.steps];
  }

  T* scratch(int64_t rows) {
    thread_local Scratch<T> memory;
    return memory.reserve(temp_width_ * rows + kAlign);
  }

  void pack(int threads) {
    int64_t total = 0;
    std::vector<int64_t> at;
    for (const auto& w : weights_) {
      at.push_back(total);
      total += (kernels_.packed_size(w.K, w.N) + kAlign - 1) / kAlign * kAlign;
    }
    packed_.memory.reset(new T[static_cast<size_t>(total + kAlign)]);
    auto address = reinterpret_cast<uintptr_t>(packed_.memory.get());
    T* base = packed_.memory.get() + (64 - address % 64) % 64 / sizeof(T);
    for (int64_t a : at) packed_.data.push_back(base + a);
    parallel_for(static_cast<int>(weights_.size()), threads, [&](int i) {
      const auto& w = weights_[static_cast<size_t>(i)];
      kernels_.pack(w.data, w.stride_k, w.stride_n, w.K, w.N, packed_.data[static_cast<size_t>(i)]);
    });
  }

  struct Frame {  // one step of one block
    int64_t block, slot, row_start, block_rows;
    T* temp;
    int64_t step, count, offset;
    bool scattered;
  };

  // Steps come in the order of computation; a step's previous token is at step - 1 in the same block.
  void run_block(int64_t block, int rank, int team, Barrier* barrier, T* shared = nullptr) {
    const int64_t steps = layout_.steps, rows = max_rows(block);
    if (rows == 0) return;
    Frame frame{block, team > 1 ? rank : block, layout_.row_start[block], rows, shared ? shared : scratch(rows),
                0,     0,                       0,                        false};
    for (int64_t i = 0; i < steps; ++i) {
      frame.step = plan_.backward ? steps - 1 - i : i;
      frame.count = layout_.counts[block * steps + frame.step];
      frame.offset = layout_.offsets[block * steps + frame.step];
      if (frame.count == 0) continue;
      frame.scattered = scattered(frame);
      step(frame, rank, team, barrier);
    }
  }

  void step(const Frame& frame, int rank, int team, Barrier* barrier) {
    const auto meet = [&] {
      if (barrier) barrier->wait();
    };
    const auto [first, last] = share(frame.count, rank, team);
    if (!plan_.backward) reset_forward(frame, first, last);
    fetch_previous(frame, first, last);
    meet();
    for (const Segment& s : segments_) {
      if (s.product) {
        product(frame, plan_.instructions[s.begin], rank, team);
      } else {
        for (int64_t r = first; r < last; r += s.tile) {
          const int64_t n = std::min(s.tile, last - r);
          for (size_t i = s.begin; i < s.end; ++i) pointwise(frame, plan_.instructions[i], r, n);
        }
      }
      meet();
    }
    if (plan_.backward) reset_backward(frame, first, last);
    meet();
  }

  static std::pair<int64_t, int64_t> share(int64_t n, int rank, int team) {
    return {n * rank / team, n * (rank + 1) / team};
  }

  bool is_reset(const Frame& f, int64_t r) const { return layout_.resets && layout_.resets[f.offset + r]; }

  void reset_forward(const Frame& f, int64_t first, int64_t last) {
    if (!layout_.resets) return;
    for (int64_t r = first; r < last; ++r) {
      if (!is_reset(f, r)) continue;
      for (size_t i = 0; i < plan_.carried.size(); ++i) {
        const auto &to = array(plan_.carried[i]), &from = array(plan_.reset[i]);
        std::copy_n(from.data + (f.row_start + r) * from.stride, from.width, to.data + (f.row_start + r) * to.stride);
      }
    }
  }

  void reset_backward(const Frame& f, int64_t first, int64_t last) {
    if (!layout_.resets) return;
    for (int64_t r = first; r < last; ++r) {
      if (!is_reset(f, r)) continue;
      for (size_t i = 0; i < plan_.carried.size(); ++i) {
        const auto &gradient = array(plan_.carried[i]), &sum = array(plan_.reset[i]);
        T* g = gradient.data + (f.row_start + r) * gradient.stride;
        T* s = sum.data + (f.row_start + r) * sum.stride;
        for (int64_t j = 0; j < gradient.width; ++j) s[j] += g[j], g[j] = T(0);
      }
    }
  }

  // Where a reset lies among the rows of this step, the states that it took do not lie side by side: copy them together.
  bool scattered(const Frame& f) const {
    if (!layout_.resets) return false;
    return std::any_of(layout_.resets + f.offset, layout_.resets + f.offset + f.count, [](uint8_t x) { return x != 0; });
  }

  void fetch_previous(const Frame& f, int64_t first, int64_t last) {
    if (!f.scattered) return;
    for (size_t i = 0; i < plan_.storages.size(); ++i) {
      const Storage& s = plan_.storages[i];
      if (s.place != Place::previous) continue;
      const auto& fresh = array(s.fresh);
      const Rows before = unbroken(f, s);
      for (int64_t r = first; r < last; ++r) {
        const T* from =
            is_reset(f, r) ? fresh.data + (f.row_start + r) * fresh.stride : before.data + r * before.stride;
        std::copy_n(from, s.width, temp(f, i).data + r * padded(s.width));
      }
    }
  }

  const Array<T>& array(int64_t i) const { return arrays_[static_cast<size_t>(i)]; }

  struct Rows {
    T* data;
    int64_t stride;
  };

  // The states before this step where no row is reset.
  Rows unbroken(const Frame& f, const Storage& s) const {
    if (f.step == 0) return {array(s.first).data + f.row_start * array(s.first).stride, array(s.first).stride};
    const auto& tokens = array(s.array);
    const int64_t before = layout_.offsets[f.block * layout_.steps + f.step - 1];
    return {tokens.data + before * tokens.stride, tokens.stride};
  }

  Rows temp(const Frame& f, size_t storage) const {
    return {f.temp + temp_at_[storage] * f.block_rows, padded(plan_.storages[storage].width)};
  }

  Rows locate(const Frame& f, const OperandRef& ref) const {
    const Storage& s = plan_.storages[static_cast<size_t>(ref.storage)];
    const auto at = [&](const Array<T>& a, int64_t row) { return Rows{a.data + row * a.stride + ref.column, a.stride}; };
    switch (s.place) {
      case Place::temp: {
        Rows rows = temp(f, static_cast<size_t>(ref.storage));
        return {rows.data + ref.column, rows.stride};
      }
      case Place::token: return at(array(s.array), f.offset);
      case Place::previous: {
        const Rows rows = f.scattered ? temp(f, static_cast<size_t>(ref.storage)) : unbroken(f, s);
        return {rows.data + ref.column, rows.stride};
      }
      case Place::row: return at(array(s.array), f.row_start);
      case Place::vector: return {array(s.array).data + ref.column, 0};
      case Place::slot: return at(array(s.array), f.slot);
      case Place::scalar:
      case Place::none: break;
    }
    return {nullptr, 0};
  }

  Source<T> source(const Frame& f, const OperandRef& ref, int64_t row, T& constant) const {
    const Storage& s = plan_.storages[static_cast<size_t>(ref.storage)];
    if (s.place == Place::scalar) {
      constant = static_cast<T>(plan_.constants[static_cast<size_t>(s.array)]);
      return {&constant, 0, Operand::scalar};
    }
    const Rows rows = locate(f, ref);
    return {rows.data + row * rows.stride, rows.stride, ref.mode};
  }

  void product(const Frame& f, const Instruction& in, int rank, int team) const {
    const auto& w = weights_[static_cast<size_t>(in.weight)];
    const int64_t panels = (w.N + kernels_.panel - 1) / kernels_.panel;
    const auto [p0, p1] = share(panels, rank, team);
    const int64_t n0 = p0 * kernels_.panel, n1 = std::min(w.N, p1 * kernels_.panel);
    if (n0 >= n1) return;
    const Rows a = locate(f, in.a), dst = locate(f, in.dst), init = locate(f, in.b);
    kernels_.gemm(f.count, w.N, w.K, a.data, a.stride, packed_.data[static_cast<size_t>(in.weight)], init.data,
                  init.stride, dst.data, dst.stride, n0, n1);
  }

  void pointwise(const Frame& f, const Instruction& in, int64_t row, int64_t n) const {
    T ca, cb, cc;
    const Rows d = locate(f, in.dst);
    T* dst = d.data + (in.kind == Kind::column_sums ? 0 : row * d.stride);
    const Source<T> a = source(f, in.a, row, ca);
    switch (in.kind) {
      case Kind::unary:
        kernels_.unary(static_cast<Unary>(in.op), n, in.width, dst, d.stride, a, number(in.imm0), number(in.imm1));
        break;
      case Kind::binary:
        kernels_.binary(static_cast<Binary>(in.op), n, in.width, dst, d.stride, a, source(f, in.b, row, cb));
        break;
      case Kind::ternary:
        kernels_.ternary(static_cast<Ternary>(in.op), n, in.width, dst, d.stride, a, source(f, in.b, row, cb),
                         source(f, in.c, row, cc));
        break;
      case Kind::reduce:
        kernels_.reduce(static_cast<Reduce>(in.op), n, in.groups, in.width / in.groups, dst, d.stride, a.data, a.stride);
        break;
      case Kind::repeat:
        kernels_.repeat(n, in.groups, in.width / in.groups, dst, d.stride, a.data, a.stride);
        break;
      case Kind::column_sums: kernels_.column_sums(n, in.width, dst, a.data, a.stride); break;
      case Kind::product:
      case Kind::count_: break;
    }
  }

  T number(int64_t index) const {
    return index < 0 ? T(0) : static_cast<T>(plan_.constants[static_cast<size_t>(index)]);
  }

  const Plan& plan_;
  const Layout& layout_;
  const std::vector<Array<T>>& arrays_;
  const std::vector<Weight<T>>& weights_;
  const Kernels<T>& kernels_;
  std::vector<Segment> segments_;
  std::vector<int64_t> temp_at_;
  int64_t temp_width_ = 0;
  PackedWeights<T> packed_;
};

}  // namespace

void Plan::validate() const {
  const auto array_index = [&](int64_t i) { require(i >= 0 && i < arrays, "a storage names an array that is not there"); };
  for (const Storage& s : storages) {
    require(s.place >= Place::temp && s.place <= Place::none, "a storage of an unknown kind");
    require(s.width >= 0 && s.width <= kLargest, "a storage of negative or absurd width");
    if (s.place == Place::scalar) {
      require(s.array >= 0 && s.array < static_cast<int64_t>(constants.size()), "a constant that is not there");
    } else if (s.place != Place::temp && s.place != Place::none) {
      array_index(s.array);
    }
    if (s.place == Place::previous) array_index(s.first), array_index(s.fresh);
  }
  require(carried.size() == reset.size(), "as many carried arrays as reset arrays are needed");
  for (int64_t i : carried) array_index(i);
  for (int64_t i : reset) array_index(i);
  const auto operand = [&](const OperandRef& ref, int64_t width, bool optional) {
    require(ref.storage >= 0 && ref.storage < static_cast<int64_t>(storages.size()), "an operand without a storage");
    const Storage& s = storages[static_cast<size_t>(ref.storage)];
    require(optional || s.place != Place::none, "an operand is missing");
    require(s.place != Place::slot, "a sum over tokens is read while it is summed");
    if (s.place == Place::none || s.place == Place::scalar) return;
    require(ref.mode >= Operand::full && ref.mode <= Operand::scalar, "an operand of an unknown mode");
    const bool one = ref.mode == Operand::row_scalar || ref.mode == Operand::scalar;
    const int64_t reach = one ? 1 : width;
    require(reach <= s.width && ref.column >= 0 && ref.column <= s.width - reach, "an operand reaches beyond its storage");
  };
  const auto written = [&](const OperandRef& ref, int64_t width) {
    operand(ref, width, false);
    const Place place = storages[static_cast<size_t>(ref.storage)].place;
    require(place == Place::temp || place == Place::token || place == Place::row,
            "a result goes where nothing may be written");
  };
  const auto counted = [](int64_t op, auto count) { require(op >= 0 && op < static_cast<int64_t>(count), "an unknown operation"); };
  for (const Instruction& in : instructions) {
    require(in.kind >= Kind::unary && in.kind < Kind::count_, "an unknown kind of instruction");
    require(in.width >= 0 && in.width <= kLargest && in.imm0 < static_cast<int64_t>(constants.size()) &&
                in.imm1 < static_cast<int64_t>(constants.size()),
            "an instruction with a bad width or constant");
    if (in.kind == Kind::unary) counted(in.op, Unary::count_), operand(in.a, in.width, false);
    if (in.kind == Kind::binary) {
      counted(in.op, Binary::count_), operand(in.a, in.width, false), operand(in.b, in.width, false);
    }
    if (in.kind == Kind::ternary) {
      counted(in.op, Ternary::count_), operand(in.a, in.width, false), operand(in.b, in.width, false);
      operand(in.c, in.width, false);
    }
    if (in.kind == Kind::column_sums) {
      operand(in.a, in.width, false);
      require(in.dst.storage >= 0 && in.dst.storage < static_cast<int64_t>(storages.size()), "an operand without a storage");
      const Storage& sums = storages[static_cast<size_t>(in.dst.storage)];
      require(sums.place == Place::slot && in.dst.column >= 0 && in.width <= sums.width &&
                  in.dst.column <= sums.width - in.width,
              "column sums need a slot that is wide enough");
    } else if (in.kind == Kind::reduce || in.kind == Kind::repeat) {
      require(in.groups > 0 && in.width % in.groups == 0, "groups that do not divide a width");
      if (in.kind == Kind::reduce) counted(in.op, Reduce::count_);
      operand(in.a, in.kind == Kind::reduce ? in.width : in.groups, false);
      written(in.dst, in.kind == Kind::reduce ? in.groups : in.width);
    } else {
      written(in.dst, in.width);
    }
    if (in.kind == Kind::product) {
      require(in.weight >= 0 && in.weight < weights, "a product names a weight that is not there");
      operand(in.b, in.width, true);
      operand(in.a, 0, false);
      const Place place = storages[static_cast<size_t>(in.a.storage)].place;
      const bool per_row = place == Place::temp || place == Place::token || place == Place::previous || place == Place::row;
      require(per_row && in.a.mode == Operand::full, "a product takes one vector per row");
      require(storages[static_cast<size_t>(in.b.storage)].place != Place::scalar, "a product adds no scalar");
    }
  }
}

void Layout::validate() const {
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

namespace {

// Checks arrays and weights against the plan: after this no instruction can leave its memory.
template <class T>
void check(const Plan& plan, const Layout& layout, const std::vector<Array<T>>& arrays,
           const std::vector<Weight<T>>& weights, int threads) {
  require(static_cast<int64_t>(arrays.size()) == plan.arrays, "another number of arrays than the plan has");
  require(static_cast<int64_t>(weights.size()) == plan.weights, "another number of weights than the plan has");
  int64_t scratch = 0, rows = 0;
  for (const Storage& s : plan.storages) {
    if (s.place == Place::temp || s.place == Place::previous) scratch += s.width + kAlign;
  }
  for (int64_t p = 0; p < layout.blocks && layout.steps > 0; ++p) rows = std::max(rows, layout.counts[p * layout.steps]);
  require(rows == 0 || scratch <= (int64_t{1} << 36) / rows, "more scratch than any machine has");
  const auto array = [&](int64_t i, int64_t rows, int64_t width) {
    const auto& a = arrays[static_cast<size_t>(i)];
    require(a.rows >= rows && a.width >= width && (a.stride >= a.width || a.rows <= 1), "an array is too small");
  };
  for (const Storage& s : plan.storages) {
    if (s.place == Place::token || s.place == Place::previous) array(s.array, layout.tokens, s.width);
    if (s.place == Place::previous) array(s.first, layout.rows, s.width), array(s.fresh, layout.rows, s.width);
    if (s.place == Place::row) array(s.array, layout.rows, s.width);
    if (s.place == Place::vector) array(s.array, 1, s.width);
    if (s.place == Place::slot) array(s.array, std::max<int64_t>(layout.blocks, threads), s.width);
  }
  for (size_t i = 0; i < plan.carried.size(); ++i) {
    const int64_t width = arrays[static_cast<size_t>(plan.carried[i])].width;
    array(plan.carried[i], layout.rows, width), array(plan.reset[i], layout.rows, width);
    require(arrays[static_cast<size_t>(plan.reset[i])].width == width, "a reset array of another width");
  }
  for (const Instruction& in : plan.instructions) {
    if (in.kind != Kind::product) continue;
    const auto& w = weights[static_cast<size_t>(in.weight)];
    require(w.N == in.width, "a weight of another width than its product");
    const int64_t given = plan.storages[static_cast<size_t>(in.a.storage)].width;
    require(w.K <= given && in.a.column <= given - w.K, "a weight takes more than is given");
  }
}

}  // namespace

template <class T>
void execute(const Plan& plan, const Layout& layout, const std::vector<Array<T>>& arrays,
             const std::vector<Weight<T>>& weights, int threads) {
  require(threads >= 1, "at least one thread is needed");
  check(plan, layout, arrays, weights, threads);
  Runner<T>(plan, layout, arrays, weights).run(threads);
}

template void execute(const Plan&, const Layout&, const std::vector<Array<float>>&, const std::vector<Weight<float>>&, int);
template void execute(const Plan&, const Layout&, const std::vector<Array<double>>&, const std::vector<Weight<double>>&, int);

}  // namespace unspool
