// The math policy of the device's cells: csrc/simd's, one lane wide, so that activations are the CPU's polynomials bit
// for bit: IEEE operations and fused multiply-adds only, no fast-math. Bounds: simd/exp.hpp.
#pragma once

#include "hw/device.cuh"

#define FUSEDRNN_ISA cuda
#define FUSEDRNN_ISA_SCALAR
#include "simd/quotient.hpp"

namespace fusedrnn::cuda {

// The bits of the division without its branches, which would keep a compiler from working on several units at a time:
// a Newton step, and a remainder that is exact, of subnormal quotients too. That it is so for every v, however the
// hardware's reciprocal errs, tests/simt/test_activations.cpp shows.
template <>
struct Quotient<float> {
  FR_INLINE static float of(float power, float v) { return refined(power, v, hw::reciprocal(v)); }

  // From r, within an ulp of 1 / v.
  FR_INLINE static float refined(float power, float v, float r) {
    r = Lanes<float>::fma(Lanes<float>::fma(-v, r, 1.0f), r, r);
    const float q = power * r;
    return Lanes<float>::fma(Lanes<float>::fma(-v, q, power), r, q);
  }
};

}  // namespace fusedrnn::cuda

#include "simd/math.hpp"
