// The checks of the native tests: failures are printed and counted, and `finish` turns them into an exit status.
#pragma once

#include <atomic>
#include <cstdarg>
#include <cstdio>

namespace check {

inline std::atomic<int> failures = 0;  // tests of threads check in all of them
inline std::atomic<int> checks = 0;

__attribute__((format(printf, 2, 3))) inline bool require(bool holds, const char* format, ...) {
  ++checks;
  if (holds) return true;
  if (++failures <= 20) {
    std::va_list arguments;
    va_start(arguments, format);
    std::fputs("FAILED: ", stderr);
    std::vfprintf(stderr, format, arguments);
    std::fputc('\n', stderr);
    va_end(arguments);
  }
  return false;
}

// Ends a test: a test that checked nothing has failed.
inline int finish(const char* name) {
  std::printf("%s: %d checks, %d failed\n", name, checks.load(), failures.load());
  return failures == 0 && checks > 0 ? 0 : 1;
}

}  // namespace check
