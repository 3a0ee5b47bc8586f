// The kernels of AVX-512 over the engine of tile registers (gemm/engine_amx.hpp), its tiles emulated: all of that
// engine but the instructions themselves.
#pragma once

#include "backend/backend.hpp"

struct TileProbe {
  const char* name;
  const char* (*status_text)();
  const fusedrnn::SequenceOps* sequence;  // of bf16, bf16x3 and bf16x6
  const fusedrnn::DenseOps* dense;        // products alone
  int (*misuses)();                       // of the tiles: instructions that would have failed or read what is not there
};

extern "C" {
extern const TileProbe fusedrnn_tile_probe;
}
