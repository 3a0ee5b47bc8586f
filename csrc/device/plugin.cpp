#include "device/plugin.hpp"

#include <fstream>

#include "runtime/os.hpp"

namespace fusedrnn {
namespace {

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

void here() {}
std::string this_module() { return os_file_of(here); }

Plugin refused(const std::string& path, const std::string& why) { return {nullptr, why, path}; }

Plugin open_cuda_plugin() {
  const char* forced = os_trusted_environment("FUSEDRNN_CUDA_PLUGIN");  // it names code to run
  if (forced != nullptr && *forced != '\0')
    return open_plugin(forced, "the CUDA plugin", "see what FUSEDRNN_CUDA_PLUGIN names");
  // Built with the package, or installed as a package of its own, whose name cuda/pyproject.toml states.
  const std::string package = folder_of(this_module());
  const struct {
    std::string path, remedy;
  } places[] = {{package + "/libfusedrnn_cuda.so", "install fusedrnn again"},
                {folder_of(package) + "/fusedrnn_cuda13/libfusedrnn_cuda.so",
                 "install fusedrnn-cuda13 of the version of this fusedrnn"}};
  for (const auto& place : places) {
    if (std::ifstream(place.path)) return open_plugin(place.path, "the CUDA plugin", place.remedy);
  }
  return refused("",
                 "this build has no CUDA plugin: install fusedrnn-cuda13, or build with FUSEDRNN_CUDA=ON and nvcc 12.1 "
                 "or newer on the PATH (cuda/README.md)");
}

}  // namespace

Plugin open_plugin(const std::string& path, const std::string& what, const std::string& remedy) {
  // Its symbols stay its own, and it stays open: its table is used until the process ends.
  std::string why;
  void* library = os_open_library(path, &why);
  if (library == nullptr) return refused(path, what + " cannot be opened (" + why + "): " + remedy);
  const auto entry = reinterpret_cast<PluginEntry>(os_symbol(library, "fusedrnn_plugin"));
  if (entry == nullptr) return refused(path, path + " is no plugin of fusedrnn, it lacks its symbol: " + remedy);
  char reason[1024] = "it gave no reason";
  const Backend* backend = entry(kBackendAbi, reason, sizeof reason);
  if (backend == nullptr) return refused(path, reason);
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
