// Gradients scaled by a factor, or clamped, in place.
#include "dtype.hpp"
#include "entries.hpp"
#include "math.cuh"
#include "optim/segments.cuh"

namespace fusedrnn::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kBlocks = 1056;  // eight for each multiprocessor of an H100

struct ChangeTask {
  SegmentTable<kFewSegments> table;
  const double* factor;  // device memory: scale by it, if not null
  double limit;          // else clamp to [-limit, limit]
};

template <class T>
FR_KERNEL void change_kernel(const FR_CONSTANT ChangeTask task) {
  using L = Lanes<T>;
  const T factor = task.factor ? static_cast<T>(*task.factor) : T(1);
  const T high = static_cast<T>(task.limit), low = -high;
  for_pieces(task.table, [&](const Segment& s, int64_t begin, int64_t end) {
    T* const grad = static_cast<T*>(s.grad);
    for (int64_t i = begin + hw::thread(); i < end; i += kThreads)
      grad[i] = task.factor ? grad[i] * factor : L::max(low, L::min(high, grad[i]));
  });
}

Status change(DType dtype, const char* name, int64_t segments, const Segment* segment, const double* factor,
              double limit, Stream stream) {
  return with_dtype(dtype, name, [&](auto zero) {
    using T = decltype(zero);
    return for_tables<kFewSegments>(segment, segments, sizeof(T), [&](const SegmentTable<kFewSegments>& table) {
      const int64_t pieces = table.pieces();
      const hw::Grid grid{{pieces < kBlocks ? pieces : kBlocks}, kThreads};
      return hw::launch<change_kernel<T>>(grid, stream, {table, factor, limit});
    });
  });
}

}  // namespace

Status scale(DType dtype, int64_t segments, const Segment* segment, const double* factor, Stream stream) {
  return change(dtype, "scale", segments, segment, factor, 0, stream);
}

Status clip_value(DType dtype, int64_t segments, const Segment* segment, double limit, Stream stream) {
  return change(dtype, "clip_value", segments, segment, nullptr, limit, stream);
}

}  // namespace fusedrnn::cuda
