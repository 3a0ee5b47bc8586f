// In a namespace of its own beside that of the ISA, for every template of the kernels is instantiated once more.
#if defined(FUSEDRNN_ISA_AVX512)
#define FUSEDRNN_BLOCKED(name) name##avx512
#elif defined(FUSEDRNN_ISA_AVX2)
#define FUSEDRNN_BLOCKED(name) name##avx2
#elif defined(FUSEDRNN_ISA_NEON)
#define FUSEDRNN_BLOCKED(name) name##neon
#else
#define FUSEDRNN_BLOCKED(name) name##scalar
#endif
#undef FUSEDRNN_ISA
#define FUSEDRNN_ISA FUSEDRNN_BLOCKED(blocked_)

#include "probe_engine.hpp"

#include "engine_blocked.hpp"
#include "gemm/gemm.hpp"
#include "sequence/table.hpp"

namespace fusedrnn::FUSEDRNN_ISA {
namespace {

constexpr SequenceOps kSequence = {sequence_plan,    sequence_sizes,    sequence_pack,
                                   sequence_forward, sequence_backward, sequence_tape_view};

// constexpr, so that nothing of this file runs before the processor is known.
constexpr DenseOps products(decltype(DenseOps::gemm_workspace) workspace, decltype(DenseOps::gemm) gemm) {
  DenseOps ops{};
  ops.gemm_workspace = workspace;
  ops.gemm = gemm;
  ops.column_sum = column_sum;
  return ops;
}
constexpr DenseOps kDense = products(gemm_workspace, gemm);

// ---- the same entries over Rounded, which with_element does not list
using Cell = ElmanRelu<Math<double>>;

Status rounded_plan(const SequenceDesc* desc, Plan* plan) {
  *plan = plan_of<Rounded>(*desc);
  return Status::ok;
}
Status rounded_sizes(const SequenceDesc* desc, SequenceSizes* sizes) {
  sizes_of<Rounded>(*desc, sizes);
  return Status::ok;
}
Status rounded_pack(const SequenceDesc* desc, const LayerWeights* weights, void* packed, Stream stream) {
  pack_stack<Rounded>(*desc, weights, packed, static_cast<Team*>(stream));
  return Status::ok;
}
Status rounded_forward(const SequenceDesc* desc, const ForwardArgs* args, void* workspace, Stream stream) {
  const Plan plan = plan_of<Rounded>(*desc);
  Forward<Rounded>(ForwardStep<Cell, Rounded>::kernels, *desc, *args, plan, workspace, static_cast<Team*>(stream))
      .run();
  return Status::ok;
}
Status rounded_backward(const SequenceDesc* desc, const BackwardArgs* args, void* workspace, Stream stream) {
  const Plan plan = plan_of<Rounded>(*desc);
  Backward<Rounded>(BackwardStep<Cell, Rounded>::kernels, *desc, *args, plan, workspace, static_cast<Team*>(stream))
      .run();
  return Status::ok;
}
constexpr SequenceOps kRoundedSequence = {rounded_plan,    rounded_sizes,    rounded_pack,
                                          rounded_forward, rounded_backward, sequence_tape_view};

size_t rounded_workspace(const GemmArgs* g, int32_t threads) { return gemm_bytes<Rounded>(*g, threads); }
Status rounded_gemm(const GemmArgs* g, void* workspace, Stream stream) {
  return run_gemm<Rounded>(*g, workspace, static_cast<Team*>(stream));
}
constexpr DenseOps kRoundedDense = products(rounded_workspace, rounded_gemm);

int outside_regions() { return static_cast<int>(__atomic_load_n(&sums_outside_regions, __ATOMIC_RELAXED)); }

}  // namespace
}  // namespace fusedrnn::FUSEDRNN_ISA

#define FUSEDRNN_TEXT_(token) #token
#define FUSEDRNN_TEXT(token) FUSEDRNN_TEXT_(token)

using namespace fusedrnn::FUSEDRNN_ISA;

extern "C" {
const EngineProbe FUSEDRNN_BLOCKED(fusedrnn_engine_probe_) = {
    FUSEDRNN_TEXT(FUSEDRNN_ISA), fusedrnn_failure, &kSequence,     &kDense,
    &kRoundedSequence,           &kRoundedDense,   outside_regions};
}
