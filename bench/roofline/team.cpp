// The limits of this machine, measured on the package's own thread team (csrc/runtime), as a library for roofline.py.
// Every figure is the best of several trials: a limit, not an average of the machine's noise.
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "bare_loop.hpp"
#include "runtime/team.hpp"
#include "runtime/threads.hpp"

#define ROOFLINE_API extern "C" __attribute__((visibility("default")))

extern "C" {
extern const BareLoops roofline_scalar;
#if defined(__x86_64__)
extern const BareLoops roofline_avx2, roofline_avx512;
#elif defined(__aarch64__)
extern const BareLoops roofline_neon;
#endif
}

namespace {

using fusedrnn::Barrier;
using fusedrnn::Team;
using fusedrnn::TeamLease;

volatile float sink;

const BareLoops* loops_of(const char* isa) {
  if (std::strcmp(isa, "scalar") == 0) return &roofline_scalar;
#if defined(__x86_64__)
  if (std::strcmp(isa, "avx2") == 0) return &roofline_avx2;
  if (std::strcmp(isa, "avx512") == 0) return &roofline_avx512;
#elif defined(__aarch64__)
  if (std::strcmp(isa, "neon") == 0) return &roofline_neon;
#endif
  return nullptr;
}

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// body(thread) on that many threads of a team.
template <class Body>
void on_all(Team* team, int32_t threads, const Body& body) {
  team->parallel(
      team, threads, [](void* context, int32_t i) { (*static_cast<const Body*>(context))(i); },
      const_cast<Body*>(&body));
}

// Seconds of the fastest of `trials` calls of body(thread) on all threads.
template <class Body>
double best_of(int trials, int32_t threads, const Body& body) {
  fusedrnn::set_num_threads(threads);
  TeamLease lease;
  double best = 1e30;
  for (int trial = 0; trial < trials; ++trial) {
    const double start = seconds();
    on_all(lease.team(), lease.size(), body);
    best = std::min(best, seconds() - start);
  }
  return best;
}

// Floats on pages as large as the system gives.
class Buffer {
 public:
  explicit Buffer(int64_t count) {
    constexpr size_t kPage = size_t{2} << 20;
    const size_t bytes = (static_cast<size_t>(count) * sizeof(float) + kPage - 1) / kPage * kPage;
    data_ = static_cast<float*>(std::aligned_alloc(kPage, bytes));
    if (data_ == nullptr) return;
    madvise(data_, bytes, MADV_HUGEPAGE);
    for (size_t i = 0; i < bytes / sizeof(float); ++i) data_[i] = 1e-3f * static_cast<float>(i % 1000);
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  float* data() const { return data_; }

 private:
  float* data_;
};

}  // namespace

// GFLOP/s of float32 fused multiply-adds, all threads together; 0 for an instruction set that does not exist here.
ROOFLINE_API double roofline_fma(const char* isa, int32_t threads) {
  const BareLoops* loops = loops_of(isa);
  if (loops == nullptr) return 0;
  int64_t steps = 1000;
  while (best_of(1, threads, [&](int32_t) { sink = loops->multiply_add(steps); }) < 2e-3) steps *= 2;
  const double spent = best_of(40, threads, [&](int32_t) { sink = loops->multiply_add(steps); });
  return 2e-9 * static_cast<double>(loops->multiply_adds * steps * threads) / spent;
}

#if defined(ROOFLINE_HAS_BF16)
extern "C" void roofline_tile_steps(int64_t steps);
extern "C" void roofline_dot_steps(int64_t steps);
#endif

// GFLOP/s of bfloat16 by tiles, or by VDPBF16PS, all threads together; 0 where the compiler has neither. The processor
// must have what is asked for.
ROOFLINE_API double roofline_bf16(int32_t tiles, int32_t threads) {
#if defined(ROOFLINE_HAS_BF16)
  int64_t steps = 1000;
  const auto body = [&](int32_t) { tiles ? roofline_tile_steps(steps) : roofline_dot_steps(steps); };
  while (best_of(1, threads, body) < 2e-3) steps *= 2;
  const double multiply_adds = tiles ? 4.0 * 16 * 16 * 32 : 12.0 * 32;
  return 2e-9 * multiply_adds * static_cast<double>(steps * threads) / best_of(40, threads, body);
#else
  static_cast<void>(tiles), static_cast<void>(threads);
  return 0;
#endif
}

// GB/s of reading, all threads together, each its own `bytes` again and again; 0 where there is no memory for it.
ROOFLINE_API double roofline_read(const char* isa, int64_t bytes, int32_t threads) {
  const BareLoops* loops = loops_of(isa);
  const int64_t count = std::max(bytes / 4 / kReadStep, int64_t{1}) * kReadStep;
  const Buffer buffer(count * threads);
  if (loops == nullptr || buffer.data() == nullptr) return 0;
  int64_t repeats = 1;
  const auto body = [&](int32_t thread) {
    for (int64_t r = 0; r < repeats; ++r) sink = loops->read(buffer.data() + thread * count, count);
  };
  while (best_of(1, threads, body) < 2e-3) repeats *= 2;
  return 1e-9 * static_cast<double>(count * 4 * repeats * threads) / best_of(repeats > 1 ? 40 : 12, threads, body);
}

// GFLOP/s of one thread's register tile over packed panels of so many bytes, again and again.
ROOFLINE_API double roofline_tile(const char* isa, int64_t bytes) {
  const BareLoops* loops = loops_of(isa);
  if (loops == nullptr) return 0;
  const Pieces& pieces = loops->pieces;
  const int64_t count = std::max(bytes / 4 / pieces.panel, int64_t{1});
  const Buffer panels(count * pieces.panel), into(pieces.panel);
  if (panels.data() == nullptr || into.data() == nullptr) return 0;
  int64_t repeats = 1;
  const auto body = [&](int32_t) {
    for (int64_t r = 0; r < repeats; ++r) pieces.tile(panels.data(), count, into.data());
  };
  while (best_of(1, 1, body) < 2e-3) repeats *= 2;
  return 2e-9 * static_cast<double>(pieces.panel_multiply_adds * count * repeats) / best_of(40, 1, body);
}

// Seconds of an LSTM's forward cell for one unit of one row, on one thread; gates in the first-level cache.
ROOFLINE_API double roofline_lstm(const char* isa) {
  constexpr int64_t kVectors = 16;
  const BareLoops* loops = loops_of(isa);
  if (loops == nullptr) return 0;
  const Pieces& pieces = loops->pieces;
  const Buffer gates(9 * kVectors * pieces.lanes), out(6 * kVectors * pieces.lanes);
  if (gates.data() == nullptr || out.data() == nullptr) return 0;
  int64_t repeats = 1;
  const auto body = [&](int32_t) {
    for (int64_t r = 0; r < repeats; ++r) pieces.lstm(gates.data(), out.data(), kVectors);
  };
  while (best_of(1, 1, body) < 2e-3) repeats *= 2;
  return best_of(40, 1, body) / static_cast<double>(repeats * kVectors * pieces.lanes);
}

// Seconds of a barrier among threads that arrive together.
ROOFLINE_API double roofline_barrier(int32_t threads) {
  constexpr int kTimes = 2000;
  Barrier barrier{};
  fusedrnn::set_num_threads(threads);
  TeamLease lease;
  double best = 1e30;
  for (int trial = 0; trial < 20; ++trial) {
    double spent = 0;
    on_all(lease.team(), lease.size(), [&](int32_t thread) {
      lease.team()->wait(lease.team(), &barrier, lease.size());
      const double start = seconds();
      for (int i = 0; i < kTimes; ++i) lease.team()->wait(lease.team(), &barrier, lease.size());
      if (thread == 0) spent = seconds() - start;
    });
    best = std::min(best, spent / kTimes);
  }
  return best;
}

// Seconds from the call of a parallel region that does nothing to its return, workers awake.
ROOFLINE_API double roofline_fork(int32_t threads) {
  constexpr int kTimes = 1000;
  fusedrnn::set_num_threads(threads);
  TeamLease lease;
  double best = 1e30;
  for (int trial = 0; trial < 20; ++trial) {
    const double start = seconds();
    for (int i = 0; i < kTimes; ++i) on_all(lease.team(), lease.size(), [](int32_t) {});
    best = std::min(best, (seconds() - start) / kTimes);
  }
  return best;
}

// One bare optimizer step over `arrays`: with `norm` a pass that reads all gradients, then a pass that reads gradients
// and reads and writes the rest, each shared out over the threads in one piece of consecutive elements.
ROOFLINE_API void roofline_update(const char* isa, const BareArrays* arrays, int64_t count, int32_t norm,
                                  int32_t threads) {
  const BareLoops* loops = loops_of(isa);
  if (loops == nullptr) return;
  int64_t total = 0;
  for (int64_t a = 0; a < count; ++a) total += arrays[a].count;
  fusedrnn::set_num_threads(threads);
  TeamLease lease;
  const int32_t n = lease.size();
  const auto pieces = [&](int32_t thread, auto&& visit) {
    int64_t first = total / n * thread / 16 * 16;
    int64_t last = thread + 1 == n ? total : total / n * (thread + 1) / 16 * 16;
    for (int64_t a = 0; a < count && last > 0; ++a) {
      if (first < std::min(last, arrays[a].count)) visit(arrays[a], first, std::min(last, arrays[a].count));
      first = std::max(first - arrays[a].count, int64_t{0});
      last -= arrays[a].count;
    }
  };
  if (norm != 0) {
    on_all(lease.team(), n, [&](int32_t thread) {
      pieces(thread, [&](const BareArrays& a, int64_t first, int64_t last) {
        sink = loops->read(a.grad + first, (last - first) / kReadStep * kReadStep);
      });
    });
  }
  on_all(lease.team(), n, [&](int32_t thread) {
    pieces(thread, [&](const BareArrays& a, int64_t first, int64_t last) { loops->update(a, first, last, 0.0f); });
  });
}
