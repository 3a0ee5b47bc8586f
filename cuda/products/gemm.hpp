// Products of whole matrices, for the host: what the sequence schedule and the table's `gemm` are made of.
#pragma once

#include "products/element.cuh"

namespace fusedrnn::cuda {

// C (M, N) = op(A) op(B) [+ bias] or C += op(A) op(B). A and B hold E, bias and C its accumulator type; pitches count
// elements. Sums over k are cut into `splits` equal runs of whole buffers (tile.cuh): with more than one, C is
// (splits, M, N), one partial sum behind the other for `add_partials`, and neither bias nor accumulate is given.
struct Product {
  GemmKind kind;
  const void* a;
  const void* b;
  const void* bias;
  void* c;
  int64_t M, N, K, lda, ldb, ldc;
  int32_t splits, accumulate;
};

// Tile by tile, or by cuBLASLt (cublaslt.hpp), or, `plain`, one thread per element of C with one chain of fused
// multiply-adds in the order of k.
Status multiply(Element e, bool plain, const Product& product, Stream stream);

// How often to cut k so that a product with few tiles still fills a GPU: a matter of sizes, never of the device.
int32_t splits_for(int64_t M, int64_t N, int64_t K);

// partial 0 + partial 1 + ... of a product whose rows are `blocks` blocks of `pitch`, of which the first `count` are
// meant: row u of block i goes to row row[i] * count + u of `to` (.., N), which they are added to, or with accumulate =
// 0 replace.
struct Partials {
  const void* from;  // (splits, blocks * pitch, N)
  void* to;
  int64_t N, ld, pitch, count;
  int32_t splits, blocks, row[4], accumulate;
};
Status add_partials(Element e, const Partials& partials, Stream stream);

// sums (splits, columns) of the rows of a (rows, columns) in E, in order; a single one may `accumulate`.
struct ColumnSum {
  const void* a;
  void* sums;
  int64_t rows, columns, lda;
  int32_t splits, accumulate;
};
Status sum_columns(Element e, const ColumnSum& sum, Stream stream);

// Entries of the table (backend.hpp).
size_t gemm_workspace(const GemmArgs* args, int32_t threads);
Status gemm(const GemmArgs* args, void* workspace, Stream stream);
Status column_sum(DType dtype, int64_t rows, int64_t columns, const void* a, int64_t lda, void* sum, Stream stream);

}  // namespace fusedrnn::cuda
