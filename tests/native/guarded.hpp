// Memory whose last byte lies before a page that may not be touched, or whose first lies behind one: reading or writing
// past it ends the program.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>

enum class Guard { after, before };

template <class T>
class Guarded {
 public:
  Guarded(size_t count, Guard guard) : count_(count) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t bytes = (count * sizeof(T) / page + 1) * page;
    mapped_ = bytes + 2 * page;
    void* const base = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(static_cast<char*>(base) + page, bytes, PROT_READ | PROT_WRITE) != 0) {
      std::perror("FAILED: no guarded memory");
      std::exit(1);
    }
    base_ = static_cast<char*>(base);
    char* const first = base_ + page;
    data_ = reinterpret_cast<T*>(guard == Guard::before ? first : first + bytes - count * sizeof(T));
  }
  ~Guarded() { munmap(base_, mapped_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return count_; }
  T* begin() { return data_; }
  T* end() { return data_ + count_; }
  T& operator[](size_t i) { return data_[i]; }

 private:
  size_t count_, mapped_;
  char* base_;
  T* data_;
};
