// Notes which kernels ran and how, for tests/cuda_budgets.py: with FUSEDRNN_SIMT_LAUNCHES=FILE a line for each kernel
// is added to the file when the process ends, its mangled name, the most threads of a block, the most shared memory,
// the most passes through shared memory that an access of a warp took (banks.hpp), and where that was: an offset into
// the plugin, for addr2line.
// And counts launches, for who asks fusedrnn_simt_launches() or fusedrnn_simt_overlapping().
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "runtime.hpp"

namespace fusedrnn::cuda::simt {
namespace {

struct Most {
  int threads = 0;
  size_t shared_bytes = 0;
  int passes = 0;
  const void* site = nullptr;
  std::map<size_t, int> metered;  // launches of a size
};

class Notes {
 public:
  void add(const LaunchShape& shape) {
    if (path_ == nullptr) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    Most& most = kernels_[shape.kernel];
    most.threads = std::max(most.threads, shape.threads);
    most.shared_bytes = std::max(most.shared_bytes, shape.shared_bytes);
  }

  bool wants_banks(const LaunchShape& shape) {
    constexpr int kLaunches = 50;
    if (path_ == nullptr) return false;
    const std::lock_guard<std::mutex> lock(mutex_);
    return kernels_[shape.kernel].metered[shape.shared_bytes]++ < kLaunches;
  }

  void add_passes(const LaunchShape& shape, int passes, const void* site) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Most& most = kernels_[shape.kernel];
    if (passes <= most.passes) return;
    most.passes = passes;
    most.site = site;
  }

  ~Notes() {
    std::FILE* file = path_ == nullptr ? nullptr : std::fopen(path_, "a");
    if (file == nullptr) return;
    for (const auto& [kernel, most] : kernels_) {
      Dl_info plugin = {};
      const bool found = most.site != nullptr && dladdr(most.site, &plugin) != 0;
      const ptrdiff_t at = found ? static_cast<const char*>(most.site) - static_cast<const char*>(plugin.dli_fbase) : 0;
      std::fprintf(file, "%s %d %zu %d %#tx\n", kernel, most.threads, most.shared_bytes, most.passes, at);
    }
    std::fclose(file);
  }

 private:
  const char* const path_ = std::getenv("FUSEDRNN_SIMT_LAUNCHES");
  std::mutex mutex_;
  std::map<const char*, Most> kernels_;
};

Notes& notes() {
  static Notes notes;
  return notes;
}

std::atomic<int64_t> launches{0}, overlapping{0};

}  // namespace

void note_launch(const LaunchShape& shape) {
  ++launches;
  overlapping += shape.overlaps;
  notes().add(shape);
}

bool banks_wanted(const LaunchShape& shape) { return notes().wants_banks(shape); }

void note_passes(const LaunchShape& shape, int passes, const void* site) { notes().add_passes(shape, passes, site); }

}  // namespace fusedrnn::cuda::simt

// How many launches of kernels there have been in this process.
extern "C" __attribute__((visibility("default"))) int64_t fusedrnn_simt_launches() {
  return fusedrnn::cuda::simt::launches;
}
// And how many of these may begin before the launch before them has ended.
extern "C" __attribute__((visibility("default"))) int64_t fusedrnn_simt_overlapping() {
  return fusedrnn::cuda::simt::overlapping;
}
