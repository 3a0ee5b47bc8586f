// Whose turn it is: one thread at a time.
#pragma once

#include <pybind11/pybind11.h>

namespace fusedrnn {

constexpr const char* kInUse = "the model is in use by another thread: one thread at a time may train it";

// A context for Python, which no exception of a signal handler's can leave taken. The thread that has it may enter
// again.
class Turn {
 public:
  void enter() {
    const unsigned long here = PyThread_get_thread_ident();
    if (depth_ > 0 && thread_ != here) throw std::runtime_error(kInUse);
    thread_ = here;
    ++depth_;
  }
  void leave() { --depth_; }

 private:
  unsigned long thread_ = 0;
  int depth_ = 0;
};

}  // namespace fusedrnn
