// Jobs on several threads: those of the OpenMP library that PyTorch has loaded, else a pool that waits between jobs
// instead of ending. And a barrier for threads that work on one matrix
// together.
#pragma once

#include <atomic>
#include <exception>
#include <stdexcept>

#include "watch.hpp"

namespace unspool {

// What Barrier::wait throws in the other threads once one thread of the group has failed.
struct BrokenBarrier : std::runtime_error {
  BrokenBarrier() : std::runtime_error("another thread of the group failed") {}
};

// All threads of a group wait for each other; what each wrote before is visible to all after. It spins first, because
// the work between two barriers takes microseconds.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}
  void wait();
  // Wakes everybody; wait() throws from now on.
  void break_up();

 private:
  const int threads_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> phase_{0};
  std::atomic<bool> broken_{false};
};

// Runs task(0) .. task(tasks - 1), each once, on the calling thread and up to threads - 1 others. Tasks must not wait
// for each other: where the pool is busy with another caller, or the caller is a task itself, the caller runs all of
// them alone. The first exception of a task is thrown here; tasks not begun by then are dropped. A caller that has no task
// left looks at the watch while it waits for the others.
void parallel_for(int tasks, int threads, FunctionRef<void(int)> task, Watch* watch = nullptr);

// Runs body(0, barrier) .. body(threads - 1, barrier) at the same time, each on a thread of its own, so that they may
// wait at the barrier. Waits while the pool is busy with another caller, and looks at the watch meanwhile; throws
// std::logic_error where the caller is a task itself.
void run_together(int threads, FunctionRef<void(int, Barrier&)> body, Watch* watch = nullptr);

// Whether the calling thread is in the middle of a task.
bool in_task();

}  // namespace unspool
