// usage: [UNSPOOL_ISA=...] unspool_native_tests [--errors]
// Exit status 77 where the CPU lacks the instruction set that UNSPOOL_ISA names.
#include <cstring>
#include <exception>

#include "check.hpp"

int main(int count, char** arguments) {
  report_errors = count > 1 && std::strcmp(arguments[1], "--errors") == 0;
  try {
    std::printf("instruction set %s\n", unspool::active_isa().c_str());
  } catch (const std::exception& error) {
    const bool lacks = std::strstr(error.what(), "which this CPU lacks") != nullptr;
    std::printf("%s: %s\n", lacks ? "skipped" : "failed", error.what());
    return lacks ? 77 : 1;
  }
  const std::pair<const char*, void (*)()> tests[] = {
      {"isa", test_isa},           {"gemm", test_gemm},         {"vecmath", test_vecmath},
      {"pointwise", test_pointwise}, {"reduce", test_reduce},   {"thread_pool", test_thread_pool},
      {"executor", test_executor}, {"refusals", test_refusals},
      {"concurrency", test_concurrency}};
  for (const auto& [name, test] : tests) {
    const int before = failures;
    test();
    std::printf("%-12s %s\n", name, failures == before ? "passed" : "FAILED");
    std::fflush(stdout);
  }
  return failures == 0 ? 0 : 1;
}
