// What a precision computes with on a CPU. Two types, and one list of all elements at the end:
//
//   Storage       what lies in memory outside of gemm/: parameters, x, y, states, gates, the tape, dgates, gradients
//   Accumulator   sums of products, and all that an epilogue and a cell compute with
//
// Accumulator and Storage are the same type in every element so far, and loads and stores of vectors rely on it.
//
// A product takes Storage and gives Accumulators. In between its engine (engine.hpp) rounds every factor to operands,
// when it packs it; no other code sees one. That rounding is a function of the value alone, so a value is rounded once,
// however often it is packed. All else is rounded by nothing but its own arithmetic: biases, x W + b_ih, h R + b_hh,
// gates, the GRU's direct path through h, and db, which sums dgates as the cell's backward leaves them. A GPU
// (cuda/products/element.cuh) differs in two places: db sums rounded dgates, and h of the layer below is rounded before
// dropout scales it as well as after.
#pragma once

#include "backend/backend.hpp"
#include "backend/status.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// IEEE arithmetic of one type throughout: an operand is the stored value.
template <class T>
struct Ieee {
  using Storage = T;
  using Accumulator = T;
};

// Factors rounded to bfloat16, or split into the sum of two or three of them; sums as bf16_sum.hpp has them. One type
// for all three precisions: how many parts there are an engine knows, and time loops and cells are compiled once.
struct Bf16 {
  using Storage = float;
  using Accumulator = float;
};

// How many operands a stored value becomes as a factor of a product.
constexpr int parts_of(Precision precision) {
  return precision == Precision::bf16x3 ? 2 : precision == Precision::bf16x6 ? 3 : 1;
}

// The list: run(element) for a dtype and a precision, or an error where a CPU has no such element.
template <class Run>
Status with_element(DType dtype, Precision precision, Run&& run) {
  if (dtype != DType::float32 && dtype != DType::float64)
    return fail(Status::unsupported, "a CPU computes in float32 and float64 only");
  if (dtype == DType::float64 && precision != Precision::ieee)
    return fail(Status::unsupported, "a CPU computes float64 in ieee precision only");
  switch (precision) {
    case Precision::ieee:
#if defined(FUSEDRNN_ISA_AMX)
      break;  // AVX-512's kernels do (isa/amx.cpp)
#else
      return dtype == DType::float32 ? run(Ieee<float>()) : run(Ieee<double>());
#endif
    case Precision::bf16:
    case Precision::bf16x3:
    case Precision::bf16x6:
      return run(Bf16());
    case Precision::tf32:
    case Precision::tf32x3:
    case Precision::fp16:
      break;
  }
  return fail(Status::unsupported, "a CPU computes in ieee, bf16, bf16x3 and bf16x6 precision only");
}

}  // namespace fusedrnn::FUSEDRNN_ISA
