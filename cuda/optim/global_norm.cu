// Sums of squares of all gradients, in double.
#include "dtype.hpp"
#include "entries.hpp"
#include "optim/norm.cuh"
#include "optim/segments.cuh"

namespace fusedrnn::cuda {
namespace {

constexpr int kThreads = 256, kBlocksEach = 4;  // of a block; blocks of a multiprocessor

template <int N>
struct SquaresTask {
  SegmentTable<N> table;
  double* sums;
  int64_t* steps;
};

// A thread's elements are the same wherever a segment begins: so are the bits.
template <class T, int N>
FR_KERNEL void FR_LAUNCH_BOUNDS(kThreads, kBlocksEach) squares_kernel(const FR_CONSTANT SquaresTask<N> task) {
  constexpr int V = 16 / sizeof(T), kEach = kPiece / kThreads / V;
  double sum = 0;
  for_pieces(task.table, [&](const Segment& s, int64_t begin, int64_t end) {
    const bool whole = aligned(s.grad);
    Elements<T> g[kEach];
    FR_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const int64_t first = begin + V * (j * kThreads + hw::thread());
      g[j] = fetch<T>(s.grad, first, end, whole && first + V <= end);
    }
    FR_UNROLL
    for (int j = 0; j < kEach; ++j) {
      FR_UNROLL
      for (int e = 0; e < V; ++e) {
        const double value = g[j].v[e];  // of a float its square is exact
        sum = Lanes<double>::fma(value, value, sum);
      }
    }
  });
  sum = block_sum<kThreads>(sum);
  if (hw::thread() > 0) return;
  task.sums[hw::block_x()] = sum;
  if (task.steps && hw::block_x() == 0) task.steps[0] = task.steps[1];
}

struct StepTask {
  int64_t* steps;
};

FR_KERNEL void step_kernel(const FR_CONSTANT StepTask task) {
  if (hw::thread() == 0) task.steps[0] = task.steps[1];
}

struct NormTask {
  SquareSums squares;
  double max_norm;
  double *norm, *clip_factor;
};

FR_KERNEL void norm_kernel(const FR_CONSTANT NormTask task) {
  const double norm = norm_of(task.squares);
  if (hw::thread() > 0) return;
  *task.norm = norm;
  if (task.clip_factor) *task.clip_factor = clip_factor(task.max_norm, norm);
}

}  // namespace

Status square_sums(DType dtype, const Segment* segment, int64_t segments, int64_t* steps, SquareSums* to,
                   Stream stream) {
  hw::Limits limits;
  const Status status = hw::device_limits(&limits);
  if (status != Status::ok) return status;
  return with_dtype(dtype, "the norm", [&](auto zero) {
    using T = decltype(zero);
    return for_few_tables(segment, segments, sizeof(T), limits, [&](const auto& table) {
      constexpr int N = kMostOf<decltype(table)>;
      const int64_t pieces = table.pieces(), most = kBlocksEach * limits.multiprocessors;
      const int64_t blocks = pieces < 1 ? 1 : pieces < most ? pieces : most;
      const SquaresTask<N> task{table, to->sums + to->count, steps};
      to->count += blocks;
      return hw::launch<squares_kernel<T, N>>({{blocks}, kThreads, kBlockBytes<double, kThreads>}, stream, task);
    });
  });
}

Status begin_step(int64_t* steps, Stream stream) { return hw::launch<step_kernel>({{1}, hw::kWarp}, stream, {steps}); }

Status norm(const NormArgs* a, Stream stream) {
  SquareSums squares{a->partials, 0};
  const auto group = [&](int64_t i) -> const GradientGroup& { return a->group[i]; };
  const Status status = in_norm_order(a->groups, group, [&](int64_t i) {
    return square_sums(group(i).dtype, group(i).segment, group(i).segments, nullptr, &squares, stream);
  });
  if (status != Status::ok) return status;
  return hw::launch<norm_kernel>({{1}, kNormThreads, kBlockBytes<double, kNormThreads>}, stream,
                                 {squares, a->max_norm, a->norm, a->clip_factor});
}

}  // namespace fusedrnn::cuda
