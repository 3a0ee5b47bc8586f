// Plugins: libraries that export the table of a backend (backend/backend.hpp's PluginEntry), opened on first use, never
// at import.
#pragma once

#include <string>

#include "backend/backend.hpp"

namespace fusedrnn {

struct Plugin {
  const Backend* backend;  // nullptr where it cannot be used
  std::string why_not;     // then the reason, in one sentence
  std::string path;        // of the library, empty where there is none
};

// Opens the library at `path`, which stays open. What it is called and how to mend it are parts of the reason why it
// cannot be used.
Plugin open_plugin(const std::string& path, const std::string& what, const std::string& remedy);

// The CUDA plugin: the library in FUSEDRNN_CUDA_PLUGIN, else libfusedrnn_cuda.so in the folder of this module. The
// first call decides for the whole process.
const Plugin& cuda_plugin();

}  // namespace fusedrnn
