// Large products outside of the time loop: over all tokens at once, split over threads.
#pragma once

#include <cstdint>

#include "executor.hpp"

namespace unspool {

// out[M, N] = init + x[M, K] W: W packed once, rows taken in portions that stay in cache. init has no rows (zero), one row
// for all, or M rows. Throws std::invalid_argument where shapes do not fit.
template <class T>
void multiply(const Array<T>& x, const Weight<T>& weight, const Array<T>& init, const Array<T>& out, int threads);

// out[M, N] = a[R, M]^T b[R, N]: what a weight's gradient is. Split over the columns of a.
template <class T>
void multiply_transposed(const Array<T>& a, const Array<T>& b, const Array<T>& out, int threads);

}  // namespace unspool
