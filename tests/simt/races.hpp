// What ThreadSanitizer is told: one of its fibers per CUDA thread, and which meetings order memory. Every function does
// nothing in a program without it.
#pragma once

#include <cstddef>

extern "C" {
void* __tsan_create_fiber(unsigned) __attribute__((weak));
void __tsan_destroy_fiber(void*) __attribute__((weak));
void __tsan_switch_to_fiber(void*, unsigned) __attribute__((weak));
void* __tsan_get_current_fiber() __attribute__((weak));
void __tsan_acquire(void*) __attribute__((weak));
void __tsan_release(void*) __attribute__((weak));
void __tsan_read_range(void*, size_t) __attribute__((weak));
void __tsan_write_range(void*, size_t) __attribute__((weak));
}

namespace fusedrnn::cuda::simt::races {

inline bool watched() { return __tsan_create_fiber != nullptr; }
inline void* current() { return watched() ? __tsan_get_current_fiber() : nullptr; }
inline void* create() { return watched() ? __tsan_create_fiber(0) : nullptr; }
inline void destroy(void* fiber) {
  if (watched() && fiber != nullptr) __tsan_destroy_fiber(fiber);
}
// Going from one CUDA thread to another orders nothing between them.
inline void become(void* fiber) {
  constexpr unsigned kNoSync = 1;
  if (watched()) __tsan_switch_to_fiber(fiber, kNoSync);
}
inline void acquire(void* tag) {
  if (watched()) __tsan_acquire(tag);
}
inline void release(void* tag) {
  if (watched()) __tsan_release(tag);
}
inline void read(const void* p, size_t bytes) {
  if (watched() && bytes > 0) __tsan_read_range(const_cast<void*>(p), bytes);
}
inline void write(void* p, size_t bytes) {
  if (watched() && bytes > 0) __tsan_write_range(p, bytes);
}

}  // namespace fusedrnn::cuda::simt::races
