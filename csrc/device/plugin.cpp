#include "device/plugin.hpp"

#include <fstream>
#include <utility>

#include "backend/toolkits.hpp"
#include "runtime/os.hpp"

namespace fusedrnn {
namespace {

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string package_for(int toolkit) { return "fusedrnn-cuda" + std::to_string(toolkit); }
std::string folder_for(int toolkit) { return "fusedrnn_cuda" + std::to_string(toolkit); }

void here() {}
std::string this_module() { return os_file_of(here); }

Plugin unusable(const std::string& path, const std::string& why) { return {nullptr, why, path, false, {}}; }

struct Candidate {
  std::string path, remedy;
};

// Built with the package, or installed as a package of its own.
std::vector<Candidate> candidates() {
  const std::string package = folder_of(this_module()), library = "/libfusedrnn_cuda.so";
  std::vector<Candidate> found = {{package + library, "install fusedrnn again"}};
  for (const int toolkit : kCudaToolkits)
    found.push_back({folder_of(package) + "/" + folder_for(toolkit) + library,
                     "install " + package_for(toolkit) + " of the version of this fusedrnn"});
  return found;
}

Plugin open_cuda_plugin() {
  const char* forced = os_trusted_environment("FUSEDRNN_CUDA_PLUGIN");  // it names code to run
  if (forced != nullptr && *forced != '\0')
    return open_plugin(forced, "the CUDA plugin", "see what FUSEDRNN_CUDA_PLUGIN names");
  std::string names;
  for (const int toolkit : kCudaToolkits) names += (names.empty() ? "" : " or ") + package_for(toolkit);
  Plugin plugin = unusable("", "this build has no CUDA plugin: install " + names +
                                   ", whichever CUDA the driver supports, or build with FUSEDRNN_CUDA=ON and nvcc 12.1 "
                                   "or newer on the PATH (cuda/README.md)");
  std::vector<Plugin::Refused> refused;
  for (const Candidate& candidate : candidates()) {
    if (!std::ifstream(candidate.path)) continue;
    if (plugin.refuses) refused.push_back({plugin.path, plugin.why_not});
    plugin = open_plugin(candidate.path, "the CUDA plugin", candidate.remedy);
    // One that is damaged is to be mended, also where another would do.
    if (!plugin.refuses) break;
  }
  plugin.not_used = std::move(refused);
  return plugin;
}

}  // namespace

Plugin open_plugin(const std::string& path, const std::string& what, const std::string& remedy) {
  // Its symbols stay its own, and it stays open: its table is used until the process ends.
  std::string why;
  void* library = os_open_library(path, &why);
  if (library == nullptr) return unusable(path, what + " cannot be opened (" + why + "): " + remedy);
  const auto entry = reinterpret_cast<PluginEntry>(os_symbol(library, "fusedrnn_plugin"));
  if (entry == nullptr) return unusable(path, path + " is no plugin of fusedrnn, it lacks its symbol: " + remedy);
  char reason[1024] = "it gave no reason";
  const Backend* backend = entry(kBackendAbi, reason, sizeof reason);
  if (backend == nullptr) return {nullptr, reason, path, true, {}};
  if (backend->abi != kBackendAbi || backend->size != sizeof(Backend)) {
    return unusable(path, path + " was built for another version of fusedrnn: its table is of version " +
                              std::to_string(backend->abi) + " and " + std::to_string(backend->size) +
                              " bytes, this package's of version " + std::to_string(kBackendAbi) + " and " +
                              std::to_string(sizeof(Backend)) + ": " + remedy);
  }
  return {backend, "", path, false, {}};
}

std::vector<std::string> cuda_packages() {
  std::vector<std::string> folders;
  for (const int toolkit : kCudaToolkits) folders.push_back(folder_for(toolkit));
  return folders;
}

const Plugin& cuda_plugin() {
  static const Plugin plugin = open_cuda_plugin();
  return plugin;
}

}  // namespace fusedrnn
