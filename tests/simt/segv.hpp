// While it lives, an invalid access of the calling host thread ends the launch under way instead of the process.
#pragma once

#include <signal.h>

namespace fusedrnn::cuda::simt {

class SegvGuard {
 public:
  SegvGuard();
  ~SegvGuard();
  SegvGuard(const SegvGuard&) = delete;

 private:
  stack_t old_stack_;
};

}  // namespace fusedrnn::cuda::simt
