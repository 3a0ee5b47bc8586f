#include "device/plugin.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>

namespace fusedrnn {
namespace {

// libfusedrnn_cuda.so in the folder of the library this function is in; empty where there is no such file.
std::string beside_this_module() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&beside_this_module), &info) == 0 || info.dli_fname == nullptr) return "";
  const std::string module = info.dli_fname;
  const size_t slash = module.rfind('/');
  const std::string path = (slash == std::string::npos ? "." : module.substr(0, slash)) + "/libfusedrnn_cuda.so";
  return access(path.c_str(), F_OK) == 0 ? path : "";
}

Plugin refused(const std::string& path, const std::string& why) { return {nullptr, why, path}; }

Plugin open_cuda_plugin() {
  const char* forced = std::getenv("FUSEDRNN_CUDA_PLUGIN");
  if (forced != nullptr && *forced != '\0')
    return open_plugin(forced, "the CUDA plugin", "see what FUSEDRNN_CUDA_PLUGIN names");
  const std::string path = beside_this_module();
  if (path.empty()) {
    return refused(path,
                   "this build has no CUDA plugin: build with FUSEDRNN_CUDA=ON and nvcc 12.1 or newer on the PATH "
                   "(cuda/README.md)");
  }
  return open_plugin(path, "the CUDA plugin", "install fusedrnn again");
}

}  // namespace

Plugin open_plugin(const std::string& path, const std::string& what, const std::string& remedy) {
  // Its symbols stay its own, and it stays open: its table is used until the process ends.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* error = dlerror();
    return refused(
        path, what + " cannot be opened (" + std::string(error != nullptr ? error : path.c_str()) + "): " + remedy);
  }
  const auto entry = reinterpret_cast<PluginEntry>(dlsym(library, "fusedrnn_plugin"));
  if (entry == nullptr) return refused(path, path + " is no plugin of fusedrnn, it lacks its symbol: " + remedy);
  char why[1024] = "it gave no reason";
  const Backend* backend = entry(kBackendAbi, why, sizeof why);
  if (backend == nullptr) return refused(path, why);
  if (backend->abi != kBackendAbi || backend->size != sizeof(Backend)) {
    return refused(path, path + " was built for another version of fusedrnn: its table is of version " +
                             std::to_string(backend->abi) + " and " + std::to_string(backend->size) +
                             " bytes, this package's of version " + std::to_string(kBackendAbi) + " and " +
                             std::to_string(sizeof(Backend)) + ": " + remedy);
  }
  return {backend, "", path};
}

const Plugin& cuda_plugin() {
  static const Plugin plugin = open_cuda_plugin();
  return plugin;
}

}  // namespace fusedrnn
