#include "products.hpp"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>

#include "isa.hpp"
#include "thread_pool.hpp"

namespace unspool {
namespace {

constexpr int64_t kRows = 64;      // of x at a time: their products with all of W are taken while they are in cache
constexpr int64_t kColumns = 32;   // parts of a weight gradient begin at multiples of this
constexpr int64_t kLine = 64;      // bytes

void require(bool good, const char* what) {
  if (!good) throw std::invalid_argument(std::string("engine: ") + what);
}

template <class T>
class Aligned {
 public:
  explicit Aligned(int64_t n) : memory_(new T[static_cast<size_t>(n) + kLine / sizeof(T)]) {}
  T* data() {
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    return memory_.get() + (kLine - address % kLine) % kLine / sizeof(T);
  }

 private:
  std::unique_ptr<T[]> memory_;
};

}  // namespace

template <class T>
void multiply(const Array<T>& x, const Weight<T>& weight, const Array<T>& init, const Array<T>& out, int threads) {
  require(threads >= 1 && x.width == weight.K && out.width == weight.N && out.rows == x.rows,
          "shapes of a product do not fit together");
  require(init.rows == 0 || (init.width == weight.N && (init.rows == 1 || init.rows == x.rows)),
          "what a product is added to has another shape");
  if (x.rows == 0) return;  // shapes without elements may be absurd
  const auto& table = kernels<T>();
  Aligned<T> packed(table.packed_size(weight.K, weight.N));
  T* const w = packed.data();
  table.pack(weight.data, weight.stride_k, weight.stride_n, weight.K, weight.N, w);
  const int64_t portions = (x.rows + kRows - 1) / kRows;
  parallel_for(static_cast<int>(portions), threads, [&](int portion) {
    const int64_t r = portion * kRows, n = std::min(kRows, x.rows - r);
    const bool one = init.rows == 1 && x.rows != 1;
    const T* from = init.rows == 0 ? nullptr : one ? init.data : init.data + r * init.stride;
    table.gemm(n, weight.N, weight.K, x.data + r * x.stride, x.stride, w, from, one ? 0 : init.stride,
               out.data + r * out.stride, out.stride, 0, weight.N);
  });
}

template <class T>
void multiply_transposed(const Array<T>& a, const Array<T>& b, const Array<T>& out, int threads) {
  require(threads >= 1 && a.rows == b.rows && out.rows == a.width && out.width == b.width,
          "shapes of a product do not fit together");
  const auto& table = kernels<T>();
  const int64_t units = (a.width + kColumns - 1) / kColumns;
  const int parts = static_cast<int>(std::min<int64_t>(threads, std::max<int64_t>(units, 1)));
  parallel_for(parts, threads, [&](int part) {
    const int64_t m0 = units * part / parts * kColumns;
    const int64_t m = std::min(a.width, units * (part + 1) / parts * kColumns) - m0;
    if (m <= 0) return;
    Aligned<T> scratch(table.gemm_tn_scratch(m, b.width, a.rows));
    table.gemm_tn(m, b.width, a.rows, a.data + m0, a.stride, b.data, b.stride, out.data + m0 * out.stride, out.stride,
                  false, scratch.data());
  });
}

template void multiply(const Array<float>&, const Weight<float>&, const Array<float>&, const Array<float>&, int);
template void multiply(const Array<double>&, const Weight<double>&, const Array<double>&, const Array<double>&, int);
template void multiply_transposed(const Array<float>&, const Array<float>&, const Array<float>&, int);
template void multiply_transposed(const Array<double>&, const Array<double>&, const Array<double>&, int);

}  // namespace unspool
