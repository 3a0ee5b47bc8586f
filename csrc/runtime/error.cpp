#include "runtime/error.hpp"

#include <new>
#include <stdexcept>
#include <string>

namespace fusedrnn {

void check(const Backend& backend, Status status, const char* call) {
  if (status == Status::ok) return;
  if (status == Status::out_of_memory) throw std::bad_alloc();
  const std::string text = std::string(call) + " (" + backend.name + "): " + backend.status_text();
  if (status == Status::invalid_argument) throw std::invalid_argument(text);
  throw std::runtime_error(text);
}

}  // namespace fusedrnn
