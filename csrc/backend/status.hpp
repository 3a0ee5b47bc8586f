// How a CPU kernel reports failure: `return fail(Status::unsupported, "why")`. The text must be a literal.
#pragma once

#include "backend/backend.hpp"

namespace fusedrnn::FUSEDRNN_ISA {
namespace {

thread_local const char* last_failure = "no failure";

[[maybe_unused]] Status fail(Status status, const char* text) {
  last_failure = text;
  return status;
}

// The last failure of the calling thread.
const char* status_text() { return last_failure; }

}  // namespace
}  // namespace fusedrnn::FUSEDRNN_ISA
