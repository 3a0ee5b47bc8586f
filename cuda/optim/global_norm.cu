// Sums of squares of all gradients, in double.
#include "dtype.hpp"
#include "entries.hpp"
#include "optim/norm.cuh"
#include "optim/segments.cuh"

namespace fusedrnn::cuda {
namespace {

constexpr int kThreads = 512, kEach = kPiece / kThreads;
constexpr int64_t kBlocks = 264;  // two for each multiprocessor of an H100; fewer sums are sooner added up

struct SquaresTask {
  SegmentTable table;
  double* sums;
  int64_t* steps;
};

template <class T>
FR_KERNEL void squares_kernel(const FR_CONSTANT SquaresTask task) {
  double sum = 0;
  for_pieces(task.table, [&](const Segment& s, int64_t begin, int64_t end) {
    const T* const grad = static_cast<const T*>(s.grad);
    T g[kEach];
    FR_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const int64_t i = begin + j * kThreads + door::thread();
      g[j] = i < end ? grad[i] : T(0);
    }
    FR_UNROLL
    for (int j = 0; j < kEach; ++j) sum = sum + static_cast<double>(g[j]) * static_cast<double>(g[j]);
  });
  sum = block_sum<kThreads>(sum);
  if (door::thread() > 0) return;
  task.sums[door::block_x()] = sum;
  if (task.steps && door::block_x() == 0) task.steps[0] = task.steps[1];
}

struct NormTask {
  SquareSums squares;
  double max_norm;
  double *norm, *clip_factor;
};

FR_KERNEL void norm_kernel(const FR_CONSTANT NormTask task) {
  const double norm = norm_of(task.squares);
  if (door::thread() > 0) return;
  *task.norm = norm;
  if (task.clip_factor) *task.clip_factor = clip_factor(task.max_norm, norm);
}

}  // namespace

Status square_sums(DType dtype, const Segment* segment, int64_t segments, int64_t* steps, SquareSums* to,
                   Stream stream) {
  return with_dtype(dtype, "the norm", [&](auto zero) {
    using T = decltype(zero);
    return for_tables(segment, segments, sizeof(T), [&](const SegmentTable& table) {
      const int64_t pieces = table.pieces(), blocks = pieces < kBlocks ? pieces : kBlocks;
      const door::Grid grid{{blocks > 0 ? blocks : 1}, kThreads, kBlockBytes<double, kThreads>};
      const SquaresTask task{table, to->sums + to->count, steps};
      to->count += grid.blocks.x;
      return door::launch<squares_kernel<T>>(grid, stream, task);
    });
  });
}

Status norm(const NormArgs* a, Stream stream) {
  SquareSums squares{a->partials, 0};
  const Status status = square_sums(a->dtype, a->segment, a->segments, nullptr, &squares, stream);
  if (status != Status::ok) return status;
  return door::launch<norm_kernel>({{1}, kNormThreads, kBlockBytes<double, kNormThreads>}, stream,
                                   {squares, a->max_norm, a->norm, a->clip_factor});
}

}  // namespace fusedrnn::cuda
