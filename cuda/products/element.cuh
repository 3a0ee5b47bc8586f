// What operands of products are stored as, and where each rounding happens.
//
// x, y, states, parameters and gradients are of the accumulator type C at the API: float, or double for float64. The
// element type E of a precision is what the operands of matrix products are kept in. A value is rounded to E once, to
// nearest with ties to even, when it is stored as an operand:
//
//   packed weights    W and R (and their transposes), by `pack`; biases stay C
//   xs                a layer's input, by `stage`: x of layer 0; h of the layer below, which has been rounded already,
//                     times dropout's scale where there is dropout (the product is rounded again)
//   before            the state that meets R: h0, or h of the step before, by the step that computed it
//   hidden            h that the layer above reads, likewise
//   dgates            gradients of pre-activations, by the step that computed them; db sums these rounded values
//
// All else is C: products of two E are exact or rounded once into a sum of C, x W + b_ih, h R + b_hh, gates, c, the
// GRU's direct path through h (it takes h unrounded), the tape's gates and states, dh, dc, dX, dW, dR, db; y, hn and cn
// are h and c before they are rounded. For float32 ieee and float64, E is C and nothing is rounded.
//
// tf32x3 makes float32 out of tf32: an operand is the sum of a big tf32 and a small one, and a product is small * big +
// big * small + big * big. Left out is small * small, at most 2^-22 of the product.
#pragma once

#include "hw/device.cuh"

namespace fusedrnn::cuda {

using hw::Bf16;
using hw::Fp16;

// A float whose low 13 bits are zero.
struct Tf32 {
  float value;
};

// A float of 23 digits, its lowest bit zero. Such a one is exactly the sum of two tf32: what rounding it to tf32 leaves
// has 11 digits, but where it is subnormal. Beyond 2^128 (1 - 2^-12), infinities too, it is NaN.
struct Tf32x3 {
  float value;
};

enum class Element : int32_t { f32 = 0, f64, tf32, bf16, fp16, tf32x3 };

template <class E>
struct ElementTraits {
  using C = E;
  static constexpr Element kElement = sizeof(E) == 8 ? Element::f64 : Element::f32;
  FR_DEVICE static C widen(E e) { return e; }
  FR_DEVICE static E narrow(C c) { return c; }
};

template <>
struct ElementTraits<Tf32> {
  using C = float;
  static constexpr Element kElement = Element::tf32;
  FR_DEVICE static float widen(Tf32 e) { return e.value; }
  FR_DEVICE static Tf32 narrow(float c) {
    const uint32_t bits = hw::to_tf32(c);
    Tf32 e;
    __builtin_memcpy(&e, &bits, sizeof e);
    return e;
  }
};

template <>
struct ElementTraits<Tf32x3> {
  using C = float;
  static constexpr Element kElement = Element::tf32x3;
  FR_DEVICE static float widen(Tf32x3 e) { return e.value; }
  FR_DEVICE static Tf32x3 narrow(float c) {
    if (c != c) return {c};
    uint32_t bits;
    __builtin_memcpy(&bits, &c, sizeof bits);
    bits = (bits + (bits >> 1 & 1u)) & ~1u;  // ties to even: half of all numbers are ties
    Tf32x3 e;
    __builtin_memcpy(&e, &bits, sizeof e);
    return e;
  }
};

template <>
struct ElementTraits<Bf16> {
  using C = float;
  static constexpr Element kElement = Element::bf16;
  FR_DEVICE static float widen(Bf16 e) { return hw::to_float(e); }
  FR_DEVICE static Bf16 narrow(float c) { return hw::to_bf16(c); }
};

template <>
struct ElementTraits<Fp16> {
  using C = float;
  static constexpr Element kElement = Element::fp16;
  FR_DEVICE static float widen(Fp16 e) { return hw::to_float(e); }
  FR_DEVICE static Fp16 narrow(float c) { return hw::to_fp16(c); }
};

// The accumulator type that goes with E.
template <class E>
using Accumulator = typename ElementTraits<E>::C;

template <class E>
FR_DEVICE Accumulator<E> widen(E e) {
  return ElementTraits<E>::widen(e);
}

template <class E>
FR_DEVICE E narrow(Accumulator<E> c) {
  return ElementTraits<E>::narrow(c);
}

// The two tf32 that a Tf32x3, given by its bits, is the sum of.
struct Halves {
  uint32_t big, small;
};
FR_DEVICE Halves split(uint32_t bits) {
  float value, big, small;
  __builtin_memcpy(&value, &bits, sizeof value);
  Halves halves;
  halves.big = hw::to_tf32(value);
  __builtin_memcpy(&big, &halves.big, sizeof big);
  small = value - big;
  __builtin_memcpy(&halves.small, &small, sizeof small);
  return halves;
}

constexpr int64_t bytes_of(Element e) {
  return e == Element::f64 ? 8 : e == Element::bf16 || e == Element::fp16 ? 2 : 4;
}
inline int64_t accumulator_bytes(Element e) { return e == Element::f64 ? 8 : 4; }

// Elements of a row that starts where 16-byte copies can.
inline int64_t aligned_pitch(Element e, int64_t elements) {
  const int64_t vector = 16 / bytes_of(e);
  return (elements + vector - 1) / vector * vector;
}

// run(E()) for an element type.
template <class Run>
auto with_element(Element e, Run&& run) {
  switch (e) {
    case Element::f64:
      return run(double());
    case Element::tf32:
      return run(Tf32());
    case Element::bf16:
      return run(Bf16());
    case Element::fp16:
      return run(Fp16());
    case Element::tf32x3:
      return run(Tf32x3());
    case Element::f32:
      break;
  }
  return run(float());
}

}  // namespace fusedrnn::cuda
