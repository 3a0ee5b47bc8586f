// The math policy of the device's cells: csrc/simd's, one lane wide, so that activations are the CPU's polynomials bit
// for bit: IEEE operations and fused multiply-adds only, no fast-math, no approximate division. Bounds: simd/exp.hpp.
#pragma once

#define FUSEDRNN_ISA cuda
#define FUSEDRNN_ISA_SCALAR
#include "simd/math.hpp"
