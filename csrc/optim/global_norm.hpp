// The norm of all gradients together, summed as backend.hpp says, and the factor that clips it.
#pragma once

#include "optim/norm_order.hpp"
#include "optim/rule.hpp"
#include "optim/segments.hpp"
#include "simd/wide.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

inline int64_t chunks_of(const Segment& s) { return (s.count + kReduceChunk - 1) / kReduceChunk; }

template <class T>
double chunk_squares(const Segment& s, const Segment& next, int64_t chunk) {
  constexpr int64_t kSize = sizeof(T), kAhead = 8192;  // twice an update's: there is one array to fetch
  const int64_t first = chunk * kReduceChunk, left = s.count - first;
  const T* grad = static_cast<const T*>(s.grad) + first;
  return reduce(left < kReduceChunk ? left : kReduceChunk, [&](int64_t i, int64_t n) {
    for (int64_t line = 0; line < Wide::N * kSize; line += 64)
      prefetch<false>(s.grad, next.grad, (first + i) * kSize + line + kAhead, s.count * kSize);
    const Wide g = Wide::load(grad + i, n);
    return g * g;
  });
}

// `total` and the squares of all gradients, chunk by chunk; `partials` has room for one number per chunk.
template <class T>
double add_squares(double total, const Segment* segment, int64_t segments, double* partials, Team* team) {
  int64_t chunks = 0;
  for (int64_t s = 0; s < segments; ++s) chunks += chunks_of(segment[s]);
  const int32_t threads = useful_threads(team, total_count(segment, segments), chunks);
  parallel(team, threads, [&](int32_t t) {
    const int64_t first = share(chunks, threads, t), last = share(chunks, threads, t + 1);
    int64_t at = 0;
    for (int64_t s = 0; s < segments && at < last; ++s) {
      const int64_t begin = at, end = at + chunks_of(segment[s]);
      for (at = first > begin ? first : begin; at < end && at < last; ++at)
        partials[at] = chunk_squares<T>(segment[s], segment[s + (s + 1 < segments)], at - begin);
      at = end;
    }
  });
  for (int64_t c = 0; c < chunks; ++c) total += partials[c];
  return total;
}

// The one global norm. group(i) is the i-th of `groups` that have a dtype and segments.
template <class Group>
Status global_norm(int64_t groups, const Group& group, double* partials, Team* team, double* norm) {
  double squares = 0;
  const Status status = in_norm_order(groups, group, [&](int64_t i) {
    return with_type(group(i).dtype, [&](auto type) {
      squares = add_squares<decltype(type)>(squares, group(i).segment, group(i).segments, partials, team);
    });
  });
  *norm = __builtin_sqrt(squares);
  return status;
}

inline Status norm(const NormArgs* a, Stream stream) {
  const auto group = [&](int64_t i) -> const GradientGroup& { return a->group[i]; };
  const Status status = global_norm(a->groups, group, a->partials, static_cast<Team*>(stream), a->norm);
  if (a->clip_factor) *a->clip_factor = clip_factor(a->max_norm, *a->norm);
  return status;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
