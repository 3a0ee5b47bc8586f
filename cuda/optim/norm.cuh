// The norm of all gradients: sums of squares by a fixed number of blocks, which the kernel that needs the norm adds up.
#pragma once

#include "math.cuh"
#include "sum.cuh"
//
#include "optim/norm_order.hpp"
#include "optim/rule.hpp"

namespace fusedrnn::cuda {

constexpr int kNormThreads = 256;  // of a block that adds up

// A list of sums of squares, made by one or more calls of `square_sums`.
struct SquareSums {
  double* sums;  // device memory, room for as many as norm_partials (backend/scratch.hpp) says
  int64_t count;
};

// Appends the sums of these gradients. Steps, where not null, see backend.hpp's UpdateGroup: the first is set to the
// second.
Status square_sums(DType dtype, const Segment* segment, int64_t segments, int64_t* steps, SquareSums* to,
                   Stream stream);

// Where there are no gradients to be measured: only that.
Status begin_step(int64_t* steps, Stream stream);

// By a whole block of kNormThreads. Each thread adds every kNormThreads-th sum in order, then threads' sums are added.
FR_DEVICE double norm_of(const SquareSums& squares) {
  double sum = 0;
  for (int64_t i = hw::thread(); i < squares.count; i += kNormThreads) sum = sum + squares.sums[i];
  return Lanes<double>::sqrt(block_sum<kNormThreads>(sum));
}

}  // namespace fusedrnn::cuda
