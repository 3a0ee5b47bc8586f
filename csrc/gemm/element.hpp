// What a precision computes with on a CPU. Three types, and one list of all elements at the end:
//
//   Storage       what lies in memory outside of gemm/: parameters, x, y, states, gates, the tape, dgates, gradients
//   Accumulator   sums of products, and all that an epilogue and a cell compute with
//   Operand       factors of products: what an engine packs
//
// Accumulator and Storage are the same type in every element so far, and loads and stores of vectors rely on it.
//
// A product takes Storage and gives Accumulators. In between its engine (engine.hpp) rounds every factor to an Operand,
// to nearest with ties to even, when it packs it; no other code sees one. That rounding is a function of the value
// alone, so a value is rounded once, however often it is packed. All else is rounded by nothing
// but its own arithmetic: biases, x W + b_ih, h R + b_hh, gates, the GRU's direct path through h, and db, which sums
// dgates as the cell's backward leaves them. A GPU (cuda/products/element.cuh) differs in two places: db sums rounded
// dgates, and h of the layer below is rounded before dropout scales it as well as after.
#pragma once

#include "backend/backend.hpp"
#include "backend/status.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// IEEE arithmetic of one type throughout: an operand is the stored value.
template <class T>
struct Ieee {
  using Storage = T;
  using Accumulator = T;
  using Operand = T;
};

// The list: run(element) for a dtype and a precision, or an error where a CPU has no such element.
template <class Run>
Status with_element(DType dtype, Precision precision, Run&& run) {
  if (precision != Precision::ieee) return fail(Status::unsupported, "a CPU computes in ieee precision only");
  if (dtype == DType::float32) return run(Ieee<float>());
  if (dtype == DType::float64) return run(Ieee<double>());
  return fail(Status::unsupported, "a CPU computes in float32 and float64 only");
}

}  // namespace fusedrnn::FUSEDRNN_ISA
