// One pass of an update rule over all segments.
#pragma once

#include "backend/status.hpp"
#include "optim/adagrad.hpp"
#include "optim/adam.hpp"
#include "optim/arithmetic.hpp"
#include "optim/rmsprop.hpp"
#include "optim/segments.hpp"
#include "optim/sgd.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// n lanes of elements from i on; n is L::N but at the end of a segment. States a rule does not keep are absent.
template <class T, class Rule>
FR_INLINE void update_lanes(const Rule& rule, typename Lanes<T>::V factor, const Segment& s, int64_t i, int n) {
  using L = Lanes<T>;
  T* param = static_cast<T*>(s.param) + i;
  typename L::V p = L::load(param, n), state[kMaxStates];
  const typename L::V g = L::load(static_cast<const T*>(s.grad) + i, n) * factor;
  for (int k = 0; k < kMaxStates; ++k) state[k] = s.state[k] ? L::load(static_cast<T*>(s.state[k]) + i, n) : L::zero();
  rule.update(p, g, state);
  L::store(param, p, n);
  for (int k = 0; k < kMaxStates; ++k)
    if (s.state[k]) L::store(static_cast<T*>(s.state[k]) + i, state[k], n);
}

// From bytes `at` of all arrays of a segment, which are left at `end` for `next`.
FR_INLINE void prefetch_segment(const Segment& s, const Segment& next, int64_t at, int64_t end) {
  prefetch<false>(s.grad, next.grad, at, end);
  prefetch<true>(s.param, next.param, at, end);
  for (int k = 0; k < kMaxStates; ++k)
    if (s.state[k]) prefetch<true>(s.state[k], next.state[k], at, end);
}

template <class T, class Rule>
void run_update(const OptimizerArgs& a, Team* team) {
  constexpr int N = Lanes<T>::N, kSize = sizeof(T), kLine = 64 / kSize;
  constexpr int64_t kAhead = 4096;  // from there on memory and third level answer in time; five arrays still fit L1
  const Rule shared(a);
  for_segments(a.segment, a.segments, team, [&](const Segment& at, const Segment& then, int64_t begin, int64_t end) {
    // Copies, for registers: what others can see would be read again after every store.
    const Rule rule = shared;
    const Segment s = at, next = then;
    const typename Lanes<T>::V factor = Lanes<T>::set(a.clip_factor ? static_cast<T>(*a.clip_factor) : T(1));
    int64_t i = begin;
    for (; i + kLine <= end; i += kLine) {
      prefetch_segment(s, next, i * kSize + kAhead, end * kSize);
      for (int v = 0; v < kLine; v += N) update_lanes<T>(rule, factor, s, i + v, N);
    }
    for (; i + N <= end; i += N) update_lanes<T>(rule, factor, s, i, N);
    if (i < end) update_lanes<T>(rule, factor, s, i, static_cast<int>(end - i));
  });
}

inline Status optimizer(const OptimizerArgs* a, Stream stream) {
  Team* team = static_cast<Team*>(stream);
  Status known = Status::ok;
  const Status status = with_type(a->dtype, [&](auto type) {
    using T = decltype(type);
    switch (a->kind) {
#define FUSEDRNN_CASE(kind, Rule, header) \
  case OptimizerKind::kind:               \
    return run_update<T, Rule<Arithmetic<T>>>(*a, team);
      FUSEDRNN_RULES(FUSEDRNN_CASE)
#undef FUSEDRNN_CASE
    }
    known = fail(Status::invalid_argument, "an update of a kind that is not in optim/list.hpp");
  });
  return status == Status::ok ? known : status;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
