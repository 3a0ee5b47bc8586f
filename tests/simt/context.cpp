#include "context.hpp"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" {
void __asan_unpoison_memory_region(void const volatile*, size_t) __attribute__((weak));
void __sanitizer_start_switch_fiber(void**, const void*, size_t) __attribute__((weak));
void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) __attribute__((weak));
}

#if defined(__x86_64__)
// void fusedrnn_simt_change(void** from, void* to): keeps what a callee must keep on the stack, exchanges stacks.
extern "C" void fusedrnn_simt_change(void** from, void* to);
asm(R"(
  .text
  .p2align 4
  .globl fusedrnn_simt_change
  .hidden fusedrnn_simt_change
  .type fusedrnn_simt_change, @function
fusedrnn_simt_change:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size fusedrnn_simt_change, .-fusedrnn_simt_change
)");
#endif

namespace fusedrnn::cuda::simt {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kStack = 64 * 1024;

}  // namespace

void Context::create() {
  memory_ = map_pages(kPage + kStack);
  mprotect(memory_, kPage, PROT_NONE);
  bottom_ = memory_ + kPage;
  size_ = kStack;
}

void Context::adopt_stack() {
  if (!__sanitizer_start_switch_fiber) return;
  pthread_attr_t attributes;
  void* bottom;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &bottom, &size_);
  pthread_attr_destroy(&attributes);
  bottom_ = bottom;
}

void Context::arrived() {
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
}

Context::~Context() {
  if (memory_ != nullptr) munmap(memory_, kPage + kStack);
}

void Context::start(void (*entry)()) {
  unsigned char* stack = memory_ + kPage;
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(stack, kStack);
#if defined(__x86_64__)
  // Six registers and the address that `ret` takes; on entry the stack is 8 bytes off a multiple of 16.
  void* frame[8] = {nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, reinterpret_cast<void*>(entry), nullptr};
  unsigned char* top = stack + kStack - sizeof frame;
  std::memcpy(top, frame, sizeof frame);
  stack_pointer_ = top;
#else
  getcontext(&state_);
  state_.uc_stack.ss_sp = stack;
  state_.uc_stack.ss_size = kStack;
  state_.uc_link = nullptr;
  makecontext(&state_, entry, 0);
#endif
}

void Context::change(Context& from, Context& to) {
  void* fake_stack = nullptr;
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&fake_stack, to.bottom_, to.size_);
#if defined(__x86_64__)
  fusedrnn_simt_change(&from.stack_pointer_, to.stack_pointer_);
#else
  swapcontext(&from.state_, &to.state_);
#endif
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

unsigned char* map_pages(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::fprintf(stderr, "the emulator has no memory for %zu more bytes\n", bytes);
    std::abort();
  }
  return static_cast<unsigned char*>(memory);
}

bool Context::owns(const void* address) const {
  const auto a = reinterpret_cast<uintptr_t>(address), first = reinterpret_cast<uintptr_t>(memory_);
  return a >= first && a < first + kPage + kStack;
}

}  // namespace fusedrnn::cuda::simt
