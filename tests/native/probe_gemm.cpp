#include "probe_gemm.hpp"

#include "gemm/microkernel_fma.hpp"

namespace fusedrnn::FUSEDRNN_ISA {
namespace {

int rows_of(int panel) {
  switch (panel) {
    case 1:
      return tile_rows<1>();
    case 2:
      return tile_rows<2>();
    case 3:
      return tile_rows<3>();
    default:
      return tile_rows<4>();
  }
}

// Chunk by chunk, as `multiply` does.
template <class T, int NV>
void tile_of(int rows, int vectors, int64_t K, const T* const* a, const T* b, T* to, bool ahead) {
  int64_t k = 0;
  do {
    const int64_t count = K - k < kChunk ? K - k : kChunk;
    const auto kernel =
        ahead ? pick_kernel<Dot<T, true>, NV>(rows, vectors) : pick_kernel<Dot<T, false>, NV>(rows, vectors);
    kernel(count, a, k, b + k * vectors * Lanes<T>::N, to, b);
    k += count;
  } while (k < K);
}

template <class T>
void tile(int panel, int rows, int vectors, int64_t K, const T* const* a, const T* b, T* to, bool ahead) {
  switch (panel) {
    case 1:
      return tile_of<T, 1>(rows, vectors, K, a, b, to, ahead);
    case 2:
      return tile_of<T, 2>(rows, vectors, K, a, b, to, ahead);
    case 3:
      return tile_of<T, 3>(rows, vectors, K, a, b, to, ahead);
    default:
      return tile_of<T, 4>(rows, vectors, K, a, b, to, ahead);
  }
}

}  // namespace
}  // namespace fusedrnn::FUSEDRNN_ISA

#define FUSEDRNN_TEXT_(token) #token
#define FUSEDRNN_TEXT(token) FUSEDRNN_TEXT_(token)
#define FUSEDRNN_PROBE_(isa) fusedrnn_gemm_probe_##isa
#define FUSEDRNN_PROBE(isa) FUSEDRNN_PROBE_(isa)

using namespace fusedrnn::FUSEDRNN_ISA;

extern "C" {
const GemmProbe FUSEDRNN_PROBE(FUSEDRNN_ISA) = {
    FUSEDRNN_TEXT(FUSEDRNN_ISA), Lanes<float>::N, Lanes<double>::N, rows_of, tile<float>, tile<double>};
}
