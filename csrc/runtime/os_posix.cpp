// What Linux and macOS have in common.
#if !defined(_WIN32)
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>

#include "runtime/os.hpp"

namespace fusedrnn {

void os_at_fork(void (*before)(), void (*parent)(), void (*child)()) { pthread_atfork(before, parent, child); }

void os_nap() { usleep(20); }

void os_free(void* memory) { std::free(memory); }

std::string os_file_of(void (*function)()) {
  Dl_info info;
  const bool found = dladdr(reinterpret_cast<void*>(function), &info) != 0 && info.dli_fname != nullptr;
  return found ? info.dli_fname : "";
}

void* os_open_library(const std::string& path, std::string* why) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* error = dlerror();
    *why = error != nullptr ? error : path;
  }
  return library;
}

void* os_symbol(void* library, const char* name) { return dlsym(library, name); }

}  // namespace fusedrnn
#endif
