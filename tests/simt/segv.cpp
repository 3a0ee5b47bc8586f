#include "segv.hpp"

#include <pthread.h>

#include <cstddef>

#include "scheduler.hpp"

namespace fusedrnn::cuda::simt {
namespace {

// Written under the lock of the launch.
struct sigaction old_segv, old_bus;
pthread_t launching;
alignas(64) unsigned char handler_stack[64 * 1024];

void handle(int signal, siginfo_t* info, void*) {
  Launch& launch = current_launch();
  if (!pthread_equal(pthread_self(), launching) || launch.current == nullptr) {
    // Not a kernel's doing: the access happens again under the handler that was there before.
    sigaction(SIGSEGV, &old_segv, nullptr);
    sigaction(SIGBUS, &old_bus, nullptr);
    return;
  }
  // The handler never returns, so the signal that it blocks is unblocked here.
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, signal);
  pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
  if (launch.on_guard_of_stack(info->si_addr)) launch.stop("overflows its stack of 64 KiB");
  launch.stop(describe_address(info->si_addr).text);
}

}  // namespace

SegvGuard::SegvGuard() {
  launching = pthread_self();
  stack_t stack = {};
  stack.ss_sp = handler_stack;
  stack.ss_size = sizeof handler_stack;
  sigaltstack(&stack, &old_stack_);
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, &old_segv);
  sigaction(SIGBUS, &action, &old_bus);
}

SegvGuard::~SegvGuard() {
  sigaction(SIGSEGV, &old_segv, nullptr);
  sigaction(SIGBUS, &old_bus, nullptr);
  sigaltstack(&old_stack_, nullptr);
}

}  // namespace fusedrnn::cuda::simt
