// Which time a step is, and which links between steps are cut: lengths, resets and direction, read on the device.
//
// A direction's step s is the s-th one it computes: for a row of length n, time s forwards and time n - 1 - s
// backwards, so that a reverse row starts at its last valid step. Steps s >= n do nothing but write the zeros of
// padding; they are given time s in either direction, which makes time a permutation of [0, T).
#pragma once

#include "hw/device.cuh"

namespace fusedrnn::cuda {

struct Walk {
  const int64_t* lengths;  // (B,) or null: all rows have T steps
  const uint8_t* resets;   // or null
  int64_t resets_stride0, resets_stride1;
  int64_t T;

  // In [0, T] whatever the array holds: it becomes an address.
  FR_DEVICE int64_t length(int64_t b) const {
    if (!lengths) return T;
    const int64_t n = lengths[b];
    return n < 0 ? 0 : n > T ? T : n;
  }

  FR_DEVICE static int64_t time(int64_t s, int64_t length, bool reverse) {
    return reverse && s < length ? length - 1 - s : s;
  }

  // Is the link from step s - 1 (or the initial state) into step s < length cut? A reset at time t cuts between t - 1
  // and t; at t = 0 it cuts the forward direction's initial state.
  FR_DEVICE bool cut(int64_t s, int64_t b, int64_t length, bool reverse) const {
    if (!resets || (reverse && s == 0)) return false;
    const int64_t t = reverse ? length - s : s;
    return resets[t * resets_stride0 + b * resets_stride1] != 0;
  }
};

// Element k of row (t, b) of an array of the API.
template <class T>
FR_DEVICE T* row_of(const Array3& a, int64_t i, int64_t j) {
  return static_cast<T*>(a.data) + i * a.stride0 + j * a.stride1;
}

}  // namespace fusedrnn::cuda
