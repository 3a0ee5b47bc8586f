// Reading arrays of the API, element by element.
#pragma once

#include "hw/device.cuh"
#include "math.cuh"
//
#include "simd/strided.hpp"

namespace fusedrnn::cuda {

// Element i in C order.
template <class T>
FR_DEVICE T element_of(const Strided& a, int64_t i) {
  return a.axes == 0 ? static_cast<const T*>(a.data)[i] : row_of<T>(a, i / a.width)[i % a.width];
}

template <class T>
FR_DEVICE T nan_of() {
  return static_cast<T>(__builtin_nan(""));
}

}  // namespace fusedrnn::cuda
