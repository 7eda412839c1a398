#include "thread_pool.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "openmp.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace unspool {
namespace {

// How long a thread that waits keeps its core before it sleeps. Within a run the next job comes after microseconds;
// waking a sleeping thread costs tens of them.
constexpr auto spin_time = std::chrono::microseconds(50);
// The same for a caller that waits for the last tasks: these end soon, and the run with them.
constexpr auto last_spin_time = std::chrono::milliseconds(1);

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until `value` is no longer `old`.
void wait_while(const std::atomic<int>& value, int old) {
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 64; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      pause();
    }
  } while (std::chrono::steady_clock::now() - start < spin_time);
  value.wait(old, std::memory_order_acquire);
}

thread_local bool inside_task = false;

class Pool {
 public:
  using Lock = std::unique_lock<std::timed_mutex>;

  // Null where the pool is busy.
  Lock try_acquire() { return Lock(mutex_, std::try_to_lock); }

  // Waits while the pool is busy, and keeps the watch.
  Lock acquire(Watch* watch) {
    if (!watch) return Lock(mutex_);
    Lock lock(mutex_, Watch::interval);
    while (!lock) {
      watch->look();
      lock = Lock(mutex_, Watch::interval);
    }
    return lock;
  }

  // Starts threads until there are `wanted`, the caller not counted; throws std::system_error where the system refuses.
  void grow(int wanted) {
    // Signals are for the application's threads: Python handles them on its main thread only.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (; workers_ < wanted; ++workers_) std::thread([this] { work(); }).detach();
    } catch (...) {
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      throw;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  int workers() const { return workers_; }

  // Runs the tasks on the calling thread and `helpers` others. The caller holds the lock, and grow() has made as many.
  void run(int tasks, int helpers, FunctionRef<void(int)> task, Watch* watch) {
    begin(tasks, task, watch);
    open_.store(helpers, std::memory_order_release);
    if (helpers > 1)
      open_.notify_all();
    else
      open_.notify_one();
    take_tasks();
    // All tasks are taken: nobody else needs to come, and those who came must leave before this job's fields change.
    const int came = helpers - open_.exchange(0, std::memory_order_acq_rel);
    for (int done; (done = finished_.load(std::memory_order_acquire)) != came;) wait_while(finished_, done);
    end();
  }

  // The same on OpenMP's team. False, and nothing is run, where it has fewer than `least` threads for us.
  bool run_on_openmp(int tasks, int threads, int least, FunctionRef<void(int)> task, Watch* watch) {
    begin(tasks, task, watch);
    struct Job {
      Pool* pool;
      int least;
      std::atomic<bool> short_of_threads{false};
    } job{this, least};
    openmp_parallel(
        [](void* data) {
          Job& its = *static_cast<Job*>(data);
          if (openmp_team() >= its.least)
            its.pool->take_tasks();
          else
            its.short_of_threads.store(true, std::memory_order_relaxed);
        },
        &job, threads);
    end();
    return !job.short_of_threads.load(std::memory_order_relaxed);
  }

 private:
  void begin(int tasks, FunctionRef<void(int)>& task, Watch* watch) {
    task_ = &task;
    watch_ = watch;
    tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    finished_.store(0, std::memory_order_relaxed);
    working_.store(0, std::memory_order_relaxed);
    failed_.store(false, std::memory_order_relaxed);
    error_ = nullptr;
  }

  void end() {
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  void take_tasks() {
    inside_task = true;
    working_.fetch_add(1, std::memory_order_relaxed);
    // Who finds no task left also sees who has taken the others, and is working.
    for (int i;
         !failed_.load(std::memory_order_relaxed) && (i = next_.fetch_add(1, std::memory_order_acq_rel)) < tasks_;) {
      attempt([&] { (*task_)(i); });
    }
    const bool last = working_.fetch_sub(1, std::memory_order_acq_rel) == 1;
    if (watch_ && watch_->is_mine()) {
      attempt([&] { watch_others(); });
    } else if (watch_ && last) {
      const std::lock_guard lock(waiting_);  // or the caller might begin to wait just after it was told
      all_done_.notify_one();
    }
    inside_task = false;
  }

  template <class F>
  void attempt(F&& body) {
    try {
      body();
    } catch (...) {
      if (!failed_.exchange(true)) error_ = std::current_exception();
    }
  }

  // The caller waits for the tasks of the others, and keeps its watch.
  void watch_others() {
    const auto start = std::chrono::steady_clock::now();
    const auto done = [&] { return working_.load(std::memory_order_acquire) == 0; };
    while (!done()) {
      if (std::chrono::steady_clock::now() - start < last_spin_time) {
        for (int i = 0; i < 64 && !done(); ++i) pause();
        continue;
      }
      {
        std::unique_lock lock(waiting_);
        all_done_.wait_for(lock, Watch::interval, done);
      }
      watch_->look();
    }
  }

  [[noreturn]] void work() {
    for (;;) {
      int open = open_.load(std::memory_order_relaxed);
      if (open == 0) {
        wait_while(open_, 0);
        continue;
      }
      // The fields of the job are read only after a place in it is taken: until finished_ counts it, they stay.
      if (!open_.compare_exchange_weak(open, open - 1, std::memory_order_acq_rel)) continue;
      take_tasks();
      finished_.fetch_add(1, std::memory_order_release);
      finished_.notify_one();
    }
  }

  std::timed_mutex mutex_;
  int workers_ = 0;
  FunctionRef<void(int)>* task_ = nullptr;
  int tasks_ = 0;
  Watch* watch_ = nullptr;
  std::exception_ptr error_;
  std::mutex waiting_;
  std::condition_variable all_done_;
  std::atomic<bool> failed_{false};
  alignas(64) std::atomic<int> open_{0};      // places left for workers in the current job
  alignas(64) std::atomic<int> next_{0};      // the next task
  alignas(64) std::atomic<int> finished_{0};  // workers that have left the current job
  alignas(64) std::atomic<int> working_{0};   // threads that may be in the middle of a task
};

std::atomic<Pool*> the_pool{nullptr};

// Never deleted. Its threads sleep until the process ends and end with it; to join them at exit would hang where the
// process exits in the middle of a job, or where a static destructor still wants the pool.
Pool& pool() {
  Pool* existing = the_pool.load(std::memory_order_acquire);
  if (existing) return *existing;
  // Threads do not survive fork(), nor does the state of a lock that another thread held: the child starts anew.
  static const int registered = pthread_atfork(nullptr, nullptr, [] {
    the_pool.store(nullptr);
    inside_task = false;
  });
  static_cast<void>(registered);
  Pool* fresh = new Pool;
  if (the_pool.compare_exchange_strong(existing, fresh)) return *fresh;
  delete fresh;
  return *existing;
}

}  // namespace

bool in_task() { return inside_task; }

void Barrier::wait() {
  const int phase = phase_.load(std::memory_order_acquire);
  if (broken_.load(std::memory_order_acquire)) throw BrokenBarrier();
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.fetch_add(1, std::memory_order_release);
    phase_.notify_all();
  } else {
    wait_while(phase_, phase);
  }
  if (broken_.load(std::memory_order_acquire)) throw BrokenBarrier();
}

void Barrier::break_up() {
  broken_.store(true, std::memory_order_release);
  phase_.fetch_add(1, std::memory_order_release);
  phase_.notify_all();
}

void parallel_for(int tasks, int threads, FunctionRef<void(int)> task, Watch* watch) {
  const int helpers = std::min(tasks, threads) - 1;
  if (helpers > 0 && !inside_task) {
    Pool& shared = pool();
    if (const auto lock = shared.try_acquire()) {
      if (has_openmp() && shared.run_on_openmp(tasks, helpers + 1, 1, task, watch)) return;
      try {
        shared.grow(helpers);
      } catch (const std::system_error&) {
        // Fewer threads do the same work.
      }
      return shared.run(tasks, std::min(helpers, shared.workers()), task, watch);
    }
  }
  for (int i = 0; i < tasks; ++i) task(i);
}

void run_together(int threads, FunctionRef<void(int, Barrier&)> body, Watch* watch) {
  Barrier barrier(std::max(threads, 1));
  if (threads <= 1) return body(0, barrier);
  if (inside_task) throw std::logic_error("run_together was called from within a task of the thread pool");
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  Pool& shared = pool();
  const auto lock = shared.acquire(watch);
  // One task for each thread: a thread cannot end its task, and take another one, before all have come to the barrier.
  const auto one_each = [&](int index) {
    try {
      body(index, barrier);
    } catch (...) {
      // Kept before the barrier breaks: what the others throw because of that is not the cause.
      if (!failed.exchange(true)) error = std::current_exception();
      barrier.break_up();
    }
  };
  if (!has_openmp() || !shared.run_on_openmp(threads, threads, threads, one_each, nullptr)) {
    shared.grow(threads - 1);
    shared.run(threads, threads - 1, one_each, nullptr);
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace unspool
