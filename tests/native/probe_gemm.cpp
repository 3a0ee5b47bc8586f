#include "probe_gemm.hpp"

#include "gemm/microkernel.hpp"

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

template <class T>
void tile(int panel, int rows, int vectors, int64_t K, const T* const* a, int64_t a_stride, const T* b, T* to) {
  switch (panel) {
    case 1:
      return pick_microkernel<T, 1>(rows, vectors)(K, a, a_stride, b, to);
    case 2:
      return pick_microkernel<T, 2>(rows, vectors)(K, a, a_stride, b, to);
    case 3:
      return pick_microkernel<T, 3>(rows, vectors)(K, a, a_stride, b, to);
    default:
      return pick_microkernel<T, 4>(rows, vectors)(K, a, a_stride, b, to);
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
