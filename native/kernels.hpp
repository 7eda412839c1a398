// The engine's kernels: a table of functions per instruction set and element type. isa.hpp chooses one at run time.
//
// Letters: M rows of a product (tokens or sequences), N its columns, K the length of the sum; R tokens summed over for
// a weight gradient. Matrices are row-major with the distance between rows counted in elements. Every function runs on
// the calling thread and allocates nothing, so that callers split work and memory as they like.
#pragma once

#include <cstdint>

namespace unspool {

// An enumeration whose numbers stand in plans, and its names, which are compared with those of program/tables.py.
#define UNSPOOL_ENUM(Name, Type, ...)             \
  enum class Name : Type { __VA_ARGS__, count_ }; \
  constexpr const char* k##Name##Names = #__VA_ARGS__;

// How an operand of a pointwise operation covers [rows, width].
UNSPOOL_ENUM(Operand, uint8_t,
  full,        // [rows, width]
  row_scalar,  // one value per row: element (r, 0)
  vector,      // one row for all rows
  scalar       // one value
)

// What the operations give: see operations.def.
enum class Unary : uint8_t {
#define UNSPOOL_UNARY(name, ...) name,
#include "operations.def"
  count_,
};

enum class Binary : uint8_t {
#define UNSPOOL_BINARY(name, ...) name,
#include "operations.def"
  count_,
};

enum class Ternary : uint8_t {
#define UNSPOOL_TERNARY(name, ...) name,
#include "operations.def"
  count_,
};

enum class Reduce : uint8_t {
#define UNSPOOL_REDUCE(name, ...) name,
#include "operations.def"
  count_,
};

template <class T>
struct Source {  // a read-only operand of a pointwise operation
  const T* data;
  int64_t stride;  // elements between rows; not looked at for vector and scalar
  Operand mode;
};

template <class T>
struct Kernels {
  // ---- C[M, N] = init + A[M, K] W[K, N], W packed once
  int64_t panel;  // columns per packed panel
  // Elements that pack() writes.
  int64_t (*packed_size)(int64_t K, int64_t N);
  // Element (k, n) is w[k * stride_k + n * stride_n]. Any address works, but at one that is no multiple of 64 bytes
  // each read of the packed matrix straddles two cache lines.
  void (*pack)(const T* w, int64_t stride_k, int64_t stride_n, int64_t K, int64_t N, T* packed);
  // Columns [n0, n1) only: multiples of `panel`, except that n1 may be N. init == nullptr: zero. ld_init == 0: one row
  // for all. init may be C itself, with ld_init == ldc.
  void (*gemm)(int64_t M, int64_t N, int64_t K, const T* A, int64_t lda, const T* packed, const T* init,
               int64_t ld_init, T* C, int64_t ldc, int64_t n0, int64_t n1);
  // The same without packing, for few rows: element (k, n) of the weight is w[k + n * stride_n].
  void (*gemm_few)(int64_t M, int64_t K, const T* A, int64_t lda, const T* w, int64_t stride_n, const T* init,
                   int64_t ld_init, T* C, int64_t ldc, int64_t n0, int64_t n1);

  // A number, never 0, that differs where a matrix differs in one element, and nearly surely where it differs in several.
  uint64_t (*digest)(const T* data, int64_t rows, int64_t width, int64_t stride);

  // ---- weight gradients: C[M, N] (+)= A^T B with A[R, M] and B[R, N]; scratch holds gemm_tn_scratch(M, N, R)
  // elements, best at a multiple of 64 bytes
  int64_t (*gemm_tn_scratch)(int64_t M, int64_t N, int64_t R);
  void (*gemm_tn)(int64_t M, int64_t N, int64_t R, const T* A, int64_t lda, const T* B, int64_t ldb, T* C, int64_t ldc,
                  bool accumulate, T* scratch);

  // ---- pointwise over a block of rows; dst[rows, width] may be an operand itself, but must not overlap one otherwise
  void (*unary)(Unary op, int64_t rows, int64_t width, T* dst, int64_t ldd, Source<T> a, T imm0, T imm1);
  void (*binary)(Binary op, int64_t rows, int64_t width, T* dst, int64_t ldd, Source<T> a, Source<T> b);
  void (*ternary)(Ternary op, int64_t rows, int64_t width, T* dst, int64_t ldd, Source<T> a, Source<T> b, Source<T> c);

  // ---- over the feature axis: dst[rows, groups] from a[rows, groups * n]
  void (*reduce)(Reduce op, int64_t rows, int64_t groups, int64_t n, T* dst, int64_t ldd, const T* a, int64_t lda);
  // acc[width] += sum over rows of a[rows, width]
  void (*column_sums)(int64_t rows, int64_t width, T* acc, const T* a, int64_t lda);
  // dst[rows, groups * n] from a[rows, groups], each value n times in a row
  void (*repeat)(int64_t rows, int64_t groups, int64_t n, T* dst, int64_t ldd, const T* a, int64_t lda);
  // dst[rows, width]: dst[r, i] = a[r, index[i]]
  void (*gather)(int64_t rows, int64_t width, T* dst, int64_t ldd, const T* a, int64_t lda, const int64_t* index);
  // dst[rows, width] from a[rows, n]: dst[r, j] is the sum of all a[r, i] with index[i] == j
  void (*scatter)(int64_t rows, int64_t width, int64_t n, T* dst, int64_t ldd, const T* a, int64_t lda,
                  const int64_t* index);

  // ---- for benchmarks: runs multiply-adds in registers and returns how many floating-point operations that were
  double (*fma_loop)(int64_t iterations);
};

// The tables of one instruction set.
struct KernelSet {
  const Kernels<float>* f32;
  const Kernels<double>* f64;
};

}  // namespace unspool
