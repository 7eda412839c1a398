#include <cstdlib>
#include <stdexcept>

#include "check.hpp"

using namespace unspool;

void test_isa() {
  const auto names = available_isas();
  CHECK(!names.empty() && names.front() == "portable");
  bool found = false;
  for (const auto& name : names) found |= name == active_isa();
  CHECK(found, "active %s", active_isa().c_str());
  const char* wanted = std::getenv("UNSPOOL_ISA");
  CHECK(wanted ? active_isa() == wanted : active_isa() == names.back());
  CHECK(&kernels<float>() == &kernels<float>(active_isa()));
  CHECK(&kernels<double>() == &kernels<double>(active_isa()));
  std::string message;
  try {
    kernels<float>("sse9");
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  CHECK(message.find("sse9") != message.npos && message.find("portable") != message.npos, "%s", message.c_str());
  CHECK(measure_peak_gflops(0.001) > 0.1);
}
