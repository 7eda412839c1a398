#include "executor.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include "isa.hpp"
#include "thread_pool.hpp"

namespace unspool {
namespace {

constexpr int64_t kTileBytes = 64 * 1024;    // what the results of a tile of rows may take, not all of them at once
constexpr int64_t kFewestRows = 8;           // of a tile: with fewer, calling costs more than the cache saves
constexpr int64_t kChunkBytes = 512 * 1024;  // what a chunk of tokens may take: half of the second-level cache
constexpr int64_t kChunkTokens = 256;        // more do not make products faster
constexpr int64_t kFew = 4;                  // tokens for which packing a weight does not pay
constexpr double kWorthSharing = 4e6;        // operations; with fewer, waking another thread takes longer
constexpr int64_t kWorthPacking = 1 << 20;   // elements that several threads pack together
constexpr int64_t kColumns = 32;             // parts of a weight's gradient begin at multiples of this

template <class T>
class Scratch {  // memory of one thread, kept from call to call
 public:
  T* reserve(int64_t n) {
    const int64_t line = 64 / sizeof(T);
    if (size_ < n) {
      memory_.reset(new T[static_cast<size_t>(n + line)]);
      size_ = n;
    }
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    return memory_.get() + (64 - address % 64) % 64 / sizeof(T);
  }

 private:
  std::unique_ptr<T[]> memory_;
  int64_t size_ = 0;
};

// Instructions that are run one after another: one product or weight's gradient, or a run of others between two of them,
// walked over in tiles of rows, so that what they hand on stays in cache.
struct Segment {
  const Instruction* begin;
  const Instruction* end;
  int64_t tile;

  bool shared_by_columns() const { return begin->kind == Kind::product || begin->kind == Kind::weight_gradient; }
};

// Who works on a block: one thread, or several which meet at a barrier.
struct Team {
  int rank = 0, size = 1;
  Barrier* barrier = nullptr;

  void meet() const {
    if (barrier) barrier->wait();
  }
  std::pair<int64_t, int64_t> share(int64_t n) const { return {n * rank / size, n * (rank + 1) / size}; }
};

// What instructions work on: the live rows of one step of a block, or all tokens of a chunk of its steps.
template <class T>
struct Frame {
  int64_t block, slot, row_start;
  T *temp, *chunk;
  int64_t temp_rows, chunk_rows;      // what the scratch was made for
  int64_t first_step, step;           // of the chunk, and of the frame; the first one where it is the whole chunk
  int64_t chunk_offset, offset, count;  // tokens
  bool scattered;                     // the rows' previous states do not lie side by side
};

template <class T>
class Runner {
 public:
  Runner(const Plan& plan, const Layout& layout, const std::vector<Array<T>>& arrays,
         const std::vector<Weight<T>>& weights, Workspace* kept)
      : plan_(plan), layout_(layout), arrays_(arrays), weights_(weights), kept_(kept), kernels_(kernels<T>()) {
    place();
    for (int phase = 0; phase < 3; ++phase) cut(static_cast<Phase>(phase));
  }

  void run(int threads) {
    pack(threads);
    const int blocks = static_cast<int>(layout_.blocks);
    if (blocks > 1 || threads == 1) {
      parallel_for(blocks, threads, [&](int block) { run_block(block, {}, scratch(block)); });
    } else if (blocks == 1) {
      T* shared = scratch(0);
      run_together(threads, [&](int rank, Barrier& barrier) { run_block(0, {rank, threads, &barrier}, shared); });
    }
  }

 private:
  // ---- preparation

  void place() {
    for (const Storage& s : plan_.storages) {
      const bool chunk = s.place == Place::chunk;
      scratch_at_.push_back(chunk ? chunk_width_ : temp_width_);
      if (s.place == Place::temp || s.place == Place::previous) temp_width_ += scratch_stride(s.width);
      if (chunk) chunk_width_ += scratch_stride(s.width);
    }
    // A chunk reads and writes all gradients of weights: where they are large it pays to leave the cache for fewer chunks.
    int64_t sums = 0;
    for (const Instruction& in : plan_.instructions)
      if (in.kind == Kind::weight_gradient) sums += in.width * in.groups;
    const int64_t room = std::max(kChunkBytes / static_cast<int64_t>(sizeof(T)), sums / 4);
    const int64_t fitting = chunk_width_ ? room / chunk_width_ : kChunkTokens;
    chunk_tokens_ = std::clamp<int64_t>(fitting, 1, kChunkTokens);
  }

  void cut(Phase phase) {
    auto& code = code_[static_cast<size_t>(phase)];
    std::copy_if(plan_.instructions.begin(), plan_.instructions.end(), std::back_inserter(code),
                 [&](const Instruction& in) { return in.phase == phase; });
    const Instruction* const stop = code.data() + code.size();
    for (const Instruction* in = code.data(); in != stop;) {
      Segment s{in, in + 1, 0};
      int64_t width = 1 + in->width;
      if (!s.shared_by_columns()) {
        const auto ends = [](const Instruction& i) { return i.kind == Kind::product || i.kind == Kind::weight_gradient; };
        for (; s.end != stop && !ends(*s.end); ++s.end) width += s.end->width;
      }
      // Most instructions read about as much as they write, and some of it again.
      s.tile = std::max<int64_t>(kFewestRows, kTileBytes / static_cast<int64_t>(sizeof(T)) / width);
      segments_[static_cast<size_t>(phase)].push_back(s);
      in = s.end;
    }
  }

  void pack(int threads) {
    int64_t total = 0;
    std::vector<int64_t> at;
    for (const auto& w : weights_) {
      at.push_back(total);
      if (!few(w)) total += (kernels_.packed_size(w.K, w.N) + kAlign - 1) / kAlign * kAlign;
    }
    T* base = kept_ ? kept_memory(total) : packing_memory(total);
    for (int64_t a : at) packed_.push_back(base + a);
    if (kept_) kept_->digests.resize(weights_.size());
    // Another job for all threads only where it is worth one: on a busy machine they take their time to come.
    parallel_for(static_cast<int>(weights_.size()), total < kWorthPacking ? 1 : threads, [&](int i) {
      const auto index = static_cast<size_t>(i);
      const auto& w = weights_[index];
      if (few(w) || (kept_ && is_packed(w, kept_->digests[index]))) return;
      kernels_.pack(w.data, w.stride_k, w.stride_n, w.K, w.N, packed_[index]);
    });
  }

  static T* packing_memory(int64_t total) {
    thread_local Scratch<T> memory;
    return memory.reserve(total);
  }

  T* kept_memory(int64_t total) {
    const size_t bytes = static_cast<size_t>(total) * sizeof(T) + 64;
    if (kept_->bytes != bytes) {
      kept_->memory.reset(new char[bytes]);
      kept_->bytes = bytes;
      kept_->digests.clear();  // zero means: never packed
    }
    char* start = kept_->memory.get();
    return reinterpret_cast<T*>(start + (64 - reinterpret_cast<uintptr_t>(start) % 64) % 64);
  }

  // Notes what the weight holds now, and tells whether it is what was packed. Both ways a weight's rows or its columns
  // lie side by side; any other form is packed each time.
  bool is_packed(const Weight<T>& w, uint64_t& known) const {
    const bool rows = w.stride_n == 1;
    if (!rows && w.stride_k != 1) return false;
    const uint64_t now = kernels_.digest(w.data, rows ? w.K : w.N, rows ? w.N : w.K, rows ? w.stride_k : w.stride_n);
    return std::exchange(known, now) == now;
  }

  bool few(const Weight<T>& w) const { return layout_.tokens < kFew && w.stride_k == 1; }

  int64_t count(int64_t block, int64_t step) const { return layout_.counts[block * layout_.steps + step]; }
  int64_t offset(int64_t block, int64_t step) const { return layout_.offsets[block * layout_.steps + step]; }
  int64_t max_rows(int64_t block) const { return layout_.steps == 0 ? 0 : count(block, 0); }
  int64_t max_chunk(int64_t block) const { return std::max(max_rows(block), chunk_tokens_); }

  T* scratch(int64_t block) const {
    thread_local Scratch<T> memory;
    return memory.reserve(temp_width_ * max_rows(block) + chunk_width_ * max_chunk(block));
  }

  // ---- the loop

  // Steps come in the order of computation; a row's previous token is at step - 1 in the same block.
  void run_block(int64_t block, const Team& team, T* memory) const {
    int64_t live = 0;
    while (live < layout_.steps && count(block, live) > 0) ++live;
    Frame<T> f{};
    f.block = block, f.slot = team.size > 1 ? team.rank : block, f.row_start = layout_.row_start[block];
    f.temp_rows = max_rows(block), f.chunk_rows = max_chunk(block);
    f.temp = memory, f.chunk = memory + temp_width_ * f.temp_rows;
    for (int64_t done = 0; done < live;) {
      const int64_t steps = plan_.backward ? chunk_backward(block, live - done) : chunk_forward(block, done, live);
      f.first_step = plan_.backward ? live - done - steps : done;
      run_chunk(f, steps, team);
      done += steps;
    }
  }

  // Number of steps from `first` on, or up to `last`, whose tokens fit into a chunk: at least one.
  int64_t chunk_forward(int64_t block, int64_t first, int64_t live) const {
    int64_t tokens = count(block, first), steps = 1;
    while (first + steps < live && (tokens += count(block, first + steps)) <= chunk_tokens_) ++steps;
    return steps;
  }
  int64_t chunk_backward(int64_t block, int64_t last) const {
    int64_t tokens = count(block, last - 1), steps = 1;
    while (steps < last && (tokens += count(block, last - 1 - steps)) <= chunk_tokens_) ++steps;
    return steps;
  }

  void run_chunk(Frame<T> f, int64_t steps, const Team& team) const {
    Frame<T> whole = f;
    whole.step = f.first_step, whole.offset = whole.chunk_offset = offset(f.block, f.first_step), whole.count = 0;
    for (int64_t i = 0; i < steps; ++i) whole.count += count(f.block, f.first_step + i);
    run_phase(Phase::before, whole, team);
    for (int64_t i = 0; i < steps; ++i) {
      Frame<T> one = whole;
      one.step = f.first_step + (plan_.backward ? steps - 1 - i : i);
      one.count = count(f.block, one.step), one.offset = offset(f.block, one.step);
      one.scattered = scattered(one);
      run_step(one, team);
    }
    run_phase(Phase::after, whole, team);
  }

  void run_step(const Frame<T>& f, const Team& team) const {
    const auto [first, last] = team.share(f.count);
    if (!plan_.backward) reset_forward(f, first, last);
    if (f.scattered) gather_previous(f, first, last);
    if (layout_.resets) team.meet();
    run_phase(Phase::step, f, team);
    if (plan_.backward && layout_.resets) reset_backward(f, first, last), team.meet();
  }

  void run_phase(Phase phase, const Frame<T>& f, const Team& team) const {
    for (const Segment& s : segments_[static_cast<size_t>(phase)]) {
      if (s.begin->kind == Kind::product) {
        product(f, *s.begin, team);
      } else if (s.begin->kind == Kind::weight_gradient) {
        weight_gradient(f, *s.begin, team);
      } else {
        const auto [first, last] = team.share(f.count);
        for (int64_t r = first; r < last; r += s.tile)
          for (auto in = s.begin; in != s.end; ++in) row_by_row(f, *in, r, std::min(s.tile, last - r));
      }
      team.meet();
    }
  }

  // ---- resets

  bool is_reset(int64_t token) const { return layout_.resets && layout_.resets[token]; }

  bool scattered(const Frame<T>& f) const {
    if (!layout_.resets) return false;
    return std::any_of(layout_.resets + f.offset, layout_.resets + f.offset + f.count, [](uint8_t x) { return x != 0; });
  }

  void reset_forward(const Frame<T>& f, int64_t first, int64_t last) const {
    for (int64_t r = first; f.scattered && r < last; ++r) {
      if (!is_reset(f.offset + r)) continue;
      for (size_t i = 0; i < plan_.carried.size(); ++i) {
        const auto &to = array(plan_.carried[i]), &from = array(plan_.reset[i]);
        std::copy_n(from.data + (f.row_start + r) * from.stride, from.width, to.data + (f.row_start + r) * to.stride);
      }
    }
  }

  void reset_backward(const Frame<T>& f, int64_t first, int64_t last) const {
    for (int64_t r = first; f.scattered && r < last; ++r) {
      if (!is_reset(f.offset + r)) continue;
      for (size_t i = 0; i < plan_.carried.size(); ++i) {
        const auto &gradient = array(plan_.carried[i]), &sum = array(plan_.reset[i]);
        T* g = gradient.data + (f.row_start + r) * gradient.stride;
        T* s = sum.data + (f.row_start + r) * sum.stride;
        for (int64_t j = 0; j < gradient.width; ++j) s[j] += g[j], g[j] = T(0);
      }
    }
  }

  // Where a reset lies among the rows of a step, the states that they took do not lie side by side: copy them together.
  void gather_previous(const Frame<T>& f, int64_t first, int64_t last) const {
    for (size_t i = 0; i < plan_.storages.size(); ++i) {
      const Storage& s = plan_.storages[i];
      if (s.place != Place::previous) continue;
      const Rows to = in_scratch(f.temp, f.temp_rows, i);
      for (int64_t r = first; r < last; ++r)
        std::copy_n(previous(f, s, f.step, r), s.width, to.data + r * to.stride);
    }
  }

  // ---- where things lie

  const Array<T>& array(int64_t i) const { return arrays_[static_cast<size_t>(i)]; }

  struct Rows {
    T* data;
    int64_t stride;
  };

  T* padded(const Storage& s, int64_t token) const {
    const auto& a = array(s.array);
    return a.data + layout_.times[token] * a.stride + layout_.sequences[token] * a.sequence_stride;
  }

  // The state that row r of the block took at a step.
  const T* previous(const Frame<T>& f, const Storage& s, int64_t step, int64_t r) const {
    const bool reset = is_reset(offset(f.block, step) + r);
    if (reset || step == 0) {
      const auto& from = array(reset ? s.fresh : s.first);
      return from.data + (f.row_start + r) * from.stride;
    }
    const int64_t token = offset(f.block, step - 1) + r;
    return s.place == Place::previous ? array(s.array).data + token * array(s.array).stride : padded(s, token);
  }

  Rows in_scratch(T* memory, int64_t rows, size_t storage) const {
    return {memory + scratch_at_[storage] * rows, scratch_stride(plan_.storages[storage].width)};
  }

  Rows locate(const Frame<T>& f, const OperandRef& ref) const {
    const auto index = static_cast<size_t>(ref.storage);
    const Storage& s = plan_.storages[index];
    const auto at = [&](const Array<T>& a, int64_t row) { return Rows{a.data + row * a.stride + ref.column, a.stride}; };
    switch (s.place) {
      case Place::temp: {
        const Rows rows = in_scratch(f.temp, f.temp_rows, index);
        return {rows.data + ref.column, rows.stride};
      }
      case Place::chunk: {
        const Rows rows = in_scratch(f.chunk, f.chunk_rows, index);
        return {rows.data + (f.offset - f.chunk_offset) * rows.stride + ref.column, rows.stride};
      }
      case Place::previous:
        if (f.scattered) {
          const Rows rows = in_scratch(f.temp, f.temp_rows, index);
          return {rows.data + ref.column, rows.stride};
        }
        return f.step == 0 ? at(array(s.first), f.row_start) : at(array(s.array), offset(f.block, f.step - 1));
      case Place::token: return at(array(s.array), f.offset);
      case Place::row: return at(array(s.array), f.row_start);
      case Place::vector: return {array(s.array).data + ref.column, 0};
      case Place::slot: return at(array(s.array), f.slot);
      default: return {nullptr, 0};
    }
  }

  Source<T> source(const Frame<T>& f, const OperandRef& ref, int64_t row, T& constant) const {
    const Storage& s = plan_.storages[static_cast<size_t>(ref.storage)];
    if (s.place == Place::scalar) {
      constant = number(s.array);
      return {&constant, 0, Operand::scalar};
    }
    const Rows rows = locate(f, ref);
    return {rows.data + row * rows.stride, rows.stride, ref.mode};
  }

  T number(int64_t index) const {
    return index < 0 ? T(0) : static_cast<T>(plan_.constants[static_cast<size_t>(index)]);
  }

  // ---- instructions

  void product(const Frame<T>& f, const Instruction& in, const Team& team) const {
    const auto& w = weights_[static_cast<size_t>(in.weight)];
    const auto [p0, p1] = team.share((w.N + kernels_.panel - 1) / kernels_.panel);
    const int64_t n0 = p0 * kernels_.panel, n1 = std::min(w.N, p1 * kernels_.panel);
    if (n0 >= n1) return;
    const Rows a = locate(f, in.a), dst = locate(f, in.dst), init = locate(f, in.b);
    if (few(w)) {
      return kernels_.gemm_few(f.count, w.K, a.data, a.stride, w.data, w.stride_n, init.data, init.stride, dst.data,
                               dst.stride, n0, n1);
    }
    kernels_.gemm(f.count, w.N, w.K, a.data, a.stride, packed_[static_cast<size_t>(in.weight)], init.data, init.stride,
                  dst.data, dst.stride, n0, n1);
  }

  void weight_gradient(const Frame<T>& f, const Instruction& in, const Team& team) const {
    const auto [u0, u1] = team.share((in.width + kColumns - 1) / kColumns);
    const int64_t m0 = u0 * kColumns, m1 = std::min(in.width, u1 * kColumns);
    if (m0 >= m1 || in.groups == 0) return;
    const Rows a = locate(f, in.a), b = locate(f, in.b);
    const auto& sums = array(plan_.storages[static_cast<size_t>(in.dst.storage)].array);
    thread_local Scratch<T> memory;
    kernels_.gemm_tn(m1 - m0, in.groups, f.count, a.data + m0, a.stride, b.data, b.stride,
                     sums.data + f.block * sums.stride + in.dst.column + m0 * in.groups, in.groups, true,
                     memory.reserve(kernels_.gemm_tn_scratch(m1 - m0, in.groups, f.count)));
  }

  void row_by_row(const Frame<T>& f, const Instruction& in, int64_t row, int64_t n) const {
    if (in.kind == Kind::fetch) return fetch(f, in, row, n);
    if (in.kind == Kind::store) return store(f, in, row, n);
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
      default: break;
    }
  }

  void fetch(const Frame<T>& f, const Instruction& in, int64_t row, int64_t n) const {
    const Storage& s = plan_.storages[static_cast<size_t>(in.a.storage)];
    const Rows to = locate(f, in.dst);
    int64_t step = f.step, before = 0;  // tokens of the frame before this step
    for (int64_t r = row; r < row + n; ++r) {
      while (r - before >= count(f.block, step)) before += count(f.block, step++);
      const T* from = s.place == Place::padded ? padded(s, f.offset + r)
                      : s.place == Place::row
                          ? array(s.array).data + (f.row_start + r - before) * array(s.array).stride
                          : previous(f, s, step, r - before);
      std::copy_n(from + in.a.column, in.width, to.data + r * to.stride);
    }
  }

  void store(const Frame<T>& f, const Instruction& in, int64_t row, int64_t n) const {
    const Storage& s = plan_.storages[static_cast<size_t>(in.dst.storage)];
    const Rows from = locate(f, in.a);
    for (int64_t r = row; r < row + n; ++r)
      std::copy_n(from.data + r * from.stride, in.width, padded(s, f.offset + r) + in.dst.column);
  }

  const Plan& plan_;
  const Layout& layout_;
  const std::vector<Array<T>>& arrays_;
  const std::vector<Weight<T>>& weights_;
  Workspace* const kept_;
  const Kernels<T>& kernels_;
  std::vector<Instruction> code_[3];     // by phase
  std::vector<Segment> segments_[3];     // by phase
  std::vector<int64_t> scratch_at_;      // of each storage, in elements per row
  int64_t temp_width_ = 0, chunk_width_ = 0, chunk_tokens_ = 1;
  std::vector<T*> packed_;
};

}  // namespace

template <class T>
int worthwhile_threads(const Plan& plan, const Layout& layout, const std::vector<Weight<T>>& weights, int threads) {
  double per_token = 0;
  for (const auto& w : weights) per_token += 2.0 * static_cast<double>(w.K) * static_cast<double>(w.N);
  for (const Instruction& in : plan.instructions) per_token += 8.0 * static_cast<double>(in.width);
  return per_token * static_cast<double>(layout.tokens) < kWorthSharing ? std::min(threads, 1) : threads;
}

template <class T>
void execute(const Plan& plan, const Layout& layout, const std::vector<Array<T>>& arrays,
             const std::vector<Weight<T>>& weights, int threads, Workspace* kept) {
  check(plan, layout, arrays, weights, threads);
  Runner<T>(plan, layout, arrays, weights, kept).run(threads);
}

template int worthwhile_threads(const Plan&, const Layout&, const std::vector<Weight<float>>&, int);
template int worthwhile_threads(const Plan&, const Layout&, const std::vector<Weight<double>>&, int);
template void execute(const Plan&, const Layout&, const std::vector<Array<float>>&, const std::vector<Weight<float>>&, int,
                      Workspace*);
template void execute(const Plan&, const Layout&, const std::vector<Array<double>>&, const std::vector<Weight<double>>&,
                      int, Workspace*);

}  // namespace unspool
