#include "executor.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include "instructions.hpp"
#include "thread_pool.hpp"

namespace unspool {
namespace {

constexpr int64_t kTileBytes = 64 * 1024;    // what the results of a tile of rows may take, not all of them at once
constexpr int64_t kFewestRows = 8;           // of a tile: with fewer, calling costs more than the cache saves
constexpr int64_t kChunkBytes = 512 * 1024;  // what a chunk of steps may take: half of the second-level cache
constexpr double kWorthSharing = 4e6;        // operations; with fewer, waking another thread takes longer
constexpr int64_t kWorthPacking = 1 << 20;   // elements that several threads pack together

// Instructions that are run one after another: one product or weight's gradient, or a run of others between two of them,
// walked over in tiles of rows, so that what they hand on stays in cache.
struct Segment {
  const Instruction* begin;
  const Instruction* end;
  int64_t tile;

  bool shared_by_columns() const { return begin->kind == Kind::product || begin->kind == Kind::weight_gradient; }
};

template <class T>
class Runner : Instructions<T> {
  using Base = Instructions<T>;
  using Base::chunk_width_, Base::kernels_, Base::layout_, Base::packed_, Base::plan_, Base::temp_width_, Base::weights_;
  using Base::count, Base::few, Base::offset;

 public:
  Runner(const Plan& plan, const Layout& layout, const std::vector<Array<T>>& arrays,
         const std::vector<Weight<T>>& weights, Workspace* kept, Watch* watch)
      : Base(plan, layout, arrays, weights), kept_(kept), watch_(watch) {
    size_chunks();
    for (int phase = 0; phase < 3; ++phase) cut(static_cast<Phase>(phase));
  }

  void run(int threads) {
    if (in_task()) threads = 1;
    Borrowed<T> packed(packing_memory());
    pack(packed, threads);
    const int blocks = static_cast<int>(layout_.blocks);
    if (blocks > 1 || threads == 1) {
      const auto one = [&](int block) {
        Borrowed<T> memory(scratch());  // of the thread that runs the block
        run_block(block, {}, memory.reserve(scratch_size(block)));
      };
      parallel_for(blocks, threads, one, watch_);
    } else if (blocks == 1) {
      Borrowed<T> memory(scratch());
      T* shared = memory.reserve(scratch_size(0));
      const auto part = [&](int rank, Barrier& barrier) { run_block(0, {rank, threads, &barrier}, shared); };
      run_together(threads, part, watch_);
    }
  }

 private:
  // ---- preparation

  void size_chunks() {
    // A chunk reads and writes all gradients of weights: where they are large it pays to leave the cache for fewer chunks.
    int64_t sums = 0;
    for (const Instruction& in : plan_.instructions)
      if (in.kind == Kind::weight_gradient) sums += in.width * in.groups;
    const int64_t room = std::max(kChunkBytes / static_cast<int64_t>(sizeof(T)), sums / 4);
    const int64_t fitting = chunk_width_ ? room / chunk_width_ : kMostRows;
    chunk_tokens_ = std::clamp<int64_t>(fitting, 1, kMostRows);
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

  void pack(Borrowed<T>& memory, int threads) {
    int64_t total = 0;
    std::vector<int64_t> at;
    for (const auto& w : weights_) {
      at.push_back(total);
      if (!few(w)) total += (kernels_.packed_size(w.K, w.N) + kAlign - 1) / kAlign * kAlign;
    }
    T* base = kept_ ? kept_memory(total) : memory.reserve(total);
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

  static Scratch<T>& packing_memory() {
    thread_local Scratch<T> memory;
    return memory;
  }
  static Scratch<T>& scratch() {
    thread_local Scratch<T> memory;
    return memory;
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

  int64_t max_rows(int64_t block) const {
    return layout_.steps == 0 ? 0 : std::min(count(block, 0), kMostRows);
  }
  int64_t max_chunk(int64_t block) const { return std::max(max_rows(block), chunk_tokens_); }

  int64_t scratch_size(int64_t block) const {
    return temp_width_ * max_rows(block) + chunk_width_ * max_chunk(block);
  }

  // ---- the loop

  // Steps come in the order of computation; a row's previous valid step is at step - 1 in the same block.
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

  // Steps that fit into a chunk together, or one step: of many rows, some at a time.
  void run_chunk(Frame<T> f, int64_t steps, const Team& team) const {
    f.step = f.first_step;
    const int64_t rows = count(f.block, f.step), parts = (rows + kMostRows - 1) / kMostRows;
    if (steps > 1 || parts == 1) {
      f.count = 0;
      for (int64_t i = 0; i < steps; ++i) f.count += count(f.block, f.first_step + i);
      return run_part(f, steps, team);
    }
    for (int64_t i = 0; i < parts; ++i) {
      Frame<T> part = f;
      part.row = rows * i / parts;
      part.row_start += part.row;
      part.count = rows * (i + 1) / parts - part.row;
      run_part(part, 1, team);
    }
  }

  void run_part(Frame<T> whole, int64_t steps, const Team& team) const {
    if (watch_) watch_->look();
    whole.offset = whole.chunk_offset = offset(whole.block, whole.first_step) + whole.row;
    run_phase(Phase::before, whole, team);
    for (int64_t i = 0; i < steps; ++i) {
      Frame<T> one = whole;
      one.step = whole.first_step + (plan_.backward ? steps - 1 - i : i);
      if (steps > 1) one.count = count(one.block, one.step), one.offset = offset(one.block, one.step);
      run_phase(Phase::step, one, team);
    }
    run_phase(Phase::after, whole, team);
  }

  void run_phase(Phase phase, const Frame<T>& f, const Team& team) const {
    for (const Segment& s : segments_[static_cast<size_t>(phase)]) {
      if (s.begin->kind == Kind::product) {
        Base::product(f, *s.begin, team);
      } else if (s.begin->kind == Kind::weight_gradient) {
        Base::weight_gradient(f, *s.begin, team);
      } else {
        const auto [first, last] = team.share(f.count);
        for (int64_t r = first; r < last; r += s.tile)
          for (auto in = s.begin; in != s.end; ++in) Base::row_by_row(f, *in, r, std::min(s.tile, last - r));
      }
      team.meet();
    }
  }

  Workspace* const kept_;
  Watch* const watch_;
  std::vector<Instruction> code_[3];  // by phase
  std::vector<Segment> segments_[3];  // by phase
  int64_t chunk_tokens_ = 1;
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
             const std::vector<Weight<T>>& weights, int threads, Workspace* kept, Watch* watch) {
  check(plan, layout, arrays, weights, threads);
  Runner<T>(plan, layout, arrays, weights, kept, watch).run(threads);
}

template int worthwhile_threads(const Plan&, const Layout&, const std::vector<Weight<float>>&, int);
template int worthwhile_threads(const Plan&, const Layout&, const std::vector<Weight<double>>&, int);
template void execute(const Plan&, const Layout&, const std::vector<Array<float>>&, const std::vector<Weight<float>>&, int,
                      Workspace*, Watch*);
template void execute(const Plan&, const Layout&, const std::vector<Array<double>>&, const std::vector<Weight<double>>&,
                      int, Workspace*, Watch*);

}  // namespace unspool
