// The backend of one instruction set. Compiled once per ISA with FUSEDRNN_ISA set to its name; the only symbol that
// leaves this object is the table at the end. Everything included here lives in namespace fusedrnn::FUSEDRNN_ISA and
// uses no STL, no exceptions and no objects with constructors: a template shared with the baseline could be merged by
// the linker with the copy that was compiled for a newer CPU.
#include "backend/backend.hpp"
#include "backend/status.hpp"
#include "gemm/gemm.hpp"
#include "layers/table.hpp"
#include "losses/table.hpp"
#include "optim/table.hpp"
#include "runtime/memory.hpp"
#include "sequence/table.hpp"

#define FUSEDRNN_TEXT_(token) #token
#define FUSEDRNN_TEXT(token) FUSEDRNN_TEXT_(token)
#define FUSEDRNN_TABLE_(isa) fusedrnn_backend_##isa
#define FUSEDRNN_TABLE(isa) FUSEDRNN_TABLE_(isa)

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

constexpr DenseOps kDenseOps = {
    /* gemm_workspace */ gemm_workspace,
    /* gemm */ gemm,
    /* column_sum */ column_sum,
    /* embedding_forward */ embedding_forward,
    /* embedding_backward */ embedding_backward,
    /* layer_norm_forward */ layer_norm_forward,
    /* layer_norm_backward */ layer_norm_backward,
    /* dropout */ dropout,
    /* last_forward */ last_forward,
    /* last_backward */ last_backward,
};

constexpr LossOps kLossOps = {
    /* loss */ loss,
};

constexpr OptimOps kOptimOps = {
    /* optimizer */ optimizer,
    /* norm */ norm,
    /* clipped_update */ clipped_update,
    /* scale */ scale,
    /* clip_value */ clip_value,
};

extern "C" {
extern const Backend FUSEDRNN_TABLE(FUSEDRNN_ISA);
const Backend FUSEDRNN_TABLE(FUSEDRNN_ISA) = {
    /* abi */ kBackendAbi,
    /* size */ sizeof(Backend),
    /* name */ FUSEDRNN_TEXT(FUSEDRNN_ISA),
    /* status_text */ fusedrnn_failure,
    /* describe */ host_describe,
    /* alloc */ host_alloc,
    /* free */ host_free,
    /* copy */ host_copy,
    /* fill */ host_fill,
    /* synchronize */ host_synchronize,
    /* memory */ kHostMemory,
    /* device */ host_device,
    /* device_of */ host_device_of,
    /* sequence */ &kSequenceOps,
    /* dense */ &kDenseOps,
    /* losses */ &kLossOps,
    /* optim */ &kOptimOps,
    /* async */ nullptr,
};
}
