// Loops whose speed is a limit, with the package's own lanes: compiled once per instruction set, like the kernels.
#include <stdint.h>

#include "bare_loop.hpp"
#include "cells/lstm.hpp"
#include "gemm/microkernel_fma.hpp"
#include "simd/math.hpp"

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

constexpr int kVectors = 4, kRows = tile_rows<kVectors>();

// Rows of A are the first ones of the panels: in the first-level cache after the first panel.
void tile(const float* panels, int64_t count, float* into) {
  const float* rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = panels + r * kChunk;
  for (int64_t p = 0; p < count; ++p)
    Dot<float, false>::run<kRows, kVectors>(kChunk, rows, 0, panels + p * kChunk * kVectors * L::N, into, panels);
}

// gates: for each vector what i f g o get from x, from h, and c.
void lstm(const float* gates, float* out, int64_t vectors) {
  for (int64_t i = 0; i < vectors; ++i, gates += 9 * L::N, out += 6 * L::N) {
    L::V x[4], h[4], c, tape[4];
    for (int g = 0; g < 4; ++g) {
      x[g] = L::load(gates + g * L::N);
      h[g] = L::load(gates + (4 + g) * L::N);
    }
    L::store(out, Lstm<Math<float>>::forward(x, h, L::load(gates + 8 * L::N), c, tape));
    L::store(out + L::N, c);
    for (int g = 0; g < 4; ++g) L::store(out + (2 + g) * L::N, tape[g]);
  }
}

constexpr int64_t kPanel = kChunk * kVectors * L::N;

}  // namespace fusedrnn::FUSEDRNN_ISA

namespace {
namespace isa = fusedrnn::FUSEDRNN_ISA;
}
extern "C" const BareLoops ROOFLINE_NAME(roofline_, FUSEDRNN_ISA);
const BareLoops ROOFLINE_NAME(roofline_, FUSEDRNN_ISA) = {
    isa::kChains * isa::L::N,
    isa::multiply_add,
    isa::read,
    isa::update,
    {isa::kPanel, isa::kPanel* isa::kRows, isa::tile, isa::L::N, isa::lstm}};
