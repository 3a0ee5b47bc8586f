#include "isa/registry.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "device/host_memory.hpp"
#include "device/plugin.hpp"
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

const Backend* from_environment() {
  const std::vector<const Backend*> backends = available_backends();
  const char* wanted = std::getenv("FUSEDRNN_ISA");
  if (wanted == nullptr || *wanted == '\0') return backends.back();
  if (const Backend* backend = find(backends, wanted)) return backend;
  throw std::runtime_error("FUSEDRNN_ISA is '" + std::string(wanted) +
                           "', which this machine cannot run; it must be one of " + listed(backends) +
                           ", or unset for the best of them");
}

}  // namespace

std::vector<const Backend*> available_backends() {
  std::vector<const Backend*> backends;
#if defined(FUSEDRNN_HAS_SCALAR)
  backends.push_back(&fusedrnn_backend_scalar);
#endif
#if defined(FUSEDRNN_HAS_NEON)
  backends.push_back(&fusedrnn_backend_neon);
#endif
#if defined(FUSEDRNN_HAS_AVX2)
  if (cpu_has_avx2()) backends.push_back(&fusedrnn_backend_avx2);
#endif
#if defined(FUSEDRNN_HAS_AVX512)
  if (cpu_has_avx512()) backends.push_back(&fusedrnn_backend_avx512);
#endif
  return backends;
}

const Backend& current_backend() {
  const Backend* backend = chosen.load(std::memory_order_acquire);
  if (backend == nullptr) {
    const Backend* first = from_environment();
    if (chosen.compare_exchange_strong(backend, first, std::memory_order_acq_rel)) backend = first;
  }
  return *backend;
}

void set_backend(const std::string& name) {
  const std::vector<const Backend*> backends = available_backends();
  const Backend* backend = find(backends, name);
  if (backend == nullptr && (name == "cuda" || name == "simt")) {
    const Plugin& plugin = cuda_plugin();
    if (plugin.backend == nullptr) throw std::runtime_error(name + " cannot be used: " + plugin.why_not);
    if (name == plugin.backend->name) backend = &staged(*plugin.backend);
  }
  if (backend == nullptr) {
    throw std::invalid_argument("name must be one of " + listed(backends) + ", or that of a plugin, it is '" + name +
                                "'");
  }
  chosen.store(backend, std::memory_order_release);
}

}  // namespace fusedrnn
