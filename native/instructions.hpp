// One instruction of a plan on some rows: where its operands lie, and which kernel does it.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "isa.hpp"
#include "plan.hpp"
#include "thread_pool.hpp"

namespace unspool {

constexpr int64_t kFew = 48;      // valid steps for which packing a weight does not pay
constexpr int64_t kColumns = 32;  // parts of a weight's gradient begin at multiples of this

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

// The memory of this thread for the duration of a run. Another run may begin within this one, where a watch is asked, and
// has memory of its own.
template <class T>
class Borrowed {
 public:
  explicit Borrowed(Scratch<T>& home) : home_(home) { std::swap(home_, memory_); }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  ~Borrowed() { std::swap(home_, memory_); }

  T* reserve(int64_t n) { return memory_.reserve(n); }

 private:
  Scratch<T>& home_;
  Scratch<T> memory_;
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

// What instructions work on: live rows of one step of a block, or all valid steps of a chunk of it.
template <class T>
struct Frame {
  int64_t block, slot;
  int64_t row, row_start;               // where the frame's rows begin in the block, and in arrays of all rows
  T *temp, *chunk;
  int64_t temp_rows, chunk_rows;        // what the scratch was made for
  int64_t first_step, step;             // of the chunk, and of the frame; the first one where it is the whole chunk
  int64_t chunk_offset, offset, count;  // valid steps
};

// What a run works on, and the instructions on it.
template <class T>
class Instructions {
 public:
  Instructions(const Plan& plan, const Layout& layout, const std::vector<Array<T>>& arrays,
               const std::vector<Weight<T>>& weights)
      : plan_(plan), layout_(layout), arrays_(arrays), weights_(weights), kernels_(kernels<T>()) {
    for (const Storage& s : plan_.storages) {
      const bool chunk = s.place == Place::chunk;
      scratch_at_.push_back(chunk ? chunk_width_ : temp_width_);
      if (s.place == Place::temp) temp_width_ += scratch_stride(s.width);
      if (chunk) chunk_width_ += scratch_stride(s.width);
    }
  }

 protected:
  int64_t count(int64_t block, int64_t step) const { return layout_.counts[block * layout_.steps + step]; }
  int64_t offset(int64_t block, int64_t step) const { return layout_.offsets[block * layout_.steps + step]; }

  bool few(const Weight<T>& w) const { return layout_.tokens < kFew && w.stride_k == 1; }

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
    if (step == 0) return array(s.first).data + (f.row_start + r) * array(s.first).stride;
    const int64_t token = offset(f.block, step - 1) + f.row + r;
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
        return f.step == 0 ? at(array(s.first), f.row_start) : at(array(s.array), offset(f.block, f.step - 1) + f.row);
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

  const int64_t* indices(const Instruction& in) const { return plan_.indices.data() + in.weight; }

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
      case Kind::gather: kernels_.gather(n, in.width, dst, d.stride, a.data, a.stride, indices(in)); break;
      case Kind::scatter:
        kernels_.scatter(n, in.width, in.groups, dst, d.stride, a.data, a.stride, indices(in));
        break;
      default: break;
    }
  }

  void fetch(const Frame<T>& f, const Instruction& in, int64_t row, int64_t n) const {
    const Storage& s = plan_.storages[static_cast<size_t>(in.a.storage)];
    const Rows to = locate(f, in.dst);
    int64_t step = f.step, before = 0;  // valid steps of the frame before this step
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
  const Kernels<T>& kernels_;
  std::vector<T*> packed_;           // weights
  std::vector<int64_t> scratch_at_;  // of each storage, in elements per row
  int64_t temp_width_ = 0, chunk_width_ = 0;
};

}  // namespace unspool
