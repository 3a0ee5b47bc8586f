// Rows of a table by index, and the gradient of the table.
//
// Backward without atomics, in one kernel: a block owns some rows of the table and 128 columns, a thread one of these.
// Blocks look through all ids, 1024 at a time, and list those of their rows in order. A thread then walks the list:
// each sum is one chain over the ids in order, from what the gradient held before, as on a CPU. Ids are read by every
// block, but from the second-level cache: dy, which is `width` times as large, is read once.
#include "dtype.hpp"
#include "entries.hpp"
#include "products/elements.cuh"
#include "warp_rows.cuh"

namespace fusedrnn::cuda {
namespace {

template <class T>
FR_KERNEL void embedding_forward_kernel(const FR_CONSTANT EmbeddingArgs a) {
  const int64_t i = warp_row();
  if (i >= a.count) return;
  const int64_t id = element_of<int64_t>(a.ids, i);
  const bool there = id >= 0 && id < a.rows;
  const T* const from = static_cast<const T*>(a.weight) + (there ? id : 0) * a.width;
  T* const to = static_cast<T*>(a.y) + i * a.width;
  for (int64_t k = hw::lane(); k < a.width; k += hw::kWarp) to[k] = there ? from[k] : nan_of<T>();
}

constexpr int kThreads = 128, kWarps = kThreads / hw::kWarp, kEach = 8, kAtOnce = kThreads * kEach;
constexpr int kInFlight = 8;             // rows of dy asked for before the first is added
constexpr int64_t kWantedBlocks = 1056;  // eight for each multiprocessor of an H100

struct EmbeddingTask {
  EmbeddingArgs args;
  int64_t rows_each;
};

// An id of the block's rows: where it is among the ids looked through at once, and which of the rows it names.
struct Found {
  int32_t at, row;
};

struct Lists {
  hw::Shared<Found> found;
  hw::Shared<int32_t> of_warp;
  static constexpr size_t kBytes = kAtOnce * sizeof(Found) + kWarps * sizeof(int32_t);
  FR_DEVICE static Lists here() {
    return {hw::shared<Found>(0, kAtOnce), hw::shared<int32_t>(kAtOnce * sizeof(Found), kWarps)};
  }
};

// Lists the ids [first, first + kAtOnce) in [row0, row0 + rows) in order; returns how many.
FR_DEVICE int find(const EmbeddingArgs& a, int64_t first, int64_t row0, int64_t rows, const Lists& lists) {
  int32_t row[kEach], mine = 0;
  FR_UNROLL
  for (int j = 0; j < kEach; ++j) {
    const int64_t i = first + hw::thread() * kEach + j;
    const int64_t id = i < a.count ? element_of<int64_t>(a.ids, i) : -1;
    const bool ours = id >= row0 && id < row0 + rows;
    row[j] = ours ? static_cast<int32_t>(id - row0) : -1;
    mine += ours;
  }
  int32_t through = mine;  // of this warp, this lane's among them
  FR_UNROLL
  for (int step = 1; step < hw::kWarp; step *= 2) {
    const int lane = hw::lane();
    const int32_t other = hw::shuffle(through, lane >= step ? lane - step : lane);
    if (lane >= step) through += other;
  }
  if (hw::lane() == hw::kWarp - 1) lists.of_warp[hw::warp()] = through;
  hw::barrier();
  int32_t to = through - mine, total = 0;
  for (int w = 0; w < kWarps; ++w) {
    const int32_t count = lists.of_warp[w];
    if (w < hw::warp()) to += count;
    total += count;
  }
  FR_UNROLL
  for (int j = 0; j < kEach; ++j)
    if (row[j] >= 0) lists.found[to++] = Found{hw::thread() * kEach + j, row[j]};
  hw::barrier();
  return total;
}

template <class T>
FR_KERNEL void embedding_backward_kernel(const FR_CONSTANT EmbeddingTask task) {
  const EmbeddingArgs& a = task.args;
  const int64_t row0 = hw::block_x() * task.rows_each, left = a.rows - row0;
  const int64_t rows = left < task.rows_each ? left : task.rows_each;
  const int64_t column = static_cast<int64_t>(hw::block_y()) * kThreads + hw::thread();
  const Lists lists = Lists::here();
  T* const dweight = static_cast<T*>(a.dweight) + row0 * a.width + column;
  int32_t row = -1;  // whose sum this is
  T sum = 0;
  for (int64_t first = 0; first < a.count; first += kAtOnce) {
    const int total = find(a, first, row0, rows, lists);
    if (column >= a.width) continue;
    for (int start = 0; start < total; start += kInFlight) {
      Found found[kInFlight];
      T dy[kInFlight];
      FR_UNROLL
      for (int j = 0; j < kInFlight; ++j) {
        if (start + j >= total) continue;
        found[j] = lists.found[start + j];
        dy[j] = row_of<T>(a.dy, first + found[j].at)[column];
      }
      FR_UNROLL
      for (int j = 0; j < kInFlight; ++j) {
        if (start + j >= total) continue;
        if (found[j].row != row) {
          if (row >= 0) dweight[row * a.width] = sum;
          row = found[j].row;
          sum = dweight[row * a.width];
        }
        sum = sum + dy[j];
      }
    }
  }
  if (row >= 0) dweight[row * a.width] = sum;
}

}  // namespace

Status embedding_forward(const EmbeddingArgs* a, Stream stream) {
  return with_dtype(a->dtype, "embedding_forward", [&](auto zero) {
    return hw::launch<embedding_forward_kernel<decltype(zero)>>(warp_per_row(a->count), stream, *a);
  });
}

Status embedding_backward(const EmbeddingArgs* a, Stream stream) {
  if (a->count == 0 || a->rows == 0 || a->width == 0) return Status::ok;
  const int64_t columns = (a->width + kThreads - 1) / kThreads;
  const EmbeddingTask task{*a, (a->rows * columns + kWantedBlocks - 1) / kWantedBlocks};
  const int64_t groups = (a->rows + task.rows_each - 1) / task.rows_each;
  return with_dtype(a->dtype, "embedding_backward", [&](auto zero) {
    const hw::Grid grid{{groups, static_cast<int32_t>(columns)}, kThreads, Lists::kBytes};
    return hw::launch<embedding_backward_kernel<decltype(zero)>>(grid, stream, task);
  });
}

}  // namespace fusedrnn::cuda
