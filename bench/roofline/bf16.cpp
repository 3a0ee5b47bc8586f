// Rates of bfloat16 from registers: tiles of AMX, and VDPBF16PS of AVX512_BF16. Compiled where the compiler has both
// (roofline.py), run where the processor has the one that is asked for.
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

// steps times twelve VDPBF16PS, 32 multiply-adds each, of zeros. In assembly: GCC 12 keeps an array of sums that such
// instructions add to in memory, which halves their rate.
extern "C" void roofline_dot_steps(int64_t steps) {
#define ROOFLINE_TWELVE(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11)
#define ROOFLINE_ZERO(i) "vpxor %%xmm" #i ", %%xmm" #i ", %%xmm" #i "\n\t"
#define ROOFLINE_DOT(i) "vdpbf16ps %%zmm12, %%zmm12, %%zmm" #i "\n\t"
  __asm__ volatile(ROOFLINE_TWELVE(ROOFLINE_ZERO)
                       ROOFLINE_ZERO(12) "1:\n\t" ROOFLINE_TWELVE(ROOFLINE_DOT) "dec %0\n\tjnz 1b"
                   : "+r"(steps)
                   :
                   : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                     "xmm12", "cc");
}
