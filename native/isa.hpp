// Which instruction set's kernels this process runs.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace unspool {

// Names, best last, of the instruction sets that this build has kernels for and this CPU can run: "portable", "avx2",
// "avx512".
std::vector<std::string> available_isas();

// The instruction set in use: the best available one, or the one that the environment variable UNSPOOL_ISA names.
// Decided at the first call of any of these functions. Throws std::runtime_error where UNSPOOL_ISA names one that
// cannot run.
const std::string& active_isa();

// The kernels of the instruction set in use, for float and double.
template <class T>
const Kernels<T>& kernels();

// The kernels of a given instruction set; throws std::runtime_error where it cannot run here.
template <class T>
const Kernels<T>& kernels(const std::string& isa);

// GFLOP/s of float multiply-adds in registers, on the calling thread, with the instruction set in use: the best of
// several runs within about `seconds`.
double measure_peak_gflops(double seconds);

}  // namespace unspool
