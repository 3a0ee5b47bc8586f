// The kernels of `amx`, as kernels.cpp is those of other sets: products of bfloat16 on tiles, and nothing else. What is
// missing here is AVX-512's (amx.cpp), so that it is compiled once.
#include "backend/backend.hpp"
#include "backend/status.hpp"
#include "gemm/gemm.hpp"
#include "sequence/table.hpp"

using namespace fusedrnn;
using namespace fusedrnn::FUSEDRNN_ISA;

constexpr SequenceOps kSequenceOps = {
    /* plan */ sequence_plan,
    /* sizes */ sequence_sizes,
    /* pack */ sequence_pack,
    /* forward */ sequence_forward,
    /* backward */ sequence_backward,
    /* tape_view */ sequence_tape_view,
};

constexpr DenseOps products() {
  DenseOps ops{};
  ops.gemm_workspace = gemm_workspace;
  ops.gemm = gemm;
  return ops;
}
constexpr DenseOps kDenseOps = products();

constexpr Backend table() {
  Backend backend{};
  backend.abi = kBackendAbi;
  backend.size = sizeof(Backend);
  backend.name = "amx";
  backend.sequence = &kSequenceOps;
  backend.dense = &kDenseOps;
  return backend;
}

extern "C" {
extern const Backend fusedrnn_backend_amx;
const Backend fusedrnn_backend_amx = table();
}
