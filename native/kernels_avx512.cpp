// The kernels for AVX-512.
#define UNSPOOL_KERNELS kernels_avx512
#include "kernels_impl.hpp"
