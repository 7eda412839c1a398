#include "isa.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <stdexcept>

namespace unspool {

extern const KernelSet kernels_portable;
#ifdef UNSPOOL_X86
extern const KernelSet kernels_avx2;
extern const KernelSet kernels_avx512;
#endif

namespace {

struct Isa {
  const char* name;
  bool runs_here;
  const KernelSet* kernels;
};

// Worst first. The conditions are those of the compiler flags that CMakeLists.txt gives the unit.
const std::vector<Isa>& isas() {
#ifdef UNSPOOL_X86
  __builtin_cpu_init();  // some run-time libraries do not do it at the start of the process
#endif
  static const std::vector<Isa> all = {
      {"portable", true, &kernels_portable},
#ifdef UNSPOOL_X86
      {"avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), &kernels_avx2},
      {"avx512",
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"),
       &kernels_avx512},
#endif
  };
  return all;
}

std::string listed() {
  std::string names;
  for (const std::string& name : available_isas()) names += (names.empty() ? "" : ", ") + name;
  return names;
}

const Isa& find(const std::string& name, const std::string& asked_by) {
  for (const Isa& isa : isas()) {
    if (name != isa.name) continue;
    if (isa.runs_here) return isa;
    throw std::runtime_error(asked_by + " asks for instruction set '" + name +
                             "', which this CPU lacks; it has: " + listed() + ".");
  }
  throw std::runtime_error(asked_by + " asks for instruction set '" + name +
                           "', which this build does not know; available here: " + listed() + ".");
}

const Isa& active() {
  static const Isa& chosen = []() -> const Isa& {
    const char* wanted = std::getenv("UNSPOOL_ISA");
    if (wanted && *wanted) return find(wanted, "The environment variable UNSPOOL_ISA");
    return *std::find_if(isas().rbegin(), isas().rend(), [](const Isa& isa) { return isa.runs_here; });
  }();
  return chosen;
}

template <class T>
const Kernels<T>& table(const KernelSet& set);
template <>
const Kernels<float>& table(const KernelSet& set) {
  return *set.f32;
}
template <>
const Kernels<double>& table(const KernelSet& set) {
  return *set.f64;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : isas())
    if (isa.runs_here) names.emplace_back(isa.name);
  return names;
}

const std::string& active_isa() {
  static const std::string name = active().name;
  return name;
}

template <class T>
const Kernels<T>& kernels() {
  static const Kernels<T>& chosen = table<T>(*active().kernels);
  return chosen;
}

template <class T>
const Kernels<T>& kernels(const std::string& isa) {
  return table<T>(*find(isa, "The caller").kernels);
}

template const Kernels<float>& kernels<float>();
template const Kernels<double>& kernels<double>();
template const Kernels<float>& kernels<float>(const std::string&);
template const Kernels<double>& kernels<double>(const std::string&);

double measure_peak_gflops(double seconds) {
  using clock = std::chrono::steady_clock;
  const auto elapsed = [](clock::time_point since) {
    return std::chrono::duration<double>(clock::now() - since).count();
  };
  const auto start = clock::now();
  double best = 0;
  do {
    const auto from = clock::now();
    const double operations = kernels<float>().fma_loop(200'000);
    best = std::max(best, operations / elapsed(from) * 1e-9);
  } while (elapsed(start) < seconds);
  return best;
}

}  // namespace unspool
