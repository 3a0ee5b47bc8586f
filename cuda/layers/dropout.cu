// Dropout of a whole array: a thread has the four elements of one Philox block (csrc/layers/philox.hpp).
#include "dtype.hpp"
#include "entries.hpp"
#include "products/elements.cuh"
//
#include "layers/philox.hpp"

namespace fusedrnn::cuda {
namespace {

constexpr int kThreads = 256, kEach = 4;

struct DropoutTask {
  Strided x;
  void* y;
  int64_t count;
  Dropout drop;
  int32_t vectors;  // x and y can be read and written 16 bytes at a time
};

template <class T>
FR_KERNEL void dropout_kernel(const FR_CONSTANT DropoutTask task) {
  const int64_t block = hw::block_x() * kThreads + hw::thread(), first = block * kEach;
  if (first >= task.count) return;
  const Dropout drop = task.drop.read();
  uint32_t words[kEach];
  philox_block(drop, static_cast<uint64_t>(block), words);
  const T scale = static_cast<T>(drop.scale);
  T* const y = static_cast<T*>(task.y) + first;
  if (task.vectors && first + kEach <= task.count) {
    constexpr int N = 16 / sizeof(T);
    using Vector = hw::Vec<T, N>;
    const T* const x = static_cast<const T*>(task.x.data) + first;
    FR_UNROLL
    for (int i = 0; i < kEach; i += N) {
      Vector v = hw::load(reinterpret_cast<const Vector*>(x + i));
      FR_UNROLL
      for (int j = 0; j < N; ++j) v.v[j] = words[i + j] >= drop.threshold ? v.v[j] * scale : T(0);
      hw::store(reinterpret_cast<Vector*>(y + i), v);
    }
  } else {
    FR_UNROLL
    for (int i = 0; i < kEach; ++i)
      if (first + i < task.count) y[i] = words[i] >= drop.threshold ? element_of<T>(task.x, first + i) * scale : T(0);
  }
}

}  // namespace

Status dropout(const DropoutArgs* a, Stream stream) {
  const auto aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  const DropoutTask task{a->x, a->y, a->count, Dropout(a->p, a->key, a->key_at, a->stream),
                         a->x.axes == 0 && aligned(a->x.data) && aligned(a->y)};
  constexpr int64_t kOfBlock = kThreads * kEach;
  const hw::Grid grid{{(a->count + kOfBlock - 1) / kOfBlock}, kThreads};
  return with_dtype(a->dtype, "dropout",
                    [&](auto zero) { return hw::launch<dropout_kernel<decltype(zero)>>(grid, stream, task); });
}

}  // namespace fusedrnn::cuda
