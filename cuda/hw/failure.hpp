// How host code of the CUDA plugin reports failure: a Status, and a sentence kept for the calling thread that names the
// call, its place and the reason: "cudaMalloc(1048576) at cuda/recurrent/lstm.cu:42: out of memory".
#pragma once

#include <cstdarg>
#include <cstdio>
#include <initializer_list>

#include "backend/backend.hpp"

namespace fusedrnn::cuda {

// Where a call was written. `SourceLocation place = SourceLocation::here()` as a parameter is the place of the
// function's caller.
struct SourceLocation {
  const char* file;
  int line;
  static constexpr SourceLocation here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

inline thread_local char last_failure[1024] = "no failure";

// The last failure of the calling thread.
inline const char* status_text() { return last_failure; }

// Keeps the formatted sentence for status_text() and returns `status`.
__attribute__((format(printf, 2, 3))) inline Status fail(Status status, const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(last_failure, sizeof last_failure, format, arguments);
  va_end(arguments);
  return status;
}

// The path of a source file from its cuda/ or tests/ folder on: messages do not depend on where it was built.
inline const char* source_name(const char* file) {
  const char* name = file;
  for (const char* at = file; *at != '\0'; ++at) {
    for (const char* folder : {"cuda/", "tests/"}) {
      const char *a = at, *b = folder;
      while (*b != '\0' && *a == *b) ++a, ++b;
      if (*b == '\0' && (at == file || at[-1] == '/')) name = at;
    }
  }
  return name;
}

}  // namespace fusedrnn::cuda
