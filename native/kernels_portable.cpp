// The kernels for vectors of 16 bytes, which every machine has.
#define UNSPOOL_KERNELS kernels_portable
#include "kernels_impl.hpp"
