// Plans and layouts: what the executor runs, and over which valid steps. Both come as tables from outside and are checked.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.hpp"

namespace unspool {

// Where a value of the plan lives.
UNSPOOL_ENUM(Place, int64_t,
  temp,             // scratch of the block, one row per live row
  token,            // an array with one row per valid step, at the block's offset for this step
  previous,         // the same at each row's previous valid step; before its first one, another array
  row,              // an array with one row per row of the batch
  vector,           // an array with one row
  slot,             // an array with one row per block, or per thread where threads share a block: sums over valid steps
  scalar,           // a constant of the plan
  none,             // an operand that is not there
  chunk,            // scratch of the block, one row per valid step of the chunk
  padded,           // an array of the user's: valid step i stands at its time and sequence; only fetched from and stored to
  padded_previous  // the same at each row's previous valid step, as for previous; only fetched from
)

struct Storage {
  Place place;
  int64_t array;  // index of the array, or of the constant; for temp and chunk not used
  int64_t width;
  int64_t first;  // for previous: the array with one row per row, the state before the row's first valid step
};

struct OperandRef {
  int64_t storage;
  int64_t column;
  Operand mode;
};

UNSPOOL_ENUM(Kind, int64_t,
  unary,
  binary,
  ternary,
  reduce,
  repeat,
  product,
  column_sums,
  fetch,            // a padded or previous storage into scratch
  store,            // scratch into a padded storage
  weight_gradient,  // slot [a's width, b's width] += a^T b over the valid steps of a chunk
  gather,           // features in the order of a table of indices
  scatter           // the same backwards: features are added up where a table of indices says
)

// Steps are run in chunks, so that what a step hands to the work on all of the chunk's valid steps is still in cache.
UNSPOOL_ENUM(Phase, int64_t, step, before, after)

struct Instruction {
  Kind kind;
  int64_t op;
  OperandRef dst;
  int64_t width;   // of dst; for column_sums and weight_gradient of a
  int64_t groups;  // reduce: dst features; repeat, gather, scatter: operand features; weight_gradient: features of b
  OperandRef a, b, c;
  int64_t weight;  // product; for gather and scatter where its indices begin
  int64_t imm0, imm1;  // constants
  Phase phase = Phase::step;
};

struct Plan {
  std::vector<Storage> storages;
  std::vector<Instruction> instructions;
  std::vector<double> constants;
  std::vector<int64_t> indices;
  int64_t weights = 0;
  int64_t arrays = 0;
  bool backward = false;

  // Throws std::invalid_argument where an index or a width does not fit.
  void validate() const;
};

template <class T>
struct Array {  // [rows, width]; where it is padded, [rows, sequences, width]
  T* data;
  int64_t rows, width, stride;
  int64_t sequences = 0, sequence_stride = 0;
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
  const int64_t* offsets;    // [blocks, steps]; with chunks, each block's valid steps follow each other
  // Where valid steps stand along the first two axes of padded arrays, each [tokens]; null where no plan uses such arrays.
  // An array that holds rows of different lengths one after another is one sequence, in which each row has its start.
  const int64_t* times = nullptr;
  const int64_t* sequences = nullptr;

  // Throws std::invalid_argument where a block leaves the tokens or rows, or its live rows grow in number.
  void validate() const;
};

// Throws std::invalid_argument where a plan, a layout, arrays and weights do not fit together. After this no instruction
// can leave its memory.
template <class T>
void check(const Plan& plan, const Layout& layout, const std::vector<Array<T>>& arrays,
           const std::vector<Weight<T>>& weights, int threads);

constexpr int64_t kMostRows = 256;  // that are worked on at once: more do not make products faster
constexpr int64_t kAlign = 16;  // elements between rows of scratch are multiples of this

// Elements between rows of scratch: an odd number of cache lines, since rows at distances of a power of two would evict
// each other from the first-level cache.
constexpr int64_t scratch_stride(int64_t width) { return ((width + kAlign - 1) / kAlign | 1) * kAlign; }

}  // namespace unspool
