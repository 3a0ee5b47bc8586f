// The backend `amx`, where a build has it: tiles multiply bfloat16, and all else is AVX-512's.
#pragma once

#include "backend/backend.hpp"

namespace fusedrnn {

const Backend& amx_backend();

}  // namespace fusedrnn
