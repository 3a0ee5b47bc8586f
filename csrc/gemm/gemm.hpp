// C (M, N) = op(A) op(B) + bias, or C += op(A) op(B): the `gemm` and `column_sum` entries of the table.
//
// Layout, order of sums: backend.hpp (GemmArgs) and microkernel.hpp. C is never read unless `accumulate`. No overlap
// between C and the operands.
#pragma once

#include "gemm/outer.hpp"
#include "gemm/parallel.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr int kGemmVectors = 4;

// Threads worth waking for a product.
inline int32_t gemm_threads(const GemmArgs& g, int32_t offered) { return g.M * g.N * g.K < 32768 ? 1 : offered; }

template <class T>
void gemm_rows(const GemmArgs& g, T* packed, Team* team) {
  constexpr int NV = kGemmVectors, MR = tile_rows<NV>(), N = Lanes<T>::N;
  const T* b = static_cast<const T*>(g.b);
  const T* bias = static_cast<const T*>(g.bias);
  T* c = static_cast<T*>(g.c);
  const Panels panels = even_panels<NV>(vectors_of<T>(g.N));
  const int64_t n_stride = g.kind == GemmKind::nt ? g.ldb : 1, k_stride = g.kind == GemmKind::nt ? 1 : g.ldb;
  const int32_t threads = gemm_threads(g, team->size);
  parallel(team, threads, [&](int32_t i) {
    pack_panels<T>(packed, b, n_stride, k_stride, g.N, g.K, panels, share(panels.count, threads, i),
                   share(panels.count, threads, i + 1));
  });
  parallel(team, threads, [&](int32_t i) {
    const int64_t tiles = (g.M + MR - 1) / MR, last = share(tiles, threads, i + 1) * MR;
    const T* rows[16 * MR];
    for (int64_t m = share(tiles, threads, i) * MR; m < (last < g.M ? last : g.M);) {
      const int64_t end = last < g.M ? last : g.M, count = end - m < 16 * MR ? end - m : 16 * MR;
      for (int64_t r = 0; r < count; ++r) rows[r] = static_cast<const T*>(g.a) + (m + r) * g.lda;
      multiply<T, NV>(rows, count, packed, panels, g.K, 0, panels.count,
                      [&](int64_t begin, int64_t row, int tall, int wide, const T* tile) {
                        using L = Lanes<T>;
                        for (int r = 0; r < tall; ++r)
                          for (int v = 0; v < wide; ++v) {
                            const int64_t n = (begin + v) * N, left = g.N - n < N ? g.N - n : N;
                            T* to = c + (m + row + r) * g.ldc + n;
                            auto sum = L::load(tile + (r * wide + v) * N);
                            if (bias) sum = sum + L::load(bias + n, left);
                            if (g.accumulate) sum = L::load(to, left) + sum;
                            L::store(to, sum, left);
                          }
                      });
      m += count;
    }
  });
}

// Scratch of a thread that has M rows of C.
template <class T>
int64_t gemm_columns_scratch(int64_t M) {
  return outer_panel<T> + OuterTiles<T>::elements(M);
}

template <class T>
void gemm_columns(const GemmArgs& g, T* scratch, Team* team) {
  const int32_t threads = gemm_threads(g, team->size);
  const int64_t stride = gemm_columns_scratch<T>((g.M + threads - 1) / threads);
  parallel(team, threads, [&](int32_t i) {
    T* const panel = scratch + i * stride;
    const OuterTiles<T> tiles{share(g.M, threads, i), share(g.M, threads, i + 1), panel + outer_panel<T>};
    T* const c = static_cast<T*>(g.c) + tiles.first * g.ldc;
    const T* a[kChunk];
    const T* b[kChunk];
    int64_t k = 0;
    do {
      const int64_t count = g.K - k < kChunk ? g.K - k : kChunk;
      for (int64_t r = 0; r < count; ++r) {
        a[r] = static_cast<const T*>(g.a) + (k + r) * g.lda;
        b[r] = static_cast<const T*>(g.b) + (k + r) * g.ldb;
      }
      const bool replace = !g.accumulate && k == 0;
      tiles.pack(a, count, g.M);
      for_outer_panels(b, count, g.N, panel, [&](int64_t n, int wide, int64_t left) {
        tiles.multiply(count, panel, wide, left, c + n, g.ldc, replace);
      });
      k += count;
    } while (k < g.K);
  });
}

inline size_t gemm_workspace(const GemmArgs* g, int32_t threads) {
  const auto bytes = [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = gemm_threads(*g, threads);
    return sizeof(T) * static_cast<size_t>(g->kind == GemmKind::tn ? n * gemm_columns_scratch<T>((g->M + n - 1) / n)
                                                                   : packed_elements<T>(vectors_of<T>(g->N), g->K));
  };
  return g->dtype == DType::float64 ? bytes(double()) : bytes(float());
}

template <class T>
void run_gemm(const GemmArgs& g, void* workspace, Team* team) {
  if (g.kind == GemmKind::tn)
    gemm_columns<T>(g, static_cast<T*>(workspace), team);
  else
    gemm_rows<T>(g, static_cast<T*>(workspace), team);
}

inline Status gemm(const GemmArgs* g, void* workspace, Stream stream) {
  Team* team = static_cast<Team*>(stream);
  if (g->M == 0 || g->N == 0) return Status::ok;
  if (g->dtype == DType::float32)
    run_gemm<float>(*g, workspace, team);
  else if (g->dtype == DType::float64)
    run_gemm<double>(*g, workspace, team);
  else
    return Status::unsupported;
  return Status::ok;
}

template <class T>
void run_column_sum(int64_t rows, int64_t columns, const T* a, int64_t lda, T* sum, Team* team) {
  const int32_t threads = rows * columns < 32768 ? 1 : team->size;
  const int64_t vectors = vectors_of<T>(columns);
  parallel(team, threads, [&](int32_t i) {
    const int64_t first = share(vectors, threads, i) * Lanes<T>::N, last = share(vectors, threads, i + 1) * Lanes<T>::N;
    const T* row[kChunk];
    for (int64_t k = 0; k < rows; k += kChunk) {
      const int64_t count = rows - k < kChunk ? rows - k : kChunk;
      for (int64_t r = 0; r < count; ++r) row[r] = a + (k + r) * lda;
      sum_rows<T>(row, count, first, last < columns ? last : columns, sum);
    }
  });
}

inline Status column_sum(DType dtype, int64_t rows, int64_t columns, const void* a, int64_t lda, void* sum,
                         Stream stream) {
  Team* team = static_cast<Team*>(stream);
  if (dtype == DType::float32)
    run_column_sum<float>(rows, columns, static_cast<const float*>(a), lda, static_cast<float*>(sum), team);
  else if (dtype == DType::float64)
    run_column_sum<double>(rows, columns, static_cast<const double*>(a), lda, static_cast<double*>(sum), team);
  else
    return Status::unsupported;
  return Status::ok;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
