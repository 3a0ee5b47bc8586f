// Stores past the caches, for what is not read again before it would have left them: such a store does not read its
// line first, and pushes nothing out.
//
// Only where a register is a whole line: halves of a line that are stored at different times each go to memory alone.
// The processor may make such stores visible late, so a thread says when all of its own must be.
#pragma once

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

#if defined(FUSEDRNN_ISA_AVX512)
constexpr bool kStreams = true;

// `to` is a multiple of a line.
FR_INLINE void stream(float* to, Lanes<float>::V v) { _mm512_stream_ps(to, v); }
FR_INLINE void stream(double* to, Lanes<double>::V v) { _mm512_stream_pd(to, v); }

// What this thread has streamed is there for every thread that sees what it does next.
FR_INLINE void settle_streams() { _mm_sfence(); }
#else
constexpr bool kStreams = false;

template <class T>
FR_INLINE void stream(T* to, typename Lanes<T>::V v) {
  Lanes<T>::store(to, v);
}
FR_INLINE void settle_streams() {}
#endif

}  // namespace fusedrnn::FUSEDRNN_ISA
