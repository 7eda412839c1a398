// Speed of the kernels on one thread: products as a share of the measured peak, functions in nanoseconds per element.
// usage: [UNSPOOL_ISA=...] bench_kernels [gemm|tn|functions]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "isa.hpp"

using namespace unspool;

namespace {

using Buffer = std::unique_ptr<float[], decltype(&std::free)>;

Buffer random_buffer(int64_t size) {
  Buffer buffer(static_cast<float*>(std::aligned_alloc(64, (size * sizeof(float) + 63) / 64 * 64)), &std::free);
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (int64_t i = 0; i < size; ++i) buffer[i] = uniform(random);
  return buffer;
}

// Seconds of one call: the best of several batches, because whatever else the machine does only ever makes it slower.
double seconds_of(const std::function<void()>& call) {
  using clock = std::chrono::steady_clock;
  const auto time = [&](int repetitions) {
    const auto from = clock::now();
    for (int i = 0; i < repetitions; ++i) call();
    return std::chrono::duration<double>(clock::now() - from).count() / repetitions;
  };
  call();
  const int repetitions = std::max(1, int(2e-3 / std::max(time(1), 1e-7)));
  double best = 1e9;
  for (int batch = 0; batch < 25; ++batch) best = std::min(best, time(repetitions));
  return best;
}

// The clock of a shared machine moves: measure the peak beside each product.
void report(const char* what, int64_t M, int64_t K, int64_t N, const std::function<void()>& call) {
  double peak = measure_peak_gflops(0.01);
  const double gflops = 2e-9 * double(M * K * N) / seconds_of(call);
  peak = std::max(peak, measure_peak_gflops(0.01));
  std::printf("%s M=%-5ld K=%-5ld N=%-5ld %7.1f GFLOP/s of %6.1f: %5.1f %%\n", what, long(M), long(K), long(N), gflops,
              peak, 100 * gflops / peak);
}

void bench_gemm() {
  const Kernels<float>& k = kernels<float>();
  const int64_t shapes[][2] = {{28, 1024}, {128, 512}, {256, 768}, {256, 1024}, {512, 1536}, {512, 2048}, {1024, 4096}};
  for (const auto& [K, N] : shapes)
    for (int64_t M : {1, 4, 8, 16, 32, 64}) {
      Buffer a = random_buffer(M * K), w = random_buffer(K * N), c = random_buffer(M * N);
      Buffer packed = random_buffer(k.packed_size(K, N));
      k.pack(w.get(), N, 1, K, N, packed.get());
      report("gemm   ", M, K, N, [&] { k.gemm(M, N, K, a.get(), K, packed.get(), w.get(), 0, c.get(), N, 0, N); });
    }
}

void bench_tn() {
  const Kernels<float>& k = kernels<float>();
  const int64_t shapes[][3] = {
      {512, 128, 2048}, {1024, 256, 1792}, {2048, 512, 1600}, {512, 28, 1792}, {128, 512, 256}};
  for (const auto& [M, N, R] : shapes) {
    Buffer a = random_buffer(R * M), b = random_buffer(R * N), c = random_buffer(M * N);
    Buffer scratch = random_buffer(k.gemm_tn_scratch(M, N, R));
    report("gemm_tn", M, R, N, [&] { k.gemm_tn(M, N, R, a.get(), M, b.get(), N, c.get(), N, true, scratch.get()); });
  }
}

template <class T>
void bench_functions(const char* type) {
  const Kernels<T>& k = kernels<T>();
  const int64_t size = 4096;
  std::vector<T> a(size), b(size), out(size);
  std::mt19937 random(1);
  std::normal_distribution<T> normal(0, 2);
  for (int64_t i = 0; i < size; ++i) a[i] = normal(random), b[i] = normal(random);
  const std::pair<const char*, Unary> functions[] = {
      {"exp", Unary::exp},     {"tanh", Unary::tanh},   {"sigmoid", Unary::sigmoid}, {"log", Unary::log},
      {"log1p", Unary::log1p}, {"expm1", Unary::expm1}, {"erf", Unary::erf},         {"gelu", Unary::gelu},
      {"silu", Unary::silu},   {"relu", Unary::relu},   {"sqrt", Unary::sqrt},       {"sin", Unary::sin}};
  const Source<T> source{a.data(), size, Operand::full}, other{b.data(), size, Operand::full};
  for (const auto& [name, op] : functions) {
    const double s = seconds_of([&, op = op] { k.unary(op, 1, size, out.data(), size, source, 0, 0); });
    std::printf("%s %-8s %6.3f ns per element\n", type, name, s / double(size) * 1e9);
  }
  const double s = seconds_of([&] { k.binary(Binary::mul, 1, size, out.data(), size, source, other); });
  std::printf("%s %-8s %6.3f ns per element\n", type, "mul", s / double(size) * 1e9);
}

}  // namespace

int main(int count, char** arguments) {
  const auto wanted = [&](const char* part) { return count < 2 || std::strcmp(arguments[1], part) == 0; };
  std::printf("instruction set %s, peak %.1f GFLOP/s on one thread\n", active_isa().c_str(), measure_peak_gflops(0.2));
  if (wanted("gemm")) bench_gemm();
  if (wanted("tn")) bench_tn();
  if (wanted("functions")) bench_functions<float>("float"), bench_functions<double>("double");
}
