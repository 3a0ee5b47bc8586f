// The kernels of products: tiles (tile.cuh) over the whole of C, and the plain one that they are tested against.
#pragma once

#include <type_traits>

#include "products/fma.cuh"
#include "products/gemm.hpp"
#include "products/mma.cuh"

namespace fusedrnn::cuda {

// The warp's engine for `rows` x `columns` sums.
template <class E, int Rows, int Columns, class = void>
struct EngineOf {
  using type = Mma<E, Rows / 16, Columns / 8>;
};
template <class E, int Rows, int Columns>
struct EngineOf<E, Rows, Columns, std::enable_if_t<std::is_floating_point_v<E>>> {
  using type = Fma<E, Rows / 4, Columns / 8>;
};

// 64 x 128 sums by four warps, in double 64 x 64.
template <class E, Major MA, Major MB>
using GemmTile = Tile<typename EngineOf<E, 32, sizeof(E) == 8 ? 32 : 64>::type, 2, 2, 1, MA, MB>;

constexpr int64_t kMultiprocessors = 132;  // of an H100 and an H200

// 128 x 128 sums by four warps, for products that have such a tile for each multiprocessor: shared memory is what
// bounds them, and a warp's 64 x 64 sums take a third fewer bytes of it than two times 32 x 64. The order of k, and so
// the bits, are the same. Not for tf32x3, whose three instructions for each pair of operands are the bound, nor outside
// the tensor cores.
template <class E>
constexpr bool kHasLargeTiles = !std::is_floating_point_v<E> && !std::is_same_v<E, Tf32x3>;

template <class E, Major MA, Major MB>
using LargeGemmTile = Tile<typename EngineOf<E, 64, 64>::type, 2, 2, 1, MA, MB>;

template <class E>
struct GemmTask {
  Matrix<E> a, b;  // as they lie in memory
  const Accumulator<E>* bias;
  Accumulator<E>* c;
  int64_t M, N, K, ldc, split_k;  // split_k: values of k in a run
  int32_t accumulate;
};

// The block's tile of C.
template <class T, class E>
FR_DEVICE void multiply_tile(const GemmTask<E>& task) {
  using C = Accumulator<E>;
  const int64_t m0 = hw::block_x() * T::BM, n0 = static_cast<int64_t>(hw::block_y()) * T::BN;
  const int64_t first = hw::block_z() * task.split_k;
  const int64_t last = first + task.split_k < task.K ? first + task.split_k : task.K;
  const typename T::Sums sums = T::multiply(task.a, m0, task.b, n0, first, last);
  C* const c = task.c + hw::block_z() * task.M * task.ldc;
  for (int i = hw::thread(); i < T::BM * T::BN; i += T::kThreads) {
    const int64_t m = m0 + i / T::BN, n = n0 + i % T::BN;
    if (m >= task.M || n >= task.N) continue;
    C sum = sums.at(i / T::BN, i % T::BN);
    if (task.bias) sum = sum + task.bias[n];
    C* const to = c + m * task.ldc + n;
    *to = task.accumulate ? *to + sum : sum;
  }
}

template <class E, Major MA, Major MB>
FR_KERNEL void FR_LAUNCH_BOUNDS(128, 3) gemm_tiles(const FR_CONSTANT GemmTask<E> task) {
  multiply_tile<GemmTile<E, MA, MB>>(task);
}

template <class E, Major MA, Major MB>
FR_KERNEL void FR_LAUNCH_BOUNDS(128, 2) gemm_large_tiles(const FR_CONSTANT GemmTask<E> task) {
  multiply_tile<LargeGemmTile<E, MA, MB>>(task);
}

template <class E>
struct PlainTask {
  const E *a, *b;
  const Accumulator<E>* bias;
  Accumulator<E>* c;
  int64_t M, N, K, ldc, split_k;
  int64_t a_row, a_k, b_row, b_k;  // strides
  int32_t accumulate;
};

template <class E>
FR_KERNEL void gemm_plain(const FR_CONSTANT PlainTask<E> task) {
  using C = Accumulator<E>;
  const int64_t i = hw::block_x() * hw::threads() + hw::thread();
  if (i >= task.M * task.N) return;
  const int64_t m = i / task.N, n = i % task.N, first = hw::block_z() * task.split_k;
  const int64_t last = first + task.split_k < task.K ? first + task.split_k : task.K;
  const E *a = task.a + m * task.a_row, *b = task.b + n * task.b_row;
  C sum = 0;
  for (int64_t k = first; k < last; ++k) sum = add_product(sum, a[k * task.a_k], b[k * task.b_k]);
  if (task.bias) sum = sum + task.bias[n];
  C* const to = task.c + (hw::block_z() * task.M + m) * task.ldc + n;
  *to = task.accumulate ? *to + sum : sum;
}

template <class E>
Status launch_plain(const Product& p, int64_t split_k, Stream stream) {
  using C = Accumulator<E>;
  const bool nt = p.kind == GemmKind::nt, tn = p.kind == GemmKind::tn;
  const PlainTask<E> task{static_cast<const E*>(p.a),
                          static_cast<const E*>(p.b),
                          static_cast<const C*>(p.bias),
                          static_cast<C*>(p.c),
                          p.M,
                          p.N,
                          p.K,
                          p.ldc,
                          split_k,
                          tn ? 1 : p.lda,
                          tn ? p.lda : 1,
                          nt ? p.ldb : 1,
                          nt ? 1 : p.ldb,
                          p.accumulate};
  return hw::launch<gemm_plain<E>>({{(p.M * p.N + 127) / 128, 1, p.splits}, 128}, stream, task);
}

template <auto kernel, class T>
Status launch_grid(const Product& p, const GemmTask<typename T::E>& task, Stream stream) {
  const hw::Blocks blocks{(p.M + T::BM - 1) / T::BM, static_cast<int32_t>((p.N + T::BN - 1) / T::BN), p.splits};
  return hw::launch<kernel>({blocks, T::kThreads, T::kSharedBytes}, stream, task);
}

template <class E, Major MA, Major MB>
Status launch_tiles(const Product& p, int64_t split_k, Stream stream) {
  using C = Accumulator<E>;
  const auto aligned = [](const void* data, int64_t ld) {
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 && ld * sizeof(E) % 16 == 0;
  };
  const auto matrix = [&](const void* data, int64_t ld, Major major, int64_t outer) {
    return Matrix<E>{static_cast<const E*>(data), ld, major == Major::k ? outer : p.K, major == Major::k ? p.K : outer,
                     aligned(data, ld)};
  };
  const GemmTask<E> task{matrix(p.a, p.lda, MA, p.M),
                         matrix(p.b, p.ldb, MB, p.N),
                         static_cast<const C*>(p.bias),
                         static_cast<C*>(p.c),
                         p.M,
                         p.N,
                         p.K,
                         p.ldc,
                         split_k,
                         p.accumulate};
  if constexpr (kHasLargeTiles<E>) {
    using Large = LargeGemmTile<E, MA, MB>;
    const int64_t tiles = (p.M + Large::BM - 1) / Large::BM * ((p.N + Large::BN - 1) / Large::BN) * p.splits;
    if (tiles >= kMultiprocessors) return launch_grid<gemm_large_tiles<E, MA, MB>, Large>(p, task, stream);
  }
  return launch_grid<gemm_tiles<E, MA, MB>, GemmTile<E, MA, MB>>(p, task, stream);
}

}  // namespace fusedrnn::cuda
