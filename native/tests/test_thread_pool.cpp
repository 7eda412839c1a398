// The pool: every task once, exceptions, nesting, several callers, barriers, fork.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "check.hpp"
#include "thread_pool.hpp"

using namespace unspool;

namespace {

bool all_once(int tasks, int threads) {
  std::unique_ptr<std::atomic<int>[]> counts(new std::atomic<int>[size_t(tasks)]());
  parallel_for(tasks, threads, [&](int i) { ++counts[size_t(i)]; });
  for (int i = 0; i < tasks; ++i)
    if (counts[size_t(i)] != 1) return false;
  return true;
}

void check_tasks() {
  for (int threads : {0, 1, 2, 3, 5})
    for (int tasks : {0, 1, 2, 3, 17, 1000}) CHECK(all_once(tasks, threads), "%d tasks, %d threads", tasks, threads);
  for (int i = 0; i < 3000; ++i) CHECK(all_once(4, 3));
}

void check_exceptions() {
  for (int threads : {1, 2, 4}) {
    std::string message;
    try {
      parallel_for(100, threads, [](int i) {
        if (i == 13) throw std::runtime_error("task thirteen");
      });
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    CHECK(message == "task thirteen");
    CHECK(all_once(50, threads));
  }
  for (int round = 0; round < 200; ++round) {
    std::string message;
    try {
      run_together(3, [&](int index, Barrier& barrier) {
        barrier.wait();
        if (index == round % 3) throw std::runtime_error("the cause");
        barrier.wait();
      });
    } catch (const std::exception& error) {
      message = error.what();
    }
    CHECK(message == "the cause", "%s", message.c_str());
  }
}

// Each thread writes its part of a line that all of them read after the barrier.
void check_barrier() {
  for (int threads : {1, 2, 3, 4}) {
    std::vector<int> line(size_t(threads), 0);
    std::atomic<int> wrong{0};
    std::set<std::thread::id> ids;
    std::mutex mutex;
    run_together(threads, [&](int index, Barrier& barrier) {
      {
        const std::lock_guard lock(mutex);
        ids.insert(std::this_thread::get_id());
      }
      for (int step = 1; step <= 2000; ++step) {
        line[size_t(index)] = step;
        barrier.wait();
        for (int value : line) wrong += value != step;
        barrier.wait();
      }
    });
    CHECK(wrong == 0 && int(ids.size()) == threads);
  }
}

void check_nesting() {
  std::atomic<int> count{0};
  parallel_for(6, 3, [&](int) { parallel_for(7, 3, [&](int) { ++count; }); });
  CHECK(count == 42);
  std::atomic<int> refused{0};
  run_together(2, [&](int, Barrier&) {
    try {
      run_together(2, [](int, Barrier& barrier) { barrier.wait(); });
    } catch (const std::logic_error&) {
      ++refused;
    }
  });
  CHECK(refused == 2);
}

void check_callers() {
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&, caller] {
      for (int i = 0; i < 300; ++i) {
        if (caller % 2 == 0) {
          wrong += !all_once(20, 3);
        } else {
          std::atomic<int> sum{0};
          run_together(3, [&](int index, Barrier& barrier) {
            sum += index;
            barrier.wait();
            wrong += sum != 3;
          });
        }
      }
    });
  for (auto& caller : callers) caller.join();
  CHECK(wrong == 0);
}

void check_fork() {
#if !defined(UNSPOOL_SANITIZE_THREAD)  // it refuses threads in a forked child
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(all_once(100, 3) ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
  CHECK(all_once(100, 3));
#endif
}

// The caller keeps its watch while another thread has the last task, and hears from it when this has ended.
void check_waiting_caller() {
  std::atomic<bool> asked{false}, begun{false};
  const auto note = [&] {
    asked = true;
    return false;
  };
  for (const bool stop : {false, true}) {
    asked = begun = false;
    const auto answer = [&] { return note() || stop; };
    Watch watch(answer);
    bool stopped = false;
    try {
      parallel_for(2, 2, [&](int) {
        if (watch.is_mine()) {
          while (!begun) std::this_thread::yield();
        } else {
          begun = true;
          while (!asked) std::this_thread::yield();
          watch.look();
        }
      }, &watch);
    } catch (const Stopped&) {
      stopped = true;
    }
    CHECK(asked && stopped == stop);
  }
  // Tasks that end at about the same time: the caller misses none of them.
  const auto never = [] { return false; };
  int missed = 0;  // a busy machine may take its time now and then
  for (int i = 0; i < 300; ++i) {
    Watch watch(never);
    const auto start = std::chrono::steady_clock::now();
    parallel_for(2, 2, [&](int) { std::this_thread::sleep_for(std::chrono::microseconds(500 + i * 5)); }, &watch);
    const double taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    missed += taken > 0.09;
  }
  CHECK(missed < 30, "%d of 300", missed);
}

// The pool is another caller's: who waits for it keeps the watch.
void check_waiting_for_the_pool() {
  std::atomic<bool> stopped{false}, taken{false};
  std::thread other([&] {
    run_together(2, [&](int, Barrier&) {
      taken = true;
      while (!stopped) std::this_thread::yield();
    });
  });
  while (!taken) std::this_thread::yield();
  const auto stop = [] { return true; };
  Watch watch(stop);
  try {
    run_together(2, [](int, Barrier& barrier) { barrier.wait(); }, &watch);
  } catch (const Stopped&) {
    stopped = true;
  }
  CHECK(stopped);
  stopped = true;
  other.join();
}

// Sleeping threads use no time.
void check_idle() {
  all_once(10, 4);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const double busy = double(std::clock() - before) / CLOCKS_PER_SEC;
  CHECK(busy < 0.02, "%.3f s of processor time while idle for 0.1 s", busy);
}

}  // namespace

void test_thread_pool() {
  check_tasks();
  check_exceptions();
  check_barrier();
  check_nesting();
  check_callers();
  check_fork();
  check_waiting_caller();
  check_waiting_for_the_pool();
  check_idle();
}
