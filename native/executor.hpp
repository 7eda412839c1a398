// Runs a plan, the lowered form of one step of a cell, over time and over the rows of a ragged batch.
//
// Rows are cut into blocks. The rows of a block that are live at a step are its first ones, and they lie side by side in
// every array: per valid step (at an offset per block and step) or per row. So a step of a block is a few operations on
// dense matrices, whatever the lengths are, and nothing is computed for padding. What need not be done step by step is
// done for all valid steps of a chunk, before or after its steps.
#pragma once

#include <memory>
#include <vector>

#include "plan.hpp"
#include "watch.hpp"

namespace unspool {

// Packed weights, kept from run to run of one plan by one caller at a time. A weight is packed anew where its contents
// have changed, whoever changed them.
struct Workspace {
  std::unique_ptr<char[]> memory;
  size_t bytes = 0;
  std::vector<uint64_t> digests;  // of the weights that are packed, in their order
};

// Returns 1 where a run has too little to do for several threads, else `threads`. It counts floating-point operations,
// roughly: what a pointwise operation costs counts as several.
template <class T>
int worthwhile_threads(const Plan& plan, const Layout& layout, const std::vector<Weight<T>>& weights, int threads);

// Runs the plan forward (or backward) over all steps, on up to `threads` threads: by blocks where there are several, else
// by columns of the weights; alone, where the caller is a task of the thread pool itself. Throws std::invalid_argument before
// it touches memory where shapes do not fit, and Stopped where the watch says so: what arrays hold is then of no use.
template <class T>
void execute(const Plan& plan, const Layout& layout, const std::vector<Array<T>>& arrays,
             const std::vector<Weight<T>>& weights, int threads, Workspace* kept = nullptr, Watch* watch = nullptr);

}  // namespace unspool
