// Pointwise operations over a block of rows: one loop, the operation and the operands' modes as template arguments.
#pragma once

#include "kernels.hpp"
#include "simd.hpp"
#include "vecmath_impl.hpp"

namespace unspool {
namespace {

// An operand while one row is worked on: consecutive values, or one value in all lanes.
template <class T, bool one_value>
struct RowOperand {
  const T* row;
  Vec<T> value;

  UNSPOOL_INLINE RowOperand(const Source<T>& source, int64_t r) {
    row = source.data + r * source.stride;
    if constexpr (one_value) value = splat<T>(*row);
  }
  UNSPOOL_INLINE Vec<T> at(int64_t i) const {
    if constexpr (one_value)
      return value;
    else
      return load<T>(row + i);
  }
  UNSPOOL_INLINE Vec<T> first(int64_t i, int n) const {
    if constexpr (one_value)
      return value;
    else
      return load_first(row + i, n);
  }
};

// dst[r, i] = f(a[r, i], ...). A row's vectors are read before they are written, so dst may be an operand.
template <class T, bool... one_value, class F, class... Sources>
UNSPOOL_INLINE void for_each_vector(int64_t rows, int64_t width, T* dst, int64_t ldd, F f, const Sources&... sources) {
  for (int64_t r = 0; r < rows; ++r) {
    T* out = dst + r * ldd;
    auto one_row = [&](const RowOperand<T, one_value>&... operands) __attribute__((always_inline)) {
      int64_t i = 0;
      for (; i + lanes<T> <= width; i += lanes<T>) store<T>(out + i, f(operands.at(i)...));
      if (const int rest = int(width - i)) store_first(out + i, f(operands.first(i, rest)...), rest);
    };
    one_row(RowOperand<T, one_value>(sources, r)...);
  }
}

// vector and scalar become full and row_scalar with stride 0.
template <class T>
UNSPOOL_INLINE Source<T> normalised(Source<T> source) {
  if (source.mode == Operand::vector) return {source.data, 0, Operand::full};
  if (source.mode == Operand::scalar) return {source.data, 0, Operand::row_scalar};
  return source;
}

// True where the rows of an operand follow each other without gaps, so that the whole block is one long row.
template <class T>
UNSPOOL_INLINE bool joins(const Source<T>& source, int64_t width) {
  return source.mode == Operand::full ? source.stride == width : source.stride == 0;
}

template <class T>
struct Block {
  int64_t rows, width;
  T* dst;
  int64_t ldd;
};

template <class T, class... Sources>
UNSPOOL_INLINE Block<T> joined(Block<T> block, const Sources&... sources) {
  if (block.ldd == block.width && (joins<T>(sources, block.width) && ...))
    return {1, block.rows * block.width, block.dst, block.ldd};
  return block;
}

template <class T, class F>
UNSPOOL_INLINE void map(Block<T> block, Source<T> a, F f) {
  a = normalised(a);
  block = joined<T>(block, a);
  const auto [rows, width, dst, ldd] = block;
  if (a.mode == Operand::full)
    for_each_vector<T, false>(rows, width, dst, ldd, f, a);
  else
    for_each_vector<T, true>(rows, width, dst, ldd, f, a);
}

template <class T, class F>
UNSPOOL_INLINE void map(Block<T> block, Source<T> a, Source<T> b, F f) {
  a = normalised(a), b = normalised(b);
  block = joined<T>(block, a, b);
  const auto [rows, width, dst, ldd] = block;
  const bool a_full = a.mode == Operand::full, b_full = b.mode == Operand::full;
  if (a_full && b_full)
    for_each_vector<T, false, false>(rows, width, dst, ldd, f, a, b);
  else if (a_full)
    for_each_vector<T, false, true>(rows, width, dst, ldd, f, a, b);
  else if (b_full)
    for_each_vector<T, true, false>(rows, width, dst, ldd, f, a, b);
  else
    for_each_vector<T, true, true>(rows, width, dst, ldd, f, a, b);
}

template <class T, class F>
UNSPOOL_INLINE void map(Block<T> block, Source<T> a, Source<T> b, Source<T> c, F f) {
  a = normalised(a), b = normalised(b), c = normalised(c);
  block = joined<T>(block, a, b, c);
  const auto [rows, width, dst, ldd] = block;
  const int one_value = (a.mode != Operand::full) * 4 + (b.mode != Operand::full) * 2 + (c.mode != Operand::full);
  switch (one_value) {
    case 0: return for_each_vector<T, false, false, false>(rows, width, dst, ldd, f, a, b, c);
    case 1: return for_each_vector<T, false, false, true>(rows, width, dst, ldd, f, a, b, c);
    case 2: return for_each_vector<T, false, true, false>(rows, width, dst, ldd, f, a, b, c);
    case 3: return for_each_vector<T, false, true, true>(rows, width, dst, ldd, f, a, b, c);
    case 4: return for_each_vector<T, true, false, false>(rows, width, dst, ldd, f, a, b, c);
    case 5: return for_each_vector<T, true, false, true>(rows, width, dst, ldd, f, a, b, c);
    case 6: return for_each_vector<T, true, true, false>(rows, width, dst, ldd, f, a, b, c);
    default: return for_each_vector<T, true, true, true>(rows, width, dst, ldd, f, a, b, c);
  }
}

template <class T>
void unary(Unary op, int64_t rows, int64_t width, T* dst, int64_t ldd, Source<T> a, T imm0, T imm1) {
  using V = Vec<T>;
  const Block<T> block{rows, width, dst, ldd};
  const V zero{}, one = splat<T>(T(1));
  switch (op) {
#define UNSPOOL_UNARY(name, ...) \
  case Unary::name: return map(block, a, [=](V x) __attribute__((always_inline)) -> V { return __VA_ARGS__; });
#include "operations.def"
    case Unary::count_: break;
  }
}

template <class T>
void binary(Binary op, int64_t rows, int64_t width, T* dst, int64_t ldd, Source<T> a, Source<T> b) {
  using V = Vec<T>;
  const Block<T> block{rows, width, dst, ldd};
  const V zero{}, one = splat<T>(T(1));
  switch (op) {
#define UNSPOOL_BINARY(name, ...) \
  case Binary::name: return map(block, a, b, [=](V x, V y) __attribute__((always_inline)) -> V { return __VA_ARGS__; });
#include "operations.def"
    case Binary::count_: break;
  }
}

template <class T>
void ternary(Ternary op, int64_t rows, int64_t width, T* dst, int64_t ldd, Source<T> a, Source<T> b, Source<T> c) {
  using V = Vec<T>;
  const Block<T> block{rows, width, dst, ldd};
  const V zero{};
  switch (op) {
#define UNSPOOL_TERNARY(name, ...) \
  case Ternary::name: return map(block, a, b, c, [=](V x, V y, V z) __attribute__((always_inline)) -> V { return __VA_ARGS__; });
#include "operations.def"
    case Ternary::count_: break;
  }
}

}  // namespace
}  // namespace unspool
