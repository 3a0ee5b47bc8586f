// The register tile of one ISA (gemm/microkernel_fma.hpp), as the native tests see it.
#pragma once

#include <cstdint>

struct GemmProbe {
  const char* isa;
  int lanes32, lanes64;

  // Rows of the tallest tile when panels have `panel` <= 4 vectors.
  int (*tile_rows)(int panel);

  // The kernel that a tile of `rows` x `vectors` gets where full panels have `panel` vectors; with `ahead` the one that
  // asks for memory ahead.
  void (*tile32)(int panel, int rows, int vectors, int64_t K, const float* const* a, const float* b, float* tile,
                 bool ahead);
  void (*tile64)(int panel, int rows, int vectors, int64_t K, const double* const* a, const double* b, double* tile,
                 bool ahead);
};

extern "C" {
extern const GemmProbe fusedrnn_gemm_probe_scalar, fusedrnn_gemm_probe_avx2, fusedrnn_gemm_probe_avx512,
    fusedrnn_gemm_probe_neon;
}
