// Limits of this machine, measured: fused multiply-adds from registers, and streaming memory bandwidth.
//
//   roofline THREADS   prints: <float FMA GFLOP/s, all threads> <memory GB/s of a[i] = b[i] + s * c[i], all threads>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
using Lanes = float __attribute__((vector_size(kBytes)));
constexpr int kWidth = kBytes / sizeof(float);
constexpr int kChains = 12;  // enough independent chains to hide the latency of an FMA on two ports
constexpr int kSteps = 4000;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The best of many short trials: the limit of the machine, not the average of its noise.
double best_of(int trials, int threads, const std::function<void(int)>& body) {
  double best = 1e30;
  for (int trial = 0; trial < trials; ++trial) {
    std::vector<std::thread> team;
    const double start = seconds();
    for (int i = 1; i < threads; ++i) team.emplace_back(body, i);
    body(0);
    for (auto& thread : team) thread.join();
    const double spent = seconds() - start;
    if (spent < best) best = spent;
  }
  return best;
}

double fma_gflops(int threads) {
  constexpr int kRepeats = 500;
  std::vector<float> sink(threads * 64);
  const double spent = best_of(15, threads, [&](int index) {
    Lanes sum[kChains];
    Lanes a, b;
    for (int i = 0; i < kWidth; ++i) a[i] = 1.0f - 1e-7f, b[i] = 1e-7f;
    for (int c = 0; c < kChains; ++c) sum[c] = b * static_cast<float>(c);
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
      for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; ++c) sum[c] = sum[c] * a + b;
      }
      asm volatile("" ::: "memory");
    }
    float total = 0;
    for (int c = 0; c < kChains; ++c) total += sum[c][0];
    sink[index * 64] = total;
  });
  return 2e-9 * kWidth * kChains * kSteps * kRepeats * threads / spent;
}

double memory_gbytes(int threads) {
  constexpr size_t kSize = size_t{16} << 20;  // elements: 64 MiB an array, far beyond any cache of a desktop
  std::vector<float> a(kSize), b(kSize, 1.0f), c(kSize, 2.0f);
  const double spent = best_of(8, threads, [&](int index) {
    const size_t first = kSize / threads * index, last = kSize / threads * (index + 1);
    for (size_t i = first; i < last; ++i) a[i] = b[i] + 3.0f * c[i];
    asm volatile("" : : "r"(a.data()) : "memory");
  });
  return 3e-9 * sizeof(float) * kSize / spent;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  if (threads < 1) {
    std::fprintf(stderr, "usage: roofline THREADS, a number of at least 1\n");
    return 2;
  }
  std::printf("%.1f %.2f\n", fma_gflops(threads), memory_gbytes(threads));
  return 0;
}
