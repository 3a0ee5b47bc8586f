// Walking a table of segments: every thread gets a piece of the elements, or of the chunks, of all of them together.
#pragma once

#include "gemm/parallel.hpp"
#include "simd/strided.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

inline int64_t total_count(const Segment* segment, int64_t segments) {
  int64_t total = 0;
  for (int64_t s = 0; s < segments; ++s) total += segment[s].count;
  return total;
}

// body(segment, begin, end) on several threads, elements [begin, end) of a segment, each element in exactly one call.
template <class Body>
void for_segments(const Segment* segment, int64_t segments, Team* team, const Body& body) {
  constexpr int64_t kLine = 16;  // where a thread's piece may end: elements that fill whole cache lines
  const int64_t total = total_count(segment, segments), lines = (total + kLine - 1) / kLine;
  const int32_t threads = useful_threads(team, total, lines);
  parallel(team, threads, [&](int32_t t) {
    int64_t first = share(lines, threads, t) * kLine, last = share(lines, threads, t + 1) * kLine;
    for (int64_t s = 0; s < segments && last > 0; ++s) {
      const int64_t count = segment[s].count, end = last < count ? last : count;
      if (first < end) body(segment[s], first, end);
      first = first > count ? first - count : 0;
      last -= count;
    }
  });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
