// C (M, N) = op(A) op(B) + bias, or C += op(A) op(B): the `gemm` and `column_sum` entries of the table.
//
// Layout, order of sums: backend.hpp (GemmArgs) and engine.hpp. C is never read unless `accumulate`. No overlap
// between C and the operands.
#pragma once

#include "gemm/column_sums.hpp"
#include "gemm/outer.hpp"
#include "gemm/parallel.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Threads worth waking for a product.
inline int32_t gemm_threads(const GemmArgs& g, int32_t offered) { return g.M * g.N * g.K < 32768 ? 1 : offered; }

// A plain matrix as B: element (k, n) at b[k * ldb + n], or with `nt` at b[n * ldb + k]. Packs panels first <= p <
// last.
template <class E>
void pack_matrix(const GemmArgs& g, const Panels& panels, OperandOf<E>* packed, int64_t first, int64_t last) {
  const EngineOf<E> engine = engine_of<E>(g.precision);
  using T = typename E::Storage;
  constexpr int N = Lanes<typename E::Accumulator>::N;
  const T* const b = static_cast<const T*>(g.b);
  for (int64_t p = first; p < last; ++p) {
    const int64_t n = panels.begin(p) * N;
    const int wide = panels.wide(p);
    auto* const panel = packed + engine.panel_elements(panels.begin(p), g.K);
    if (g.kind == GemmKind::nt) {
      for (int v = 0; v < wide; ++v)
        engine.pack_columns(panel, wide, v, g.K, [&](int lane) {
          const int64_t column = n + v * N + lane;
          return column < g.N ? b + column * g.ldb : nullptr;
        });
    } else {
      engine.pack_rows(panel, wide, g.K, 0, g.K, g.N - n, [&](int64_t k) { return b + k * g.ldb + n; });
    }
  }
}

// Rows of A that a thread takes at a time.
template <class E>
constexpr int64_t kGemmRows = 16 * EngineOf<E>::template rows<EngineOf<E>::vectors>();

// Operands of memory: all of B, then what each thread packs of A.
template <class E>
int64_t gemm_rows_packed(const GemmArgs& g) {
  return engine_of<E>(g.precision).panel_elements(vectors_of<typename E::Accumulator>(g.N), g.K);
}
template <class E>
int64_t gemm_rows_scratch(const GemmArgs& g) {
  return engine_of<E>(g.precision).a_elements(kGemmRows<E>, g.K);
}

template <class E>
void gemm_rows(const GemmArgs& g, OperandOf<E>* packed, Team* team) {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  constexpr int NV = EngineOf<E>::vectors, MR = EngineOf<E>::template rows<NV>(), N = L::N;
  const EngineOf<E> engine = engine_of<E>(g.precision);
  const T* bias = static_cast<const T*>(g.bias);
  T* c = static_cast<T*>(g.c);
  const Panels panels = even_panels(vectors_of<typename E::Accumulator>(g.N), NV);
  const int32_t threads = gemm_threads(g, team->size);
  parallel(team, threads, [&](int32_t i) {
    pack_matrix<E>(g, panels, packed, share(panels.count, threads, i), share(panels.count, threads, i + 1));
  });
  parallel_products<EngineOf<E>>(team, threads, [&, engine](int32_t i) {
    auto* const scratch = packed + gemm_rows_packed<E>(g) + i * gemm_rows_scratch<E>(g);
    const int64_t tiles = (g.M + MR - 1) / MR, last = share(tiles, threads, i + 1) * MR;
    const T* rows[kGemmRows<E>];
    for (int64_t m = share(tiles, threads, i) * MR; m < (last < g.M ? last : g.M);) {
      const int64_t end = last < g.M ? last : g.M, count = end - m < kGemmRows<E> ? end - m : kGemmRows<E>;
      for (int64_t r = 0; r < count; ++r) rows[r] = static_cast<const T*>(g.a) + (m + r) * g.lda;
      multiply<E, NV>(engine, rows, count, packed, panels, g.K, 0, panels.count, scratch,
                      [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile) {
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

// Operands of memory for a thread that has M rows of C.
template <class E>
int64_t gemm_columns_scratch(const EngineOf<E>& engine, const GemmArgs& g, int64_t M) {
  const int64_t group = outer_group<E>(engine, M, 1, g.K);
  return outer_panels<E>(engine, g.N, group < M) + engine.outer_elements(group);
}

template <class E>
void gemm_columns(const GemmArgs& g, OperandOf<E>* scratch, Team* team) {
  using T = typename E::Storage;
  constexpr int64_t block = EngineOf<E>::outer_block;
  const EngineOf<E> engine = engine_of<E>(g.precision);
  const int32_t threads = gemm_threads(g, team->size);
  const int64_t most = (g.M + threads - 1) / threads, stride = gemm_columns_scratch<E>(engine, g, most);
  const int64_t group = outer_group<E>(engine, most, 1, g.K);
  const bool kept = group < most;
  parallel_products<EngineOf<E>>(team, threads, [&](int32_t i) {
    auto* const panels = scratch + i * stride;
    const int64_t first = share(g.M, threads, i), last = share(g.M, threads, i + 1);
    const T* a[block];
    const T* b[block];
    int64_t k = 0;
    do {
      const int64_t count = g.K - k < block ? g.K - k : block;
      for (int64_t r = 0; r < count; ++r) {
        a[r] = static_cast<const T*>(g.a) + (k + r) * g.lda;
        b[r] = static_cast<const T*>(g.b) + (k + r) * g.ldb;
      }
      const bool replace = !g.accumulate && k == 0;
      for (int64_t m = first; m < last; m += group) {
        const auto tiles =
            engine.outer(m, last - m < group ? last : m + group, panels + outer_panels<E>(engine, g.N, kept));
        tiles.pack(a, count, g.M);
        for_outer_panels<E>(engine, b, count, g.N, panels, kept, m > first,
                            [&](const auto* panel, int64_t n, int wide, int64_t left) {
                              T* const c = static_cast<T*>(g.c) + m * g.ldc + n;
                              tiles.multiply(count, panel, wide, left, c, g.ldc, replace);
                            });
      }
      k += count;
    } while (k < g.K);
  });
}

template <class E>
size_t gemm_bytes(const GemmArgs& g, int32_t offered) {
  const int64_t threads = gemm_threads(g, offered);
  const int64_t operands = g.kind == GemmKind::tn ? threads * gemm_columns_scratch<E>(engine_of<E>(g.precision), g,
                                                                                      (g.M + threads - 1) / threads)
                                                  : gemm_rows_packed<E>(g) + threads * gemm_rows_scratch<E>(g);
  return sizeof(OperandOf<E>) * static_cast<size_t>(operands);
}

template <class E>
Status run_gemm(const GemmArgs& g, void* workspace, Team* team) {
  auto* const operands = static_cast<OperandOf<E>*>(workspace);
  if (g.M > 0 && g.N > 0) g.kind == GemmKind::tn ? gemm_columns<E>(g, operands, team) : gemm_rows<E>(g, operands, team);
  return Status::ok;
}

inline size_t gemm_workspace(const GemmArgs* g, int32_t threads) {
  size_t bytes = 0;
  with_element(g->dtype, g->precision, [&](auto element) {
    bytes = gemm_bytes<decltype(element)>(*g, threads);
    return Status::ok;
  });
  return bytes;
}

inline Status gemm(const GemmArgs* g, void* workspace, Stream stream) {
  return with_element(g->dtype, g->precision, [&](auto element) {
    return run_gemm<decltype(element)>(*g, workspace, static_cast<Team*>(stream));
  });
}

template <class T>
void run_column_sum(int64_t rows, int64_t columns, const T* a, int64_t lda, T* sum, Team* team) {
  const int32_t threads = rows * columns < 32768 ? 1 : team->size;
  const int64_t vectors = vectors_of<T>(columns);
  parallel(team, threads, [&](int32_t i) {
    const int64_t first = share(vectors, threads, i) * Lanes<T>::N, end = share(vectors, threads, i + 1) * Lanes<T>::N;
    const int64_t last = end < columns ? end : columns;
    constexpr int64_t kColumns = 512;  // at a time
    T memory[2][kColumns];
    const ColumnSums<T> sums{memory[0], memory[1]};
    const T* row[kChunk];
    for (int64_t n = first; n < last; n += kColumns) {
      const int64_t width = last - n < kColumns ? last - n : kColumns;
      sums.clear(0, width);
      for (int64_t k = 0; k < rows; k += kChunk) {
        const int64_t count = rows - k < kChunk ? rows - k : kChunk;
        for (int64_t r = 0; r < count; ++r) row[r] = a + (k + r) * lda + n;
        sums.add(row, count, 0, width);
      }
      for (int64_t j = 0; j < width; ++j) sum[n + j] = sum[n + j] + sums.total(j);
    }
  });
}

inline Status column_sum(DType dtype, int64_t rows, int64_t columns, const void* a, int64_t lda, void* sum,
                         Stream stream) {
  return with_element(dtype, Precision::ieee, [&](auto element) {
    using T = typename decltype(element)::Storage;
    run_column_sum<T>(rows, columns, static_cast<const T*>(a), lda, static_cast<T*>(sum), static_cast<Team*>(stream));
    return Status::ok;
  });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
