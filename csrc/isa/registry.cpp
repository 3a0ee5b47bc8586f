#include "isa/registry.hpp"

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <stdexcept>

#include "device/plugin.hpp"
#include "isa/amx.hpp"
#include "isa/detect.hpp"

extern "C" {
#if defined(FUSEDRNN_HAS_SCALAR)
extern const fusedrnn::Backend fusedrnn_backend_scalar;
#endif
#if defined(FUSEDRNN_HAS_AVX2)
extern const fusedrnn::Backend fusedrnn_backend_avx2;
#endif
#if defined(FUSEDRNN_HAS_AVX512)
extern const fusedrnn::Backend fusedrnn_backend_avx512;
#endif
#if defined(FUSEDRNN_HAS_NEON)
extern const fusedrnn::Backend fusedrnn_backend_neon;
#endif
}

namespace fusedrnn {
namespace {

std::atomic<const Backend*> chosen{nullptr};

std::string listed(const std::vector<const Backend*>& backends) {
  std::string text;
  for (const Backend* backend : backends) text += (text.empty() ? "" : ", ") + std::string(backend->name);
  return text;
}

const Backend* find(const std::vector<const Backend*>& backends, const std::string& name) {
  for (const Backend* backend : backends) {
    if (name == backend->name) return backend;
  }
  return nullptr;
}

std::vector<InstructionSet> instruction_sets() {
  return {
#if defined(FUSEDRNN_HAS_SCALAR)
      {&fusedrnn_backend_scalar, true},
#endif
#if defined(FUSEDRNN_HAS_NEON)
      {&fusedrnn_backend_neon, true},
#endif
#if defined(FUSEDRNN_HAS_AVX2)
      {&fusedrnn_backend_avx2, cpu_has_avx2()},
#endif
#if defined(FUSEDRNN_HAS_AVX512)
      {&fusedrnn_backend_avx512, cpu_has_avx512()},
#endif
#if defined(FUSEDRNN_HAS_AMX)
      {&amx_backend(), why_no_amx() == nullptr},
#endif
  };
}

std::vector<const Backend*> available_of(const std::vector<InstructionSet>& built) {
  std::vector<const Backend*> backends;
  for (const InstructionSet& set : built)
    if (set.available) backends.push_back(set.backend);
  return backends;
}

std::mutex loading;
std::vector<const Backend*> loaded;  // guarded by it

// Those available and those loaded.
std::vector<const Backend*> all_backends() {
  std::vector<const Backend*> backends = available_backends();
  const std::lock_guard<std::mutex> lock(loading);
  backends.insert(backends.end(), loaded.begin(), loaded.end());
  return backends;
}

}  // namespace

const char* why_no_tiles() {
#if defined(FUSEDRNN_HAS_AMX)
  return why_no_amx();
#else
  return "this build has no kernels for AMX, which its compiler lacks or FUSEDRNN_ISAS leaves out";
#endif
}

std::vector<const Backend*> available_backends() { return available_of(instruction_sets()); }

const Backend& first_backend(const std::vector<InstructionSet>& built, const char* wanted) {
  const std::vector<const Backend*> backends = available_of(built);
  if (backends.empty()) {
    std::vector<const Backend*> all;
    for (const InstructionSet& set : built) all.push_back(set.backend);
    throw std::runtime_error("this build of fusedrnn has kernels for " + listed(all) + ", and this machine has " +
                             cpu_instruction_sets() + ": build with FUSEDRNN_ISAS unset, or with scalar among them");
  }
  if (wanted == nullptr || *wanted == '\0') return *backends.back();
  if (const Backend* backend = find(backends, wanted)) return *backend;
  throw std::runtime_error("FUSEDRNN_ISA is '" + std::string(wanted) +
                           "', which this machine cannot run; it must be one of " + listed(backends) +
                           ", or unset for the best of them");
}

const Backend& current_backend() {
  const Backend* backend = chosen.load(std::memory_order_acquire);
  if (backend == nullptr) {
    const Backend* first = &first_backend(instruction_sets(), std::getenv("FUSEDRNN_ISA"));
    if (chosen.compare_exchange_strong(backend, first, std::memory_order_acq_rel)) backend = first;
  }
  return *backend;
}

void set_backend(const std::string& name) {
  const std::vector<const Backend*> backends = all_backends();
  const Backend* backend = find(backends, name);
  if (backend == nullptr)
    throw std::invalid_argument("name must be one of " + listed(backends) + ", it is '" + name + "'");
  chosen.store(backend, std::memory_order_release);
}

std::string load_backend(const std::string& path) {
  const Plugin plugin = open_plugin(path, "the plugin", "see whether that is its path");
  if (plugin.backend == nullptr) throw std::runtime_error(plugin.why_not);
  const std::string name = plugin.backend->name;
  if (plugin.backend->memory != kHostMemory)
    throw std::invalid_argument("path must be that of a plugin for host memory, " + name +
                                " has memory of its own: name it in FUSEDRNN_CUDA_PLUGIN");
  const Backend* other = find(all_backends(), name);
  if (other == plugin.backend) return name;
  if (other != nullptr) throw std::invalid_argument("path must be that of a backend with a new name, it is " + name);
  const std::lock_guard<std::mutex> lock(loading);
  loaded.push_back(plugin.backend);
  return name;
}

}  // namespace fusedrnn
