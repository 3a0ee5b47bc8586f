// Compiled by a cross-compiler; not yet run.
#if defined(_WIN32)
#include <malloc.h>
#include <process.h>
#include <windows.h>

#include <cstdlib>

#include "runtime/os.hpp"

namespace fusedrnn {
namespace {

struct Start {
  void* (*run)(void*);
  void* argument;
};

unsigned __stdcall begun(void* pointer) {
  const Start start = *static_cast<Start*>(pointer);
  std::free(pointer);
  start.run(start.argument);
  return 0;
}

}  // namespace

void os_sleep(uint32_t* word, uint32_t expected) { WaitOnAddress(word, &expected, sizeof expected, INFINITE); }

void os_wake_all(uint32_t* word) { WakeByAddressAll(word); }

bool os_start_thread(void* (*run)(void*), void* argument, const char* /*name*/) {
  auto* const start = static_cast<Start*>(std::malloc(sizeof(Start)));
  if (start == nullptr) return false;
  *start = {run, argument};
  const uintptr_t thread = _beginthreadex(nullptr, 0, begun, start, 0, nullptr);
  if (thread == 0) {
    std::free(start);
    return false;
  }
  CloseHandle(reinterpret_cast<HANDLE>(thread));  // the team never joins it
  return true;
}

void os_at_fork(void (*)(), void (*)(), void (*)()) {}

void os_nap() { Sleep(0); }

void* os_allocate(size_t alignment, size_t bytes, bool /*huge*/) { return _aligned_malloc(bytes, alignment); }

void os_free(void* memory) { _aligned_free(memory); }

std::string os_file_of(void (*function)()) {
  HMODULE module = nullptr;
  const DWORD how = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
  if (!GetModuleHandleExA(how, reinterpret_cast<LPCSTR>(function), &module)) return "";
  char path[MAX_PATH];
  const DWORD length = GetModuleFileNameA(module, path, sizeof path);
  std::string found(path, length < sizeof path ? length : 0);
  for (char& character : found)
    if (character == '\\') character = '/';
  return found;
}

void* os_open_library(const std::string& path, std::string* why) {
  const HMODULE library = LoadLibraryA(path.c_str());
  if (library == nullptr) *why = path + ": error " + std::to_string(GetLastError());
  return reinterpret_cast<void*>(library);
}

void* os_symbol(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}

const char* os_trusted_environment(const char* name) { return std::getenv(name); }  // no program has more rights

}  // namespace fusedrnn
#endif
