// Work without the GIL.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace fusedrnn {

// Gives the GIL back for its lifetime. A daemon thread that comes back while the interpreter is being finalised stays
// here for good: Python would end it by unwinding its stack (until 3.14), which no C++ destructor survives.
class GilRelease {
 public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  ~GilRelease() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {  // of the thread's end; nothing else is thrown
      for (;;) pause();
    }
  }
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace fusedrnn
