// Compiled by a cross-compiler; not yet run.
#if defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>

#include "runtime/os.hpp"

// Of the system's library since macOS 10.12 and in its C++ library's atomics; <os/os_sync_wait_on_address.h>, which is
// public, needs 14.4.
extern "C" int __ulock_wait(uint32_t operation, void* address, uint64_t value, uint32_t microseconds);
extern "C" int __ulock_wake(uint32_t operation, void* address, uint64_t value);

namespace fusedrnn {
namespace {

constexpr uint32_t kCompareAndWait = 1, kWakeAll = 0x100;

struct Start {
  void* (*run)(void*);
  void* argument;
  char name[16];
};

// A thread can name only itself.
void* named(void* pointer) {
  const Start start = *static_cast<Start*>(pointer);
  std::free(pointer);
  pthread_setname_np(start.name);
  return start.run(start.argument);
}

}  // namespace

void os_sleep(uint32_t* word, uint32_t expected) { __ulock_wait(kCompareAndWait, word, expected, 0); }

void os_wake_all(uint32_t* word) { __ulock_wake(kCompareAndWait | kWakeAll, word, 0); }

bool os_start_thread(void* (*run)(void*), void* argument, const char* name) {
  auto* const start = static_cast<Start*>(std::malloc(sizeof(Start)));
  if (start == nullptr) return false;
  *start = {run, argument, {}};
  for (int i = 0; i < 15 && name[i] != '\0'; ++i) start->name[i] = name[i];
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const bool started = pthread_create(&thread, &attributes, named, start) == 0;
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!started) std::free(start);
  return started;
}

// The system chooses the size of pages.
void* os_allocate(size_t alignment, size_t bytes, bool /*huge*/) {
  void* memory = nullptr;
  return posix_memalign(&memory, alignment, bytes) == 0 ? memory : nullptr;
}

const char* os_trusted_environment(const char* name) { return issetugid() != 0 ? nullptr : std::getenv(name); }

}  // namespace fusedrnn
#endif
