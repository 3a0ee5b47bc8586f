// Notes which kernels ran and how, for tests/cuda_budgets.py: with FUSEDRNN_SIMT_LAUNCHES=FILE a line for each kernel
// is added to the file when the process ends, its mangled name, the most threads of a block and the most shared memory.
// And counts launches, for who asks fusedrnn_simt_launches() or fusedrnn_simt_overlapping().
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
};

class Notes {
 public:
  void add(const char* kernel, const LaunchShape& shape) {
    if (path_ == nullptr) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    Most& most = kernels_[kernel];
    most.threads = std::max(most.threads, shape.threads);
    most.shared_bytes = std::max(most.shared_bytes, shape.shared_bytes);
  }

  ~Notes() {
    std::FILE* file = path_ == nullptr ? nullptr : std::fopen(path_, "a");
    if (file == nullptr) return;
    for (const auto& [kernel, most] : kernels_)
      std::fprintf(file, "%s %d %zu\n", kernel, most.threads, most.shared_bytes);
    std::fclose(file);
  }

 private:
  const char* const path_ = std::getenv("FUSEDRNN_SIMT_LAUNCHES");
  std::mutex mutex_;
  std::map<const char*, Most> kernels_;
};

std::atomic<int64_t> launches{0}, overlapping{0};

}  // namespace

void note_launch(const char* kernel, const LaunchShape& shape) {
  static Notes notes;
  ++launches;
  overlapping += shape.overlaps;
  notes.add(kernel, shape);
}

}  // namespace fusedrnn::cuda::simt

// How many launches of kernels there have been in this process.
extern "C" __attribute__((visibility("default"))) int64_t fusedrnn_simt_launches() {
  return fusedrnn::cuda::simt::launches;
}
// And how many of these may begin before the launch before them has ended.
extern "C" __attribute__((visibility("default"))) int64_t fusedrnn_simt_overlapping() {
  return fusedrnn::cuda::simt::overlapping;
}
