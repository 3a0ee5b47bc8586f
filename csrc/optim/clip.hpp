// Gradients scaled by a factor, or clamped, in place.
#pragma once

#include "optim/segments.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// grad = value(lanes of grad) for all segments.
template <class T, class Value>
void change_gradients(const Segment* segment, int64_t segments, Team* team, const Value& value) {
  using L = Lanes<T>;
  for_segments(segment, segments, team, [&](const Segment& s, const Segment&, int64_t begin, int64_t end) {
    T* grad = static_cast<T*>(s.grad);
    int64_t i = begin;
    for (; i + L::N <= end; i += L::N) L::store(grad + i, value(L::load(grad + i)));
    const int left = static_cast<int>(end - i);
    if (left > 0) L::store(grad + i, value(L::load(grad + i, left)), left);
  });
}

inline Status scale(DType dtype, int64_t segments, const Segment* segment, const double* factor, Stream stream) {
  return with_type(dtype, [&](auto type) {
    using T = decltype(type);
    const auto by = Lanes<T>::set(static_cast<T>(*factor));
    change_gradients<T>(segment, segments, static_cast<Team*>(stream), [&](auto g) { return g * by; });
  });
}

// NaN stays.
inline Status clip_value(DType dtype, int64_t segments, const Segment* segment, double limit, Stream stream) {
  return with_type(dtype, [&](auto type) {
    using L = Lanes<decltype(type)>;
    const auto high = L::set(static_cast<decltype(type)>(limit)), low = -high;
    change_gradients<decltype(type)>(segment, segments, static_cast<Team*>(stream),
                                     [&](auto g) { return L::max(low, L::min(high, g)); });
  });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
