// How much scratch the entries of the table need: kernels do not allocate, so their callers ask here.
#pragma once

#include "backend/backend.hpp"
#include "backend/loss_facts.hpp"

namespace fusedrnn {

// Chunks of kReduceChunk elements, the last of which may be shorter.
inline int64_t chunks_of(int64_t elements) { return (elements + kReduceChunk - 1) / kReduceChunk; }

// Bytes of an element in memory.
inline int64_t bytes_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return 4;
    case DType::float64:
      return 8;
    case DType::bfloat16:
    case DType::float16:
      return 2;
  }
  return 0;
}

// Numbers of CheckArgs::firsts: one for each chunk of values.
inline size_t check_firsts(int64_t count) { return static_cast<size_t>(chunks_of(count)); }

// Doubles of LossArgs::partials: one for each chunk of elements, or for each row.
inline size_t loss_partials(const LossArgs& a) {
  return static_cast<size_t>(facts_of(a.spec.kind).by_rows ? a.rows : chunks_of(a.rows * a.classes));
}

// Doubles of NormArgs::partials and ClippedUpdateArgs::partials: one for each chunk of each segment, at least one for
// each group. group(i) is the i-th of `groups` that have segments.
template <class Group>
size_t norm_partials(int64_t groups, const Group& group) {
  int64_t partials = 0;
  for (int64_t i = 0; i < groups; ++i) {
    int64_t chunks = 0;
    for (int64_t s = 0; s < group(i).segments; ++s) chunks += chunks_of(group(i).segment[s].count);
    partials += chunks > 0 ? chunks : 1;
  }
  return static_cast<size_t>(partials);
}

inline size_t norm_partials(const NormArgs& a) {
  return norm_partials(a.groups, [&](int64_t i) -> const GradientGroup& { return a.group[i]; });
}

inline size_t norm_partials(const ClippedUpdateArgs& a) {
  return norm_partials(a.groups, [&](int64_t i) -> const OptimizerArgs& { return a.group[i].update; });
}

}  // namespace fusedrnn
