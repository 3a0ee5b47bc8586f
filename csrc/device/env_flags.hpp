// What a device does unless the environment says 0: read again by every call, so that it can be changed in between.
#pragma once

#include <cstdlib>
#include <cstring>

namespace fusedrnn {

inline bool env_flag(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr || std::strcmp(text, "0") != 0;
}

// Whether devices may be given work as graphs that they run as a whole.
inline bool graphs_wanted() { return env_flag("FUSEDRNN_GRAPHS"); }

// Whether the kernel of a step may begin while that of the step before runs.
inline bool overlap_wanted() { return env_flag("FUSEDRNN_OVERLAP"); }

}  // namespace fusedrnn
