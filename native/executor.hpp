// Runs a plan, the lowered form of one step of a cell, over time and over the rows of a ragged batch.
//
// Rows are cut into blocks. The rows of a block that are live at a step are its first ones, and they lie side by side in
// every array: per token (at an offset per block and step) or per row. So a step of a block is a few operations on
// dense matrices, whatever the lengths are, and nothing is computed for padding.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.hpp"

namespace unspool {

// Where a value of the plan lives.
enum class Place : int64_t {
  temp,      // scratch of the block, one row per live row
  token,     // an array with one row per token, at the block's offset for this step
  previous,  // the same at each row's previous token; before a row's first token, or after a reset, other arrays
  row,       // an array with one row per row of the batch
  vector,    // an array with one row
  slot,      // an array with one row per block, or per thread where threads share a block: sums over tokens
  scalar,    // a constant of the plan
  none,      // an operand that is not there
};

struct Storage {
  Place place;
  int64_t array;  // index of the array, or of the constant; for temp not used
  int64_t width;
  int64_t first, fresh;  // for previous: arrays with one row per row, the state before the first token and after a reset
};

struct OperandRef {
  int64_t storage;
  int64_t column;
  Operand mode;
};

enum class Kind : int64_t { unary, binary, ternary, reduce, repeat, product, column_sums, count_ };

struct Instruction {
  Kind kind;
  int64_t op;
  OperandRef dst;
  int64_t width;   // of dst; for column_sums of the operand
  int64_t groups;  // reduce: dst features; repeat: operand features
  OperandRef a, b, c;
  int64_t weight;  // product
  int64_t imm0, imm1;  // constants
};

struct Plan {
  std::vector<Storage> storages;
  std::vector<Instruction> instructions;
  std::vector<double> constants;
  // For each state: the carried array (one row per row), and the array that a reset copies from (forward) or adds to
  // (backward).
  std::vector<int64_t> carried, reset;
  int64_t weights = 0;
  int64_t arrays = 0;
  bool backward = false;

  // Throws std::invalid_argument where an index or a width does not fit.
  void validate() const;
};

template <class T>
struct Array {
  T* data;
  int64_t rows, width, stride;
};

template <class T>
struct Weight {  // W[K, N], element (k, n) at data[k * stride_k + n * stride_n]
  const T* data;
  int64_t K, N, stride_k, stride_n;
};

struct Layout {
  int64_t steps, blocks, tokens, rows;
  const int64_t* row_start;  // [blocks]
  const int64_t* counts;     // [blocks, steps], not growing from step to step
  const int64_t* offsets;    // [blocks, steps]
  const uint8_t* resets;     // [tokens] or null

  // Throws std::invalid_argument where a block leaves the tokens or rows, or its live rows grow in number.
  void validate() const;
};

// Runs the plan forward (or backward) over all steps, on up to `threads` threads: by blocks where there are several, else
// by columns of the weights. Throws std::invalid_argument before it touches memory where shapes do not fit.
template <class T>
void execute(const Plan& plan, const Layout& layout, const std::vector<Array<T>>& arrays,
             const std::vector<Weight<T>>& weights, int threads);

}  // namespace unspool
