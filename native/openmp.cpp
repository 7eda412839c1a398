#include "openmp.hpp"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>

namespace unspool {
namespace {

// Entry points of GNU's OpenMP runtime; LLVM's and Intel's offer them as well.
struct Library {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned);
  int (*team)();
};

std::atomic<bool> forked{false};

template <class Function>
void find(Function& function, const char* name) {
  function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

const Library& library() {
  static const Library found = [] {
    Library entries{};
    find(entries.parallel, "GOMP_parallel");
    find(entries.team, "omp_get_num_threads");
    pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
    return entries;
  }();
  return found;
}

}  // namespace

bool has_openmp() {
  const Library& entries = library();
  return entries.parallel && entries.team && !forked.load(std::memory_order_relaxed);
}

void openmp_parallel(void (*function)(void*), void* data, int threads) {
  library().parallel(function, data, static_cast<unsigned>(threads), 0);
}

int openmp_team() { return library().team(); }

}  // namespace unspool
