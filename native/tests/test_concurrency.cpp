// Runs of the executor from several threads at once, from within tasks, in forked processes, and when memory ends.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <new>
#include <stdexcept>
#include <thread>

#include "problem.hpp"
#include "thread_pool.hpp"

using namespace unspool;

namespace {

constexpr int64_t H = 17;

// A recurrent step with a product, so that threads that share the columns wait for each other.
Problem<float> recurrent(int64_t rows, int64_t blocks, int64_t steps = 5) {
  Problem<float> p(ragged_batch(rows, blocks, steps));
  const int64_t h = p.row(H), x = p.token(H), out = p.token(H), sums = p.temp(H), slot = p.slot(H);
  p.product(p.at(sums), H, p.at(h), p.weight(H, H, true), p.at(x));
  p.unary(Unary::tanh, p.at(out), H, p.at(sums));
  p.unary(Unary::copy, p.at(h), H, p.at(out));
  p.column_sums(p.at(slot), H, p.at(out));
  return p;
}

bool same(const std::vector<Grid<float>>& a, const std::vector<Grid<float>>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    for (int64_t r = 0; r < a[i].rows; ++r)
      for (int64_t j = 0; j < a[i].width; ++j)
        if (a[i](r, j) != b[i](r, j)) return false;
  return true;
}

// Each caller gets what it would get alone: by blocks or by columns, with a plan of its own or with a common one.
void check_callers() {
  const Problem<float> problems[] = {recurrent(7, 3), recurrent(3, 1), recurrent(1, 1), recurrent(16, 2)};
  std::vector<std::vector<Grid<float>>> expected;
  for (const auto& p : problems) expected.push_back(p.run(3));
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (size_t caller = 0; caller < 6; ++caller)
    callers.emplace_back([&, caller] {
      for (int i = 0; i < 25; ++i) wrong += !same(problems[caller % 4].run(3), expected[caller % 4]);
    });
  for (auto& caller : callers) caller.join();
  CHECK(wrong == 0, "%d runs of 150", wrong.load());
}

// A task of the pool runs blocks, and also what threads would do together, alone.
void check_tasks() {
  for (const int64_t blocks : {3, 1}) {
    const Problem<float> p = recurrent(7, blocks);
    const auto expected = p.run(1);
    std::atomic<int> wrong{0};
    parallel_for(4, 2, [&](int) { wrong += !same(p.run(2), expected); });
    CHECK(wrong == 0, "%ld blocks", blocks);
  }
}

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A run that takes some tenths of a second, whatever the machine is.
Problem<float> lasting(int64_t rows, int64_t blocks, int threads) {
  for (int64_t steps = 2000;; steps *= 2) {
    Problem<float> p = recurrent(rows, blocks, steps);
    const auto start = Clock::now();
    p.run(threads);
    if (since(start) > 0.4) return p;
  }
}

// Whoever runs it, by blocks or by columns, the watch is asked on the caller's thread, now and then; the run ends soon after
// it says so, and the next one is right. A run that begins where it is asked has memory of its own.
void check_watch() {
  const Problem<float> within = recurrent(7, 2);
  const auto expected_within = within.run(1);
  for (const int64_t blocks : {1, 2})
    for (const int threads : {1, 2}) {
      const Problem<float> p = lasting(blocks + 1, blocks, threads);
      const auto expected = p.run(threads);
      int asked = 0;
      bool elsewhere = false, wrong = false;
      const auto caller = std::this_thread::get_id();
      const auto go_on = [&] {
        ++asked;
        elsewhere |= std::this_thread::get_id() != caller;
        wrong |= !same(within.run(2), expected_within);
        return false;
      };
      Watch patient(go_on);
      auto start = Clock::now();
      const bool right = same(p.run(threads, &patient), expected);
      const double whole = since(start);
      CHECK(right && !elsewhere && !wrong, "%ld blocks, %d threads", blocks, threads);
      CHECK(asked > 0 || whole < 0.2, "%ld blocks, %d threads: %.2f s", blocks, threads, whole);

      const auto stop = [] { return true; };
      Watch done(stop);
      bool stopped = false;
      start = Clock::now();
      try {
        p.run(threads, &done);
      } catch (const Stopped&) {
        stopped = true;
      }
      const double part = since(start);
      CHECK(stopped || part < 0.2, "%ld blocks, %d threads: not stopped in %.2f s", blocks, threads, part);
      CHECK(same(within.run(threads), expected_within) && same(p.run(threads), expected));
    }
}

// What is refused on one thread does not disturb runs on others.
void check_refused_beside() {
  const Problem<float> good = recurrent(7, 2);
  Problem<float> bad = good;
  bad.weights.clear();
  const auto expected = good.run(2);
  std::atomic<int> wrong{0}, refused{0};
  std::thread other([&] {
    for (int i = 0; i < 50; ++i) {
      try {
        bad.run(2);
      } catch (const std::invalid_argument&) {
        ++refused;
      }
    }
  });
  for (int i = 0; i < 50; ++i) wrong += !same(good.run(2), expected);
  other.join();
  CHECK(wrong == 0 && refused == 50);
}

// True where `body` returns true in a forked process.
[[maybe_unused]] bool in_child(const std::function<bool()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    bool good = false;
    try {
      good = body();
    } catch (const std::exception& error) {
      std::printf("in the child: %s\n", error.what());
      std::fflush(stdout);
    }
    _exit(good ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#if !defined(UNSPOOL_SANITIZE_THREAD)  // it refuses threads in a forked child
void check_fork() {
  const Problem<float> problems[] = {recurrent(7, 3), recurrent(3, 1)};
  const std::vector<Grid<float>> expected[] = {problems[0].run(3), problems[1].run(3)};
  const auto both = [&] { return same(problems[0].run(3), expected[0]) && same(problems[1].run(3), expected[1]); };
  CHECK(in_child(both));
  CHECK(in_child([&] { return both() && in_child(both) && both(); }));
#if !defined(UNSPOOL_SANITIZE_ADDRESS)  // GCC 12's has no handlers for fork: its allocator's locks may stay locked
  // While another thread is in the middle of runs.
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) problems[0].run(3);
  });
  for (int i = 0; i < 5; ++i) CHECK(in_child(both));
  stop = true;
  other.join();
#endif
  CHECK(both());
}
#endif

#if !defined(UNSPOOL_SANITIZE_THREAD) && !defined(UNSPOOL_SANITIZE_ADDRESS)  // they take address space of their own
// Scratch that passes the check, but that the process does not get: an exception, on whatever thread, and the pool lives.
void check_memory() {
  const Problem<float> good = recurrent(7, 2);
  const auto expected = good.run(2);
  for (const int64_t blocks : {1, 2}) {
    Problem<float> large = recurrent(2, blocks);
    large.temp(1 << 27);  // 512 MiB a row
    CHECK(in_child([&] {
      good.run(2);
      rlimit limit{};
      getrlimit(RLIMIT_AS, &limit);
      limit.rlim_cur = rlim_t{512} << 20;
      setrlimit(RLIMIT_AS, &limit);
      for (const int threads : {1, 2}) {
        try {
          large.run(threads);
          return false;
        } catch (const std::bad_alloc&) {
        }
        if (!same(good.run(2), expected)) return false;
      }
      return true;
    }));
  }
}
#endif

}  // namespace

void test_concurrency() {
  check_callers();
  check_tasks();
  check_watch();
  check_refused_beside();
#if !defined(UNSPOOL_SANITIZE_THREAD)
  check_fork();
#endif
#if !defined(UNSPOOL_SANITIZE_THREAD) && !defined(UNSPOOL_SANITIZE_ADDRESS)
  check_memory();
#endif
}
