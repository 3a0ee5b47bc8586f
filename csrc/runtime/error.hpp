// Status codes become exceptions here, above the backend. pybind11 turns std::invalid_argument into ValueError,
// std::bad_alloc into MemoryError and std::runtime_error into RuntimeError.
#pragma once

#include <cstddef>
#include <string>

#include "backend/backend.hpp"

namespace fusedrnn {

// Throws unless `status` is ok. `call` names the operation in the message.
void check(const Backend& backend, Status status, const char* call);

// Throws std::bad_alloc with a text: `what` would have been that large.
[[noreturn]] void no_memory(const std::string& what, size_t bytes);

}  // namespace fusedrnn
