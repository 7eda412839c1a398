// The table of one instruction set. A kernels_*.cpp unit names it with UNSPOOL_KERNELS and includes this file.
#pragma once

#include "gemm_impl.hpp"
#include "kernels.hpp"
#include "pointwise_impl.hpp"
#include "reduce_impl.hpp"

namespace unspool {
namespace {

template <class T>
constexpr Kernels<T> kernel_table = {
    .panel = panel_width<T>,
    .packed_size = packed_size<T>,
    .pack = pack<T>,
    .gemm = gemm<T>,
    .gemm_few = gemm_few<T>,
    .digest = digest<T>,
    .gemm_tn_scratch = gemm_tn_scratch<T>,
    .gemm_tn = gemm_tn<T>,
    .unary = unary<T>,
    .binary = binary<T>,
    .ternary = ternary<T>,
    .reduce = reduce<T>,
    .column_sums = column_sums<T>,
    .repeat = repeat<T>,
    .gather = gather<T>,
    .scatter = scatter<T>,
    .fma_loop = fma_loop<T>,
};

}  // namespace

extern const KernelSet UNSPOOL_KERNELS;
constinit const KernelSet UNSPOOL_KERNELS = {&kernel_table<float>, &kernel_table<double>};

}  // namespace unspool
