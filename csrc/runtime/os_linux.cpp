#if defined(__linux__)
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

#include "runtime/os.hpp"

namespace fusedrnn {

void os_sleep(uint32_t* word, uint32_t expected) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void os_wake_all(uint32_t* word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0); }

bool os_start_thread(void* (*run)(void*), void* argument, const char* name) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const bool started = pthread_create(&thread, &attributes, run, argument) == 0;
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (started) pthread_setname_np(thread, name);
  return started;
}

void* os_allocate(size_t alignment, size_t bytes, bool huge) {
  void* const memory = std::aligned_alloc(alignment, bytes);
  if (memory != nullptr && huge) madvise(memory, bytes, MADV_HUGEPAGE);
  return memory;
}

const char* os_trusted_environment(const char* name) { return secure_getenv(name); }

}  // namespace fusedrnn
#endif
