// Rows of a table by index, and the gradient of the table.
//
// Backward without atomics, in one kernel: a block owns some rows of the table and 128 columns, a thread one of these.
// It goes through the ids in two passes, 4096 at a time: warps look through a run each, many ids on their way at once,
// and list those of the block's rows in order; then a thread walks the lists. Each sum is one chain over the ids in
// order, from what the gradient held before, as on a CPU. Ids are read by every block, but from the second-level cache:
// dy, which is `width` times as large, is read once.
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

constexpr int kThreads = 128, kWarps = kThreads / hw::kWarp, kAtOnce = 4096, kOfWarp = kAtOnce / kWarps;
constexpr int kInFlight = 8;             // ids, or rows of dy, asked for before the first is used
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

// Lists the ids [first, first + kAtOnce) in [row0, row0 + rows) in order, each warp those of its run from the run's
// place in `found` on. ends[w] is how many the warps up to w have found.
FR_DEVICE void find(const EmbeddingArgs& a, int64_t first, int64_t row0, int64_t rows, const Lists& lists,
                    int (&ends)[kWarps]) {
  const int run = hw::shuffle(hw::warp(), 0) * kOfWarp;  // of a lane: so a compiler knows that the warp has one
  int32_t count = 0;
  hw::barrier();  // the lists before have been read
  for (int at = run; at < run + kOfWarp && first + at < a.count; at += kInFlight * hw::kWarp) {
    int64_t row[kInFlight];
    FR_UNROLL
    for (int j = 0; j < kInFlight; ++j) {
      const int64_t i = first + at + j * hw::kWarp + hw::lane();
      const int64_t id = i < a.count ? element_of<int64_t>(a.ids, i) : -1;
      row[j] = id >= row0 && id < row0 + rows ? id - row0 : -1;  // compared first: an id may be any number
    }
    FR_UNROLL
    for (int j = 0; j < kInFlight; ++j) {
      const bool ours = row[j] >= 0;
      const uint32_t all = hw::ballot(ours), before = all & ((1u << hw::lane()) - 1);
      if (ours)
        lists.found[run + count + hw::ones(before)] =
            Found{at + j * hw::kWarp + hw::lane(), static_cast<int32_t>(row[j])};
      count += hw::ones(all);
    }
  }
  if (hw::lane() == 0) lists.of_warp[hw::warp()] = count;
  hw::barrier();
  int total = 0;
  FR_UNROLL
  for (int w = 0; w < kWarps; ++w) {
    total += lists.of_warp[w];
    ends[w] = total;
  }
}

// Where the i-th of all that have been found is.
FR_DEVICE int place_of_found(int i, const int (&ends)[kWarps]) {
  int place = i;
  FR_UNROLL
  for (int w = 0; w + 1 < kWarps; ++w)
    if (i >= ends[w]) place = (w + 1) * kOfWarp + i - ends[w];
  return place;
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
    int ends[kWarps];
    find(a, first, row0, rows, lists, ends);
    const int total = ends[kWarps - 1];
    if (column >= a.width) continue;
    for (int start = 0; start < total; start += kInFlight) {
      Found found[kInFlight];
      T dy[kInFlight];
      FR_UNROLL
      for (int j = 0; j < kInFlight; ++j) {
        if (start + j >= total) continue;
        found[j] = lists.found[place_of_found(start + j, ends)];
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
