// A stack of its own and the switch between such stacks. On x86-64 a switch is a dozen instructions; elsewhere
// ucontext.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace fusedrnn::cuda::simt {

// Zeroed pages of the emulator's own. Without memory for them a test program ends.
unsigned char* map_pages(size_t bytes);

class Context {
 public:
  Context() = default;  // of the code that runs: only to be switched from
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context();

  // Maps a stack with an inaccessible page below it.
  void create();

  // The next switch to this context calls `entry`, which must not return. What ran on the stack is forgotten.
  void start(void (*entry)());

  // Stops here, goes on there. Returns when somebody switches back.
  static void change(Context& from, Context& to);

  // What `entry` calls first, and what the code that runs calls once before it switches: AddressSanitizer is told.
  static void arrived();
  void adopt_stack();

  bool owns(const void* address) const;  // the stack or the page below it

 private:
  unsigned char* memory_ = nullptr;
  const void* bottom_ = nullptr;  // of the stack, for AddressSanitizer
  size_t size_ = 0;
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t state_;
#endif
};

}  // namespace fusedrnn::cuda::simt
