// When sleeping workers are worth waking. Backends plan for threads that are awake.
#pragma once

#include "backend/backend.hpp"
#include "backend/traits.hpp"

namespace fusedrnn {

// What a thread does in the time it may take to wake the others, and to get going again: from 5 us on a machine of
// one's own to 130 us in a virtual one.
constexpr double kFlopsPerWake = 4e6;

// Multiply-adds of the recurrent products of a forward pass, counted twice.
inline double recurrent_flops(const SequenceDesc& desc) {
  const int64_t recurrent = traits(desc.cell).gates * desc.H * state_units(desc) + desc.P * desc.H;
  return 2.0 * static_cast<double>(desc.T * desc.B) * static_cast<double>(recurrent) * desc.layers * desc.directions;
}

// Packing of weights, bound by memory, as the multiply-adds that take as long, counted twice.
inline double packing_flops(const SequenceDesc& desc) {
  constexpr double kFlopsPerElement = 20;
  const int64_t outputs = traits(desc.cell).gates * desc.H * desc.directions, state = state_units(desc);
  const int64_t inputs = desc.I + (desc.layers - 1) * desc.directions * state + desc.layers * state;
  return kFlopsPerElement * static_cast<double>(outputs * inputs);
}

inline bool worth_waking(double flops, int32_t threads) { return flops >= kFlopsPerWake * threads; }

}  // namespace fusedrnn
