// Products. One micro-kernel holds a tile of C in registers, reads a panel of the second factor row by row, and takes
// single values of the first factor, each multiplied with a whole row of the panel.
#pragma once

#include "simd.hpp"

namespace unspool {
namespace {

// Largest tile: rows x vectors. It fills the registers and still leaves room for one row of the panel and one value.
#if defined(__AVX512F__)
constexpr int tile_rows = 12, tile_vectors = 2;
#elif defined(__AVX2__)
constexpr int tile_rows = 6, tile_vectors = 2;
#elif defined(__aarch64__)
constexpr int tile_rows = 8, tile_vectors = 2;
#else
constexpr int tile_rows = 4, tile_vectors = 2;
#endif

// How far ahead of its use a panel is asked for. Measured: 8 KiB hides the third-level cache on a busy machine, where 2
// KiB and the hardware's own prefetching lose a fifth of the speed; asking from within the second-level cache costs
// nothing.
constexpr int prefetch_bytes = 8192;

template <class T>
constexpr int64_t panel_width = tile_vectors * lanes<T>;

template <class T>
struct TileArguments {
  int64_t K;
  const T* A;
  int64_t lda;     // between rows of the tile; 1 where A is packed
  const T* panel;  // [K, panel_width]
  const T* init;
  int64_t ld_init;
  T* C;
  int64_t ldc;
  int64_t width;  // columns of the tile, at most vectors * lanes
};

// `packed`: element (row, k) is A[k * rows + row] and not A[row * lda + k].
template <class T, int rows, int vectors, bool packed>
__attribute__((noinline)) void tile(const TileArguments<T>& arguments) {
  // With few accumulators, each multiply-add would wait for the one before: then several sets take turns over k.
  constexpr int sums = rows * vectors;
  constexpr int sets = sums <= 3 ? 4 : 2 * sums <= 3 * tile_rows * tile_vectors / 4 ? 2 : 1;
  const int64_t K = arguments.K, lda = arguments.lda, width = arguments.width;
  const T* A = arguments.A;
  const T* panel = arguments.panel;
  const int last = int(width - (vectors - 1) * lanes<T>);  // columns in the last vector
  Vec<T> sum[sets][rows][vectors];
#pragma GCC unroll 4
  for (int s = 0; s < sets; ++s)
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) sum[s][i][j] = Vec<T>{};

  // What the sums are added to, and where they go, are asked for now and needed at the end: they often lie far away, and
  // at distances that no hardware foresees.
  const T* init = arguments.init;
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) {
      if (init) __builtin_prefetch(init + i * arguments.ld_init + j * lanes<T>);
      __builtin_prefetch(arguments.C + i * arguments.ldc + j * lanes<T>, 1);
    }
  }

  const T* row_start[rows];
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) row_start[i] = A + i * lda;

  auto step = [&](int64_t k, Vec<T>(&acc)[rows][vectors]) __attribute__((always_inline)) {
    Vec<T> b[vectors];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j)
      __builtin_prefetch(panel + k * panel_width<T> + j * lanes<T> + prefetch_bytes / int(sizeof(T)));
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) b[j] = load<T>(panel + k * panel_width<T> + j * lanes<T>);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const Vec<T> a = splat<T>(packed ? A[k * rows + i] : row_start[i][k]);
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) acc[i][j] += a * b[j];
    }
  };

  int64_t k = 0;
  if constexpr (sets > 1) {
    for (; k + sets <= K; k += sets)
#pragma GCC unroll 4
      for (int s = 0; s < sets; ++s) step(k + s, sum[s]);
  }
  for (; k < K; ++k) step(k, sum[0]);

#pragma GCC unroll 4
  for (int s = 1; s < sets; ++s)
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) sum[0][i][j] += sum[s][i][j];

  if (init) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const T* row = init + i * arguments.ld_init;
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j)
        sum[0][i][j] +=
            j + 1 < vectors || last == lanes<T> ? load<T>(row + j * lanes<T>) : load_first(row + j * lanes<T>, last);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
    T* row = arguments.C + i * arguments.ldc;
#pragma GCC unroll 4
    for (int j = 0; j + 1 < vectors; ++j) store<T>(row + j * lanes<T>, sum[0][i][j]);
    if (last == lanes<T>)
      store<T>(row + (vectors - 1) * lanes<T>, sum[0][i][vectors - 1]);
    else
      store_first(row + (vectors - 1) * lanes<T>, sum[0][i][vectors - 1], last);
  }
}

template <class T>
using Tile = void (*)(const TileArguments<T>&);

// tiles[rows - 1][vectors - 1]
template <class T, bool packed>
struct TileTable {
  Tile<T> tiles[tile_rows][tile_vectors];

  template <int row, int vector>
  constexpr void fill() {
    tiles[row][vector] = tile<T, row + 1, vector + 1, packed>;
    if constexpr (vector + 1 < tile_vectors)
      fill<row, vector + 1>();
    else if constexpr (row + 1 < tile_rows)
      fill<row + 1, 0>();
  }
  constexpr TileTable() : tiles{} { fill<0, 0>(); }
};

template <class T, bool packed>
constexpr TileTable<T, packed> tile_table{};

// Rows of the next tile, such that all tiles of `left` rows are nearly the same size: 32 rows are 11 + 11 + 10 and not
// 12 + 12 + 8.
UNSPOOL_INLINE int next_rows(int64_t left) {
  const int64_t tiles = (left + tile_rows - 1) / tile_rows;
  return int((left + tiles - 1) / tiles);
}

template <class T>
int64_t packed_size(int64_t K, int64_t N) {
  return (N + panel_width<T> - 1) / panel_width<T> * panel_width<T> * K;
}

// Rows of w lie along the panel: whole vectors are copied.
template <class T>
void pack_rows(const T* w, int64_t stride_k, int64_t K, int64_t width, T* packed) {
  for (int64_t k = 0; k < K; ++k, w += stride_k, packed += panel_width<T>)
#pragma GCC unroll 4
    for (int j = 0; j < tile_vectors; ++j) {
      const int left = int(width - j * lanes<T>);
      Vec<T> v{};
      if (left >= lanes<T>)
        v = load<T>(w + j * lanes<T>);
      else if (left > 0)
        v = load_first(w + j * lanes<T>, left);
      store<T>(packed + j * lanes<T>, v);
    }
}

template <class T>
void pack(const T* w, int64_t stride_k, int64_t stride_n, int64_t K, int64_t N, T* packed) {
  // With columns of w along the panel, a few rows of the panel at a time: then each cache line of w is read once.
  constexpr int64_t block_k = 64 / sizeof(T);
  for (int64_t n0 = 0; n0 < N; n0 += panel_width<T>, packed += K * panel_width<T>) {
    const int64_t width = N - n0 < panel_width<T> ? N - n0 : panel_width<T>;
    if (stride_n == 1) {
      pack_rows<T>(w + n0, stride_k, K, width, packed);
      continue;
    }
    for (int64_t k0 = 0; k0 < K; k0 += block_k) {
      const int64_t k1 = K - k0 < block_k ? K : k0 + block_k;
      for (int64_t n = 0; n < width; ++n)
        for (int64_t k = k0; k < k1; ++k) packed[k * panel_width<T> + n] = w[k * stride_k + (n0 + n) * stride_n];
      for (int64_t n = width; n < panel_width<T>; ++n)
        for (int64_t k = k0; k < k1; ++k) packed[k * panel_width<T> + n] = T(0);
    }
  }
}

template <class T>
void gemm(int64_t M, int64_t /*N*/, int64_t K, const T* A, int64_t lda, const T* packed, const T* init, int64_t ld_init,
          T* C, int64_t ldc, int64_t n0, int64_t n1) {
  // A block of A's rows stays in the second-level cache while all panels pass by.
  const int64_t rows_that_fit = 384 * 1024 / int64_t(sizeof(T)) / (K > 0 ? K : 1);
  const int64_t block = rows_that_fit < 4 * tile_rows ? 4 * tile_rows : rows_that_fit;
  for (int64_t m0 = 0; m0 < M; m0 += block) {
    const int64_t m1 = m0 + block < M ? m0 + block : M;
    for (int64_t n = n0; n < n1; n += panel_width<T>) {
      const int64_t width = n1 - n < panel_width<T> ? n1 - n : panel_width<T>;
      const int vectors = int((width + lanes<T> - 1) / lanes<T>);
      const T* panel = packed + n * K;
      for (int64_t m = m0; m < m1;) {
        const int rows = next_rows(m1 - m);
        tile_table<T, false>.tiles[rows - 1][vectors - 1]({K, A + m * lda, lda, panel,
                                                           init ? init + m * ld_init + n : nullptr, ld_init,
                                                           C + m * ldc + n, ldc, width});
        m += rows;
      }
    }
  }
}

// ---- Products with a weight that is not packed, whose columns lie in memory one after the other: column n is
// w[n * stride_n .. + K]. Sums run along K in every lane, and the lanes are added up at the end. A tile of rows and columns
// is in registers: as many columns as hide the latency of a multiply-add, and with several rows as read each value once.
constexpr int few_rows = 4;

template <int rows>
constexpr int few_columns = rows == 1 ? 8 : tile_rows * tile_vectors >= 24 ? 24 / rows : rows == 2 ? 5 : 12 / rows;

template <class T>
UNSPOOL_INLINE T sum_of_lanes(Vec<T> v) {
  T values[lanes<T>];
  store<T>(values, v);
  for (int half = lanes<T> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) values[i] += values[i + half];
  return values[0];
}

template <class T>
struct FewArguments {
  int64_t K;
  const T* A;
  int64_t lda;
  const T* w;
  int64_t stride_n;
  const T* init;
  int64_t ld_init;
  T* C;
  int64_t ldc;
};

// The columns n0 .. n1 of `rows` rows.
template <class T, int rows>
__attribute__((noinline)) void gemm_few_rows(const FewArguments<T>& given, int64_t n0, int64_t n1) {
  constexpr int columns = few_columns<rows>;
  const int64_t K = given.K, lda = given.lda;
  for (int64_t n = n0; n < n1; n += columns) {
    const int wanted = int(n1 - n < columns ? n1 - n : columns);
    const T* column[columns];
#pragma GCC unroll 24
    for (int j = 0; j < columns; ++j) column[j] = given.w + (n + (j < wanted ? j : 0)) * given.stride_n;
    Vec<T> sum[rows][columns];
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 24
      for (int j = 0; j < columns; ++j) sum[i][j] = Vec<T>{};
    const auto step = [&](auto read, int64_t k) __attribute__((always_inline)) {
      Vec<T> a[rows];
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) a[i] = read(given.A + i * lda + k);
#pragma GCC unroll 24
      for (int j = 0; j < columns; ++j) {
        const Vec<T> b = read(column[j] + k);
#pragma GCC unroll 4
        for (int i = 0; i < rows; ++i) sum[i][j] += a[i] * b;
      }
    };
    int64_t k = 0;
    for (; k + lanes<T> <= K; k += lanes<T>) step([](const T* p) __attribute__((always_inline)) { return load<T>(p); }, k);
    if (const int rest = int(K - k))
      step([rest](const T* p) __attribute__((always_inline)) { return load_first(p, rest); }, k);
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < wanted; ++j) {
        const T total = sum_of_lanes<T>(sum[i][j]);
        given.C[i * given.ldc + n + j] = given.init ? total + given.init[i * given.ld_init + n + j] : total;
      }
  }
}

template <class T>
void gemm_few(int64_t M, int64_t K, const T* A, int64_t lda, const T* w, int64_t stride_n, const T* init,
              int64_t ld_init, T* C, int64_t ldc, int64_t n0, int64_t n1) {
  // Some columns at a time, so that they stay in the first-level cache while the rows pass by.
  constexpr int64_t bytes = 16 * 1024;
  const int64_t fitting = bytes / int64_t(sizeof(T)) / (K > 0 ? K : 1), together = fitting < 24 ? 24 : fitting / 24 * 24;
  for (int64_t n = n0; n < n1; n += together) {
    const int64_t end = n1 - n < together ? n1 : n + together;
    for (int64_t m = 0; m < M;) {
      const int64_t tiles = (M - m + few_rows - 1) / few_rows, rows = (M - m + tiles - 1) / tiles;
      const FewArguments<T> given{K, A + m * lda, lda, w, stride_n, init ? init + m * ld_init : nullptr, ld_init,
                                  C + m * ldc, ldc};
      switch (rows) {
        case 1: gemm_few_rows<T, 1>(given, n, end); break;
        case 2: gemm_few_rows<T, 2>(given, n, end); break;
        case 3: gemm_few_rows<T, 3>(given, n, end); break;
        default: gemm_few_rows<T, 4>(given, n, end); break;
      }
      m += rows;
    }
  }
}

// A polynomial over 32-bit words in each of many lanes: multiplying with an odd number loses nothing, so that a change
// of one word always changes its lane.
template <class T>
uint64_t digest(const T* data, int64_t rows, int64_t width, int64_t stride) {
  constexpr int64_t count = 64;
  constexpr uint32_t odd = 0x9E3779B1u;
  const int64_t words = width * int64_t(sizeof(T) / 4);
  uint32_t lane[count] = {};
  for (int64_t r = 0; r < rows; ++r) {
    const char* row = reinterpret_cast<const char*>(data + r * stride);
    int64_t i = 0;
    for (; i + count <= words; i += count) {
      uint32_t word[count];
      __builtin_memcpy(word, row + i * 4, sizeof word);
      for (int64_t j = 0; j < count; ++j) lane[j] = lane[j] * odd + word[j];
    }
    for (int64_t j = 0; i < words; ++i, ++j) {
      uint32_t word;
      __builtin_memcpy(&word, row + i * 4, 4);
      lane[j] = lane[j] * odd + word;
    }
  }
  uint64_t all = uint64_t(rows) * 31 + uint64_t(width);
  for (int64_t j = 0; j < count; ++j) all = all * 0x9E3779B97F4A7C15u + lane[j];
  return all ? all : 1;
}

// ---- A^T B, blocked so that a panel of B [R block, panel] stays in the first-level cache while tiles of A pass by,
// which come from the second-level cache, as does the next panel.
constexpr int64_t tn_block_r = 256;
constexpr int64_t tn_block_n = 512;
constexpr int64_t tn_block_m = 8 * tile_rows;

template <class T>
int64_t gemm_tn_scratch(int64_t M, int64_t N, int64_t R) {
  const int64_t block_r = R < tn_block_r ? R : tn_block_r;
  const int64_t block_n = N < tn_block_n ? N : tn_block_n;
  const int64_t block_m = M < tn_block_m ? M : tn_block_m;
  return packed_size<T>(block_r, block_n) + block_m * block_r;
}

// A[R, M] as tiles [R, tile_rows] one after the other, the last one narrower. Row by row of A: to read it tile by tile
// would visit each of its pages and cache lines several times, and rows at distances of a power of two evict each
// other.
template <class T>
void pack_tiles(int64_t R, int64_t M, const T* A, int64_t lda, T* packed) {
  const int64_t whole = M / tile_rows * tile_rows, rest = M - whole, rows_ahead = 16;
  for (int64_t r = 0; r < R; ++r, A += lda) {
    if (r + rows_ahead < R)
      for (int64_t m = 0; m < M; m += 64 / sizeof(T)) __builtin_prefetch(A + rows_ahead * lda + m);
    for (int64_t m = 0; m < whole; m += tile_rows)
      __builtin_memcpy(packed + m * R + r * tile_rows, A + m, tile_rows * sizeof(T));
    for (int64_t i = 0; i < rest; ++i) packed[whole * R + r * rest + i] = A[whole + i];
  }
}

// One block of A^T B; the rows of C that the next tile adds to are asked for while this one is worked on.
template <class T>
void gemm_tn_block(int64_t M, int64_t N, int64_t R, const T* packed_a, const T* packed_b, T* C, int64_t ldc, bool add) {
  for (int64_t n = 0; n < N; n += panel_width<T>) {
    const int64_t width = N - n < panel_width<T> ? N - n : panel_width<T>;
    const int vectors = int((width + lanes<T> - 1) / lanes<T>);
    for (int64_t m = 0; m < M; m += tile_rows) {
      const int rows = int(M - m < tile_rows ? M - m : tile_rows);
      T* c = C + m * ldc + n;
      for (int64_t i = m + tile_rows; i < m + 2 * tile_rows && i < M; ++i) {
        __builtin_prefetch(C + i * ldc + n, 1);
        __builtin_prefetch(C + i * ldc + n + width - 1, 1);
      }
      tile_table<T, true>.tiles[rows - 1][vectors - 1](
          {R, packed_a + m * R, 1, packed_b + n * R, add ? c : nullptr, ldc, c, ldc, width});
    }
  }
}

template <class T>
void gemm_tn(int64_t M, int64_t N, int64_t R, const T* A, int64_t lda, const T* B, int64_t ldb, T* C, int64_t ldc,
             bool accumulate, T* scratch) {
  if (R == 0 && !accumulate)
    for (int64_t m = 0; m < M; ++m)
      for (int64_t n = 0; n < N; ++n) C[m * ldc + n] = T(0);
  for (int64_t n0 = 0; n0 < N; n0 += tn_block_n) {
    const int64_t block_n = N - n0 < tn_block_n ? N - n0 : tn_block_n;
    for (int64_t r0 = 0; r0 < R; r0 += tn_block_r) {
      const int64_t block_r = R - r0 < tn_block_r ? R - r0 : tn_block_r;
      T* packed_b = scratch;
      T* packed_a = scratch + packed_size<T>(block_r, block_n);
      pack<T>(B + r0 * ldb + n0, ldb, 1, block_r, block_n, packed_b);
      for (int64_t m0 = 0; m0 < M; m0 += tn_block_m) {
        const int64_t block_m = M - m0 < tn_block_m ? M - m0 : tn_block_m;
        pack_tiles<T>(block_r, block_m, A + r0 * lda + m0, lda, packed_a);
        gemm_tn_block<T>(block_m, block_n, block_r, packed_a, packed_b, C + m0 * ldc + n0, ldc, accumulate || r0 > 0);
      }
    }
  }
}

// Twelve chains of vectors: enough to hide the latency of a multiply-add on every machine we know.
template <class T>
double fma_loop(int64_t iterations) {
  constexpr int chains = 12;
  Vec<T> sum[chains];
  for (int i = 0; i < chains; ++i) sum[i] = splat<T>(T(i));
  Vec<T> a = splat<T>(T(0.5)), b = splat<T>(T(0.25));
  asm volatile("" : "+m"(a), "+m"(b));
  for (int64_t k = 0; k < iterations; ++k)
#pragma GCC unroll 16
    for (int i = 0; i < chains; ++i) sum[i] = sum[i] * a + b;
  for (int i = 1; i < chains; ++i) sum[0] += sum[i];
  asm volatile("" : : "m"(sum[0]));
  return double(iterations) * chains * lanes<T> * 2;
}

}  // namespace
}  // namespace unspool
