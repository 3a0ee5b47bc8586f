// Whether devices may be given work as graphs that they run as a whole: unless FUSEDRNN_GRAPHS is 0.
#pragma once

#include <cstdlib>
#include <cstring>

namespace fusedrnn {

inline bool graphs_wanted() {
  const char* text = std::getenv("FUSEDRNN_GRAPHS");
  return text == nullptr || std::strcmp(text, "0") != 0;
}

}  // namespace fusedrnn
