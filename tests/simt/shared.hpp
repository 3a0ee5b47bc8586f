// Shared<T> of the host: a pointer that checks each access against its array and against what was written.
#pragma once

#include <cstring>
#include <type_traits>
#include <utility>

#include "runtime.hpp"

#if defined(__SANITIZE_THREAD__)
#define FR_SIMT_INSTRUMENTED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FR_SIMT_INSTRUMENTED 1
#endif
#endif

namespace fusedrnn::cuda::hw {

template <class T>
class Shared {
  using Value = std::remove_const_t<T>;

 public:
  // An element: read by conversion to T, written by assignment. It cannot be kept: a read happens where it is written.
  class Element {
   public:
    operator Value() && {
      require_written(p_);
      return *p_;
    }
    void operator=(const Value& value) && {
      *p_ = value;
      note_written(p_);
    }
    void operator=(Element&& other) && { std::move(*this) = static_cast<Value>(std::move(other)); }
    void operator+=(const Value& value) && {
      require_written(p_);
      *p_ += value;
    }
    Element(const Element&) = delete;

   private:
    friend Shared;
    explicit Element(T* p) : p_(p) {}
    T* p_;
  };

  Shared() = default;
  Shared(T* at, T* first, T* last) : at_(at), first_(first), last_(last) {}
  template <class U, class = std::enable_if_t<std::is_same_v<const U, T> && !std::is_same_v<U, T>>>
  Shared(Shared<U> other) : at_(other.at()), first_(other.first()), last_(other.last()) {}

  // Inlined always: the meter of banks takes the place of the call as the instruction, which lanes of a warp have in
  // common. A function of its own would make one of all accesses.
  __attribute__((always_inline)) Element operator[](int64_t i) const {
    T* p = at_ + i;
    if (__builtin_expect(p < first_ || p >= last_, 0)) simt::outside_shared(p, sizeof(T), first_, last_);
    if (__builtin_expect(simt::here->metered, 0)) simt::note_banks(p, sizeof(T));
    return Element(p);
  }
  __attribute__((always_inline)) Element operator*() const { return (*this)[0]; }
  Shared operator+(int64_t n) const { return {at_ + n, first_, last_}; }
  Shared operator-(int64_t n) const { return {at_ - n, first_, last_}; }
  Shared& operator+=(int64_t n) { return at_ += n, *this; }
  Shared& operator-=(int64_t n) { return at_ -= n, *this; }

  T* at() const { return at_; }
  T* first() const { return first_; }
  T* last() const { return last_; }

 private:
#if defined(FR_SIMT_INSTRUMENTED)
  static void require_written(const T* p) { simt::require_written(p, sizeof(T)); }
  static void note_written(T* p) { simt::note_written(p, sizeof(T)); }
#else
  static void require_written(const T* p) {
    unsigned char written[sizeof(T)];
    std::memset(written, simt::kWritten, sizeof written);
    const void* state = reinterpret_cast<const unsigned char*>(p) + simt::kStateDistance;
    if (__builtin_expect(std::memcmp(state, written, sizeof written) != 0, 0)) simt::not_written(p, sizeof(T));
  }
  static void note_written(T* p) {
    std::memset(reinterpret_cast<unsigned char*>(p) + simt::kStateDistance, simt::kWritten, sizeof(T));
  }
#endif

  T* at_ = nullptr;
  T* first_ = nullptr;
  T* last_ = nullptr;
};

// A place in the shared memory of a block of the cluster.
template <class T>
class Remote {
 public:
  explicit Remote(const simt::There& there) : there_(there) {}
  Remote operator+(int n) const {
    simt::There there = there_;
    there.at += n * static_cast<int64_t>(sizeof(T));
    return Remote(there);
  }
  const simt::There& there() const { return there_; }

 private:
  simt::There there_;
};

}  // namespace fusedrnn::cuda::hw
