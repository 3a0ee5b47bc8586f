// The backends compiled in, and which one is in use.
#pragma once

#include <string>
#include <vector>

#include "backend/backend.hpp"

namespace fusedrnn {

// Those this machine can run, the slowest (scalar) first, the default last.
std::vector<const Backend*> available_backends();

// Why `amx` is not one of them, in words; nullptr where it is.
const char* why_no_tiles();

// The one in use: the last set_backend, else FUSEDRNN_ISA, else the best. Throws std::runtime_error when FUSEDRNN_ISA
// names what is not available here, and when nothing is: nothing else is used in its place.
const Backend& current_backend();

// One of those available, or one that was loaded. Throws std::invalid_argument when `name` is neither. Calls that are
// running keep the backend they began with.
void set_backend(const std::string& name);

// Opens a plugin whose table is for host memory, as the CPU's are. Returns its name, for set_backend. Throws
// std::runtime_error where it cannot be used, and std::invalid_argument where it is no such plugin.
std::string load_backend(const std::string& path);

// An instruction set that was compiled in, and whether this machine has it.
struct InstructionSet {
  const Backend* backend;
  bool available;
};

// What current_backend() begins with: `wanted` (FUSEDRNN_ISA; nullptr or empty: the last one available). Throws
// std::runtime_error where there is none.
const Backend& first_backend(const std::vector<InstructionSet>& built, const char* wanted);

}  // namespace fusedrnn
