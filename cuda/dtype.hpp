// Choosing the element type of an operation that computes in float and double.
#pragma once

#include "hw/failure.hpp"

namespace fusedrnn::cuda {

// run(T()) for the type T that `dtype` names; refuses others in the name of `what`.
template <class Run>
Status with_dtype(DType dtype, const char* what, Run&& run) {
  if (dtype == DType::float32) return run(float());
  if (dtype == DType::float64) return run(double());
  return fail(Status::unsupported, "%s on CUDA computes in float32 and float64 only", what);
}

}  // namespace fusedrnn::cuda
