// Rates of bfloat16 from registers: tiles of AMX, and VDPBF16PS of AVX512_BF16. Compiled where the compiler has both
// (roofline.py), run where the processor has the one that is asked for.
#include <immintrin.h>
#include <stdint.h>

namespace {

struct alignas(64) Configuration {
  uint8_t palette, start_row, reserved[14];
  uint16_t bytes_of_row[16];
  uint8_t rows[16];
};

}  // namespace

// steps times four products of 16 x 16 x 32 into tiles of their own, as the kernels have them; of rows that are zero,
// which take as long as others.
extern "C" void roofline_tile_steps(int64_t steps) {
  Configuration c = {};
  c.palette = 1;
  for (int t = 0; t < 8; ++t) {
    c.rows[t] = 16;
    c.bytes_of_row[t] = 64;
  }
  __asm__ volatile("ldtilecfg %0" : : "m"(c) : "memory");
  for (int64_t step = 0; step < steps; ++step)
    __asm__ volatile(
        "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\ttdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"
        "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3"
        :
        :
        : "memory");
  __asm__ volatile("tilerelease" : : : "memory");
}

// steps times twelve VDPBF16PS, 32 multiply-adds each. Returns a sum, so that none is left out.
extern "C" float roofline_dot_steps(int64_t steps) {
  constexpr int kChains = 12;
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1.0f), _mm512_set1_ps(0.5f));
  __m512 sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      sum[i] = _mm512_dpbf16_ps(sum[i], a, a);
      __asm__("" : "+v"(sum[i]));
    }
  }
  for (int i = 1; i < kChains; ++i) sum[0] = _mm512_add_ps(sum[0], sum[i]);
  return _mm512_reduce_add_ps(sum[0]);
}
