// Which row of which array a step reads and writes: lengths, resets and directions, told apart from the arithmetic.
//
// A step s is the s-th one a direction computes. For row r of length n it is time s forwards and time n - 1 - s
// backwards, so both directions run over the same prefix of active rows, and a reverse row starts at its last valid
// step.
#pragma once

#include "sequence/layout.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
FR_FN T* at(const Array3& a, int64_t i, int64_t j) {
  return static_cast<T*>(a.data) + i * a.stride0 + j * a.stride1;
}

template <class T>
FR_FN T* at_or_null(const Array3& a, int64_t i, int64_t j) {
  return a.data ? at<T>(a, i, j) : nullptr;
}

// Row b of step t of an array, packed where there are `steps` (backend/sequence.hpp).
template <class T>
FR_FN T* at_step(const Array3& a, const int64_t* steps, int64_t t, int64_t b) {
  return steps ? static_cast<T*>(a.data) + (steps[t] + b) * a.stride1 : at<T>(a, t, b);
}

// (t, b, feature) view of a buffer with `width` features a row.
template <class T>
Array3 dense(T* data, int64_t B, int64_t width) {
  return Array3{const_cast<void*>(static_cast<const void*>(data)), B * width, width};
}

// A row copied, or zeros where there is none to copy.
template <class T>
void copy_row(T* to, const T* from, int64_t count) {
  for (int64_t k = 0; k < count; ++k) to[k] = from ? from[k] : T(0);
}

// Sorts rows by falling length, keeping the order of equal ones, the batch's or the `given` one; without lengths every
// row is active all T steps.
inline void order_rows(const int64_t* lengths, const int64_t* given, int64_t T, int64_t B, const RowOrder& order) {
  if (!lengths) {
    for (int64_t b = 0; b < B; ++b) {
      order.batch[b] = b;
      order.length[b] = T;
    }
    for (int64_t s = 0; s < T; ++s) order.active[s] = B;
    order.active[T] = 0;
    return;
  }
  for (int64_t s = 0; s <= T; ++s) order.active[s] = 0;
  for (int64_t b = 0; b < B; ++b)
    if (lengths[b] > 0) ++order.active[lengths[b] - 1];
  for (int64_t s = T - 1; s >= 0; --s) order.active[s] += order.active[s + 1];
  // A row of length n comes after the longer ones, of which there are active[n]; equal ones stay in order.
  for (int64_t n = 0; n <= T; ++n) order.next[n] = order.active[n];
  for (int64_t i = 0; i < B; ++i) {
    const int64_t b = given ? given[i] : i, r = order.next[lengths[b]]++;
    order.batch[r] = b;
    order.length[r] = lengths[b];
  }
}

// One direction of the walk through time, for the rows of a schedule.
struct Walk {
  const RowOrder& order;
  const uint8_t* resets;
  int64_t resets_stride0, resets_stride1;
  bool reverse;

  int64_t time(int64_t s, int64_t r) const { return reverse ? order.length[r] - 1 - s : s; }

  // Is the link from step s - 1 (or the initial state) into step s cut? A reset at time t cuts between t - 1 and t;
  // at t = 0 it cuts the forward direction's initial state.
  bool cut(int64_t s, int64_t r) const {
    if (!resets || (reverse && s == 0)) return false;
    const int64_t t = reverse ? time(s - 1, r) : s;
    return resets[t * resets_stride0 + order.batch[r] * resets_stride1] != 0;
  }

  bool last(int64_t s, int64_t r) const { return s == order.length[r] - 1; }
};

// The rows a row group owns: g, g + groups, g + 2 groups ...; those active at any step are a prefix of them.
struct RowGroup {
  int64_t group, groups;

  int64_t row(int64_t i) const { return group + i * groups; }
  int64_t count(int64_t rows) const { return rows > group ? (rows - group - 1) / groups + 1 : 0; }
};

// The state a step starts from: zeros when cut, the initial state at step 0, else what `states` holds of the step
// before.
template <class T>
FR_FN const T* state_before(const Walk& walk, int64_t s, int64_t r, const Array3& initial, int64_t index,
                            const Array3& states, const int64_t* steps, const T* zeros) {
  if (walk.cut(s, r)) return zeros;
  const int64_t b = walk.order.batch[r];
  if (s == 0) return initial.data ? at<T>(initial, index, b) : zeros;
  return at_step<T>(states, steps, walk.time(s - 1, r), b);
}

}  // namespace fusedrnn::FUSEDRNN_ISA
