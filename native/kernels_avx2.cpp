// The kernels for AVX2 and FMA.
#define UNSPOOL_KERNELS kernels_avx2
#include "kernels_impl.hpp"
