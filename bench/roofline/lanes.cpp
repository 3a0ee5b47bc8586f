// Loops whose speed is a limit, with the package's own lanes: compiled once per instruction set, like the kernels.
#include <stdint.h>

#include "bare_loop.hpp"
#include "simd/lanes.hpp"

#define ROOFLINE_JOIN(a, b) a##b
#define ROOFLINE_NAME(a, b) ROOFLINE_JOIN(a, b)

namespace fusedrnn::FUSEDRNN_ISA {

using L = Lanes<float>;
constexpr int kChains =
    12;  // independent sums: more than latency times units of any core we know, fewer than registers

// steps * kChains * N fused multiply-adds from registers. Returns a sum, so that none is left out.
float multiply_add(int64_t steps) {
  const L::V a = L::set(1.0f - 1e-7f), b = L::set(1e-7f);
  L::V sum[kChains];
  for (int c = 0; c < kChains; ++c) sum[c] = L::set(static_cast<float>(c));
  for (int64_t step = 0; step < steps; ++step)
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sum[c] = L::fma(sum[c], a, b);
  for (int c = 1; c < kChains; ++c) sum[0] = sum[0] + sum[c];
  float out[L::N];
  L::store(out, sum[0]);
  return out[0];
}

// Reads count floats, a multiple of kReadStep. Eight sums: enough for the additions to hide behind the loads.
float read(const float* p, int64_t count) {
  L::V sum[8];
  for (int c = 0; c < 8; ++c) sum[c] = L::zero();
  for (int64_t i = 0; i < count; i += 8 * L::N)
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) sum[c] = sum[c] + L::load(p + i + c * L::N);
  for (int c = 1; c < 8; ++c) sum[0] = sum[0] + sum[c];
  float out[L::N];
  L::store(out, sum[0]);
  return out[0];
}

// What an optimizer cannot do without: every gradient read, and with it parameter and states, which are written.
// Nothing changes, for zero is 0; the compiler does not know. Asks for lines ahead, as the optimizers do: without, this
// loop is the slower one.
template <int States>
void touch(const BareArrays& a, int64_t first, int64_t last, float zero) {
  constexpr int64_t kLine = 16, kAhead = 1024;
  const L::V z = L::set(zero);
  float* const array[3] = {a.param, a.state[0], a.state[1]};
  int64_t i = first;
  for (; i + kLine <= last; i += kLine) {
    __builtin_prefetch(a.grad + i + kAhead);
    for (int k = 0; k <= States; ++k) __builtin_prefetch(array[k] + i + kAhead, 1);
    for (int64_t v = i; v < i + kLine; v += L::N) {
      const L::V g = L::load(a.grad + v);
      for (int k = 0; k <= States; ++k) L::store(array[k] + v, L::fma(g, z, L::load(array[k] + v)));
    }
  }
  for (; i < last; ++i)
    for (int k = 0; k <= States; ++k) array[k][i] += a.grad[i] * zero;
}

void update(const BareArrays& a, int64_t first, int64_t last, float zero) {
  a.states == 0   ? touch<0>(a, first, last, zero)
  : a.states == 1 ? touch<1>(a, first, last, zero)
                  : touch<2>(a, first, last, zero);
}

}  // namespace fusedrnn::FUSEDRNN_ISA

extern "C" const BareLoops ROOFLINE_NAME(roofline_, FUSEDRNN_ISA);
const BareLoops ROOFLINE_NAME(roofline_, FUSEDRNN_ISA) = {
    fusedrnn::FUSEDRNN_ISA::kChains * fusedrnn::FUSEDRNN_ISA::L::N, fusedrnn::FUSEDRNN_ISA::multiply_add,
    fusedrnn::FUSEDRNN_ISA::read, fusedrnn::FUSEDRNN_ISA::update};
