#include "runtime/memory.hpp"

#include <cstdlib>
#include <cstring>

namespace fusedrnn {
namespace {

bool poison() {
  static const bool on = [] {
    const char* value = std::getenv("FUSEDRNN_POISON");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  return on;
}

}  // namespace

Status host_alloc(size_t bytes, void** memory) {
  *memory = nullptr;
  if (bytes > PTRDIFF_MAX - kAlignment) return Status::out_of_memory;
  const size_t rounded = bytes == 0 ? kAlignment : (bytes + kAlignment - 1) / kAlignment * kAlignment;
  *memory = std::aligned_alloc(kAlignment, rounded);
  if (*memory == nullptr) return Status::out_of_memory;
  if (poison()) std::memset(*memory, 0xFF, rounded);
  return Status::ok;
}

void host_free(void* memory) { std::free(memory); }

Status host_copy(void* to, const void* from, size_t bytes, Stream) {
  if (bytes != 0) std::memcpy(to, from, bytes);
  return Status::ok;
}

Status host_fill(void* to, int value, size_t bytes, Stream) {
  if (bytes != 0) std::memset(to, value, bytes);
  return Status::ok;
}

}  // namespace fusedrnn
