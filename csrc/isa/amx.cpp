#if defined(FUSEDRNN_HAS_AMX)
#include "isa/amx.hpp"

extern "C" {
extern const fusedrnn::Backend fusedrnn_backend_amx;  // products of bfloat16 alone
extern const fusedrnn::Backend fusedrnn_backend_avx512;
}

namespace fusedrnn {
namespace {

const Backend& kernels_for(Precision precision) {
  return precision == Precision::ieee ? fusedrnn_backend_avx512 : fusedrnn_backend_amx;
}

// An entry that asks the descriptor in front whose kernels to call.
template <auto Entry>
struct Sequence;
template <class... Rest, Status (*SequenceOps::*Entry)(const SequenceDesc*, Rest...)>
struct Sequence<Entry> {
  static Status call(const SequenceDesc* desc, Rest... rest) {
    return (kernels_for(desc->precision).sequence->*Entry)(desc, rest...);
  }
};

constexpr SequenceOps kSequenceOps = {
    Sequence<&SequenceOps::plan>::call,     Sequence<&SequenceOps::sizes>::call,
    Sequence<&SequenceOps::pack>::call,     Sequence<&SequenceOps::forward>::call,
    Sequence<&SequenceOps::backward>::call, Sequence<&SequenceOps::tape_view>::call,
};

size_t gemm_workspace(const GemmArgs* g, int32_t threads) {
  return kernels_for(g->precision).dense->gemm_workspace(g, threads);
}
Status gemm(const GemmArgs* g, void* workspace, Stream stream) {
  return kernels_for(g->precision).dense->gemm(g, workspace, stream);
}

}  // namespace

const Backend& amx_backend() {
  static const DenseOps dense = [] {
    DenseOps ops = *fusedrnn_backend_avx512.dense;
    ops.gemm_workspace = gemm_workspace;
    ops.gemm = gemm;
    return ops;
  }();
  static const Backend backend = [] {
    Backend table = fusedrnn_backend_avx512;
    table.name = fusedrnn_backend_amx.name;
    table.sequence = &kSequenceOps;
    table.dense = &dense;
    return table;
  }();
  return backend;
}

}  // namespace fusedrnn
#endif
