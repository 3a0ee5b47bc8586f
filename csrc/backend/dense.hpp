// Matrix products and the layers around recurrent ones: embedding, layer norm, dropout, last.
#pragma once

#include "backend/types.hpp"

namespace fusedrnn {

// C (M, N) = op(A) op(B) [+ bias] or, with `accumulate`, C += op(A) op(B). In ieee precision sums over k run in chunks
// of 256, an ordered chain of fused multiply-adds inside a chunk, chunks added in order; in the others of a CPU as
// gemm/bf16_sum.hpp says. Bits depend on K alone.
enum class GemmKind : int32_t {
  nt = 0,  // A (M, K), B (N, K): y = x W^T
  nn,      // A (M, K), B (K, N): dx = dy W
  tn,      // A (K, M), B (K, N): dW = dy^T x
};

struct GemmArgs {
  GemmKind kind;
  DType dtype;
  Precision precision;  // a GPU: ieee
  int32_t accumulate;
  int64_t M, N, K;
  const void* a;
  const void* b;
  const void* bias;  // (N,) or nullptr
  void* c;
  int64_t lda, ldb, ldc;
};

// --------------------------------------------------------------------------------------------------------- layers
struct EmbeddingArgs {
  DType dtype;
  int64_t count, rows, width;  // ids, rows of the table, width of a row
  Strided ids;                 // int64, `count` elements, each in [0, rows)
  const void* weight;          // (rows, width), forward
  void* y;                     // (count, width), forward
  Strided dy;                  // count rows of width, backward
  void* dweight;               // (rows, width), backward adds into, ids in order
};

// y = (x - mean) rstd weight + bias with mean and variance (biased) of each row, rstd = 1 / sqrt(variance + eps).
// Computed in float64 and rounded once.
struct LayerNormArgs {
  DType dtype;
  int64_t rows, width;
  double eps;
  Strided x;
  const void* weight;  // (width,) or nullptr
  const void* bias;    // (width,) or nullptr
  void* y;             // (rows, width), forward
  double* mean;        // (rows,) kept for backward: x - mean would show the rounding of a shorter one
  void* rstd;          // (rows,) likewise, dtype of x
  Strided dy;          // backward
  void* dx;            // (rows, width)
  void* dweight;       // adds into, or nullptr
  void* dbias;         // adds into, or nullptr
};

// y = keep(i) ? x / (1 - p) : 0, element i kept as layers/philox.hpp says. Its own backward. 0 <= p <= 1.
struct DropoutArgs {
  DType dtype;
  int64_t count;
  double p;
  uint64_t key;
  const uint64_t* key_at;  // or nullptr: as SequenceDesc's dropout_key_at
  uint32_t stream;
  Strided x;
  void* y;  // (count,); may be x where x is one row
};

// y[b] = x[lengths[b] - 1, b] (0 where lengths[b] == 0); lengths nullptr: x[T - 1, b]. Backward writes all of dx.
struct LastArgs {
  DType dtype;
  int64_t T, B, N;
  const int64_t* lengths;
  Array3 x;  // forward reads, backward writes (dx)
  void* y;   // (B, N): forward writes, backward reads (dy)
  int64_t y_stride;
};

struct DenseOps {
  size_t (*gemm_workspace)(const GemmArgs*, int32_t threads);
  Status (*gemm)(const GemmArgs*, void* workspace, Stream);
  // sum (columns,) += the rows of a
  Status (*column_sum)(DType, int64_t rows, int64_t columns, const void* a, int64_t lda, void* sum, Stream);
  Status (*embedding_forward)(const EmbeddingArgs*, Stream);
  Status (*embedding_backward)(const EmbeddingArgs*, Stream);
  Status (*layer_norm_forward)(const LayerNormArgs*, Stream);
  Status (*layer_norm_backward)(const LayerNormArgs*, Stream);
  Status (*dropout)(const DropoutArgs*, Stream);
  Status (*last_forward)(const LastArgs*, Stream);
  Status (*last_backward)(const LastArgs*, Stream);
};

}  // namespace fusedrnn
