// Products of matrices and sums of columns: the choice of kernels, and the table's entries.
#include "backend/scratch.hpp"
#include "column_sums.cuh"
#include "dtype.hpp"
#include "products/gemm.cuh"

#include "products/cublaslt.hpp"

namespace fusedrnn::cuda {
namespace {

constexpr int64_t kWantedBlocks = 2 * kMultiprocessors;
constexpr int64_t kLeastRun = 256;  // values of k that are worth a partial sum

template <class C>
FR_KERNEL void add_partials_kernel(const FR_CONSTANT Partials p) {
  const int64_t i = hw::block_x() * hw::threads() + hw::thread();
  if (i >= p.blocks * p.count * p.N) return;
  const int64_t n = i % p.N, u = i / p.N % p.count, block = i / p.N / p.count, rows = p.blocks * p.pitch;
  const C* from = static_cast<const C*>(p.from) + (block * p.pitch + u) * p.N + n;
  C sum = *from;
  for (int32_t split = 1; split < p.splits; ++split) sum = sum + from[split * rows * p.N];
  C* const to = static_cast<C*>(p.to) + (p.row[block] * p.count + u) * p.ld + n;
  *to = p.accumulate ? *to + sum : sum;
}

// Of a run of rows: column_sums.cuh says who adds what.
template <class E>
FR_KERNEL void FR_LAUNCH_BOUNDS(kSumThreads, 1) column_sum_kernel(const FR_CONSTANT ColumnSum s) {
  using C = Accumulator<E>;
  const int64_t column = summed_column(), run = (s.rows + s.splits - 1) / s.splits;
  const int64_t first = hw::block_z() * run, last = first + run < s.rows ? first + run : s.rows;
  C sum = 0;
  if (column < s.columns) {
    FR_UNROLL_BY(4)
    for (int64_t row = first + sum_group(); row < last; row += kSumGroups)
      sum = sum + widen(static_cast<const E*>(s.a)[row * s.lda + column]);
  }
  sum = add_groups(sum);
  const int64_t finished = hw::block_x() * kSumColumns + hw::warp();
  if (hw::warp() >= kSumColumns || hw::lane() > 0 || finished >= s.columns) return;
  C* const to = static_cast<C*>(s.sums) + hw::block_z() * s.columns + finished;
  *to = s.accumulate ? *to + sum : sum;
}

Status element_of(DType dtype, const char* what, Element* e) {
  return with_dtype(dtype, what, [&](auto zero) {
    *e = sizeof zero == sizeof(double) ? Element::f64 : Element::f32;
    return Status::ok;
  });
}

int32_t splits_of(const GemmArgs& g) { return g.kind == GemmKind::tn && !g.bias ? splits_for(g.M, g.N, g.K) : 1; }

}  // namespace

Status multiply(Element e, bool plain, const Product& p, Stream stream) {
  if (p.M == 0 || p.N == 0) return Status::ok;
  if (!plain && cublaslt::multiply(e, p, stream)) return Status::ok;
  const int64_t depth = 64 / bytes_of(e), buffers = (p.K + depth - 1) / depth;
  const int64_t split_k = (buffers + p.splits - 1) / p.splits * depth;
  return with_element(e, [&](auto zero) {
    using E = decltype(zero);
    if (plain) return launch_plain<E>(p, split_k, stream);
    if (p.kind == GemmKind::nt) return launch_tiles<E, Major::k, Major::k>(p, split_k, stream);
    if (p.kind == GemmKind::tn) return launch_tiles<E, Major::outer, Major::outer>(p, split_k, stream);
    if constexpr (std::is_floating_point_v<E>) return launch_tiles<E, Major::k, Major::outer>(p, split_k, stream);
    return fail(Status::unsupported, "no nn product in reduced precision");
  });
}

int32_t splits_for(int64_t M, int64_t N, int64_t K) {
  const int64_t tiles = ((M + 63) / 64) * ((N + 127) / 128);
  if (tiles == 0) return 1;
  const int64_t wanted = (kWantedBlocks + tiles - 1) / tiles, most = (K + kLeastRun - 1) / kLeastRun;
  const int64_t splits = wanted < most ? wanted : most;
  return static_cast<int32_t>(splits < 1 ? 1 : splits);
}

Status add_partials(Element e, const Partials& p, Stream stream) {
  const hw::Grid grid{{(p.blocks * p.count * p.N + 255) / 256}, 256};
  return e == Element::f64 ? hw::launch<add_partials_kernel<double>>(grid, stream, p)
                           : hw::launch<add_partials_kernel<float>>(grid, stream, p);
}

Status sum_columns(Element e, const ColumnSum& s, Stream stream) {
  return with_element(e, [&](auto zero) {
    using E = decltype(zero);
    const hw::Grid grid{
        {(s.columns + kSumColumns - 1) / kSumColumns, 1, s.splits}, kSumThreads, kColumnSumBytes<Accumulator<E>>};
    return hw::launch<column_sum_kernel<E>>(grid, stream, s);
  });
}

size_t gemm_workspace(const GemmArgs* g, int32_t /*threads*/) {
  const int32_t splits = splits_of(*g);
  return splits == 1 ? 0 : static_cast<size_t>(splits * g->M * g->N * fusedrnn::bytes_of(g->dtype));
}

Status gemm(const GemmArgs* g, void* workspace, Stream stream) {
  if (g->precision != Precision::ieee) return fail(Status::unsupported, "CUDA computes gemm in ieee precision only");
  Element e{};
  if (const Status status = element_of(g->dtype, "gemm", &e); status != Status::ok) return status;
  const int32_t splits = splits_of(*g);
  Product p{g->kind, g->a, g->b, g->bias, g->c, g->M, g->N, g->K, g->lda, g->ldb, g->ldc, splits, g->accumulate};
  if (splits == 1) return multiply(e, false, p, stream);
  p.c = workspace;
  p.ldc = g->N;
  p.accumulate = 0;
  if (const Status status = multiply(e, false, p, stream); status != Status::ok) return status;
  return add_partials(e, {workspace, g->c, g->N, g->ldc, g->M, g->M, splits, 1, {0}, g->accumulate}, stream);
}

Status column_sum(DType dtype, int64_t rows, int64_t columns, const void* a, int64_t lda, void* sum, Stream stream) {
  Element e{};
  if (const Status status = element_of(dtype, "column_sum", &e); status != Status::ok) return status;
  return sum_columns(e, {a, sum, rows, columns, lda, 1, 1}, stream);
}

}  // namespace fusedrnn::cuda
