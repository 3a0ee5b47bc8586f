// In a namespace of its own, as probe_engine.cpp.
#if defined(FUSEDRNN_ISA_AVX512)
#undef FUSEDRNN_ISA
#define FUSEDRNN_ISA tiles_avx512

#include "probe_tiles.hpp"

#include "gemm/engine.hpp"
#include "gemm/engine_amx.hpp"
#include "tile_emulation.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <>
struct EngineList<Bf16> {
  using Engine = Amx<EmulatedUnit>;
};

}  // namespace fusedrnn::FUSEDRNN_ISA

#include "gemm/gemm.hpp"
#include "sequence/table.hpp"

namespace fusedrnn::FUSEDRNN_ISA {
namespace {

constexpr SequenceOps kSequence = {sequence_plan,    sequence_sizes,    sequence_pack,
                                   sequence_forward, sequence_backward, sequence_tape_view};
constexpr DenseOps products() {
  DenseOps ops{};
  ops.gemm_workspace = gemm_workspace;
  ops.gemm = gemm;
  return ops;
}
constexpr DenseOps kDense = products();

int misuses() { return static_cast<int>(__atomic_load_n(&tile_misuses, __ATOMIC_RELAXED)); }

}  // namespace
}  // namespace fusedrnn::FUSEDRNN_ISA

using namespace fusedrnn::FUSEDRNN_ISA;

extern "C" {
const TileProbe fusedrnn_tile_probe = {"tiles of avx512", fusedrnn_failure, &kSequence, &kDense, misuses};
}
#endif
