// The OpenMP library that the process has loaded already, if any: in practice PyTorch's.
//
// Its threads wait for work actively. A pool of our own would compete with them for the cores after each of PyTorch's
// parallel operations (measured: runs took twice as long), so that jobs run on the same team of threads instead.
#pragma once

namespace unspool {

// True where there is such a library and this process may use it; a forked child may not, since the threads are gone.
bool has_openmp();

// Calls function(data) on the calling thread and up to threads - 1 others of OpenMP's team, and waits for all of them.
// The function must not throw.
void openmp_parallel(void (*function)(void*), void* data, int threads);

// Within openmp_parallel: how many threads there are.
int openmp_team();

}  // namespace unspool
