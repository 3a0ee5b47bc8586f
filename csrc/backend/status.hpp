// How a CPU kernel reports failure: `return fail(Status::unsupported, "why")`. The text must be a literal.
#pragma once

#include "backend/backend.hpp"

// The last failure of the calling thread, of whatever instruction set (runtime/failure.cpp).
extern "C" void fusedrnn_set_failure(const char* text);
extern "C" const char* fusedrnn_failure();

namespace fusedrnn::FUSEDRNN_ISA {
namespace {

[[maybe_unused]] Status fail(Status status, const char* text) {
  fusedrnn_set_failure(text);
  return status;
}

}  // namespace
}  // namespace fusedrnn::FUSEDRNN_ISA
