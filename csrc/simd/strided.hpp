// Reading arrays with strided leading axes (Strided, backend.hpp), and choosing an element type at run time.
#pragma once

#include <stdint.h>

#include "backend/backend.hpp"
#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

FR_INLINE int64_t row_offset(const Strided& a, int64_t row) {
  if (a.axes == 1) return row * a.stride[0];
  int64_t offset = 0;
  for (int32_t axis = a.axes - 1; axis >= 0; --axis) {
    offset += row % a.size[axis] * a.stride[axis];
    row /= a.size[axis];
  }
  return offset;
}

template <class T>
FR_INLINE const T* row_of(const Strided& a, int64_t row) {
  return static_cast<const T*>(a.data) + row_offset(a, row);
}

// Elements [first, first + n) in C order: where they lie, if that is in one piece, else copied into buffer (n).
template <class T>
const T* elements_of(const Strided& a, int64_t first, int64_t n, T* buffer) {
  if (a.axes == 0) return static_cast<const T*>(a.data) + first;
  int64_t row = first / a.width, column = first % a.width;
  for (int64_t done = 0; done < n; ++row, column = 0) {
    const T* from = row_of<T>(a, row) + column;
    const int64_t count = n - done < a.width - column ? n - done : a.width - column;
    for (int64_t i = 0; i < count; ++i) buffer[done + i] = from[i];
    done += count;
  }
  return buffer;
}

// body(T()) with T the type that `dtype` names.
template <class Body>
Status with_type(DType dtype, const Body& body) {
  if (dtype == DType::float32)
    body(float());
  else if (dtype == DType::float64)
    body(double());
  else
    return Status::unsupported;
  return Status::ok;
}

// Threads worth waking for `work`, counted in elements of the simplest operation, that comes in so many parts; at least
// 1. A thread that sleeps takes tens of microseconds to wake, as long as one thread needs for the grain.
FR_INLINE int32_t useful_threads(const Team* team, int64_t work, int64_t parts) {
  constexpr int64_t kGrain = 65536;
  const int64_t wanted = work / kGrain < parts ? work / kGrain : parts;
  return wanted < 1 ? 1 : wanted < team->size ? static_cast<int32_t>(wanted) : team->size;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
