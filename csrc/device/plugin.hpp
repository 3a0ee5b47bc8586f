// Plugins: libraries that export the table of a backend (backend/backend.hpp's PluginEntry), opened on first use, never
// at import.
#pragma once

#include <string>
#include <vector>

#include "backend/backend.hpp"

namespace fusedrnn {

struct Plugin {
  // A library that is whole, and says itself that it cannot run here.
  struct Refused {
    std::string path, why;
  };

  const Backend* backend;         // nullptr where it cannot be used
  std::string why_not;            // then the reason, in one sentence
  std::string path;               // of the library, empty where there is none
  bool refuses = false;           // the reason is the library's own: the machine's driver, its GPU
  std::vector<Refused> not_used;  // those looked at before this one
};

// Opens the library at `path`, which stays open. What it is called and how to mend it are parts of the reason why it
// cannot be used.
Plugin open_plugin(const std::string& path, const std::string& what, const std::string& remedy);

// The CUDA plugin: the library in FUSEDRNN_CUDA_PLUGIN, else the first that this machine's driver takes of
// libfusedrnn_cuda.so in the folder of this module and in those of cuda_packages(). The first call decides for the
// whole process.
const Plugin& cuda_plugin();

// The folders that packages of the CUDA plugin install beside this one's, the best first.
std::vector<std::string> cuda_packages();

}  // namespace fusedrnn
