// Whether integers are in their range: what a host would have to wait for to look itself. Each block looks through a
// chunk, and a second kernel through what they found, so that of several wrong values the first is named whatever the
// order of blocks and threads.
#include "backend/scratch.hpp"
#include "entries.hpp"
#include "products/elements.cuh"
#include "sum.cuh"

namespace fusedrnn::cuda {
namespace {

constexpr int kThreads = 256, kEach = 8;  // values that a thread asks for before it looks at the first

FR_DEVICE bool wrong(const CheckArgs& a, int64_t i, int64_t value) {
  if (value >= a.low && value <= a.high) return false;
  if (a.has_ignore_index && value == a.ignore_index) return false;
  return !a.mask.data || element_of<uint8_t>(a.mask, i) != 0;
}

FR_DEVICE int64_t least_of_block(int64_t value) { return -block_max<kThreads>(-value); }

FR_DEVICE void tell(const CheckArgs& a, int64_t first) {
  if (hw::thread() == 0 && first < a.count && a.fault->what == 0)
    *a.fault = Fault{a.what, first, element_of<int64_t>(a.values, first)};
}

// Where the first wrong value of the block's chunk is, `count` where it has none; of a single chunk it is reported.
FR_KERNEL void FR_LAUNCH_BOUNDS(kThreads, 4) check_kernel(const FR_CONSTANT CheckArgs a) {
  const int64_t begin = hw::block_x() * kReduceChunk, after = begin + kReduceChunk;
  const int64_t end = after < a.count ? after : a.count;
  int64_t first = a.count;
  for (int64_t from = begin + hw::thread(); from < end; from += kEach * kThreads) {
    int64_t value[kEach];
    FR_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const int64_t i = from + j * kThreads;
      value[j] = i < end ? element_of<int64_t>(a.values, i) : a.low;
    }
    FR_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const int64_t i = from + j * kThreads;
      if (i < first && wrong(a, i, value[j])) first = i;
    }
  }
  first = least_of_block(first);
  if (hw::blocks_x() == 1)
    tell(a, first);
  else if (hw::thread() == 0)
    a.firsts[hw::block_x()] = first;
}

struct FirstTask {
  CheckArgs args;
  int64_t chunks;
};

// One block.
FR_KERNEL void first_wrong_kernel(const FR_CONSTANT FirstTask task) {
  int64_t first = task.args.count;
  FR_UNROLL_BY(4)
  for (int64_t i = hw::thread(); i < task.chunks; i += kThreads) {
    const int64_t found = task.args.firsts[i];
    first = found < first ? found : first;
  }
  tell(task.args, least_of_block(first));
}

}  // namespace

Status check_values(const CheckArgs* a, Stream stream) {
  const int64_t chunks = chunks_of(a->count);
  hw::Grid grid{{chunks}, kThreads, kBlockBytes<int64_t, kThreads>};
  const Status status = hw::launch<check_kernel>(grid, stream, *a);
  if (status != Status::ok || chunks <= 1) return status;
  grid.blocks.x = 1;
  return hw::launch<first_wrong_kernel>(grid, stream, {*a, chunks});
}

}  // namespace fusedrnn::cuda
