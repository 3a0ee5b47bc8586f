// Whether integers are in their range: what a host would have to wait for to look itself. One block, so that of several
// wrong values the first is told whatever the order of threads.
#include "entries.hpp"
#include "products/elements.cuh"
#include "sum.cuh"

namespace fusedrnn::cuda {
namespace {

constexpr int kThreads = 1024, kEach = 8;

FR_DEVICE bool wrong(const CheckArgs& a, int64_t i, int64_t value) {
  if (value >= a.low && value <= a.high) return false;
  if (a.has_ignore_index && value == a.ignore_index) return false;
  return !a.mask.data || element_of<uint8_t>(a.mask, i) != 0;
}

FR_KERNEL void FR_LAUNCH_BOUNDS(kThreads, 1) check_kernel(const FR_CONSTANT CheckArgs a) {
  int64_t first = a.count;
  for (int64_t begin = hw::thread(); begin < a.count; begin += kEach * kThreads) {
    int64_t value[kEach];
    FR_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const int64_t i = begin + j * kThreads;
      value[j] = i < a.count ? element_of<int64_t>(a.values, i) : a.low;
    }
    FR_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const int64_t i = begin + j * kThreads;
      if (i < first && wrong(a, i, value[j])) first = i;
    }
  }
  first = -block_max<kThreads>(-first);
  if (hw::thread() == 0 && first < a.count && a.fault->what == 0)
    *a.fault = Fault{a.what, first, element_of<int64_t>(a.values, first)};
}

}  // namespace

Status check_values(const CheckArgs* a, Stream stream) {
  return hw::launch<check_kernel>({{1}, kThreads, kBlockBytes<int64_t, kThreads>}, stream, *a);
}

}  // namespace fusedrnn::cuda
