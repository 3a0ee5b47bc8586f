// The backend of one instruction set. Compiled once per ISA with FUSEDRNN_ISA set to its name; the only symbol that
// leaves this object is the table at the end. Everything included here lives in namespace fusedrnn::FUSEDRNN_ISA and
// uses no STL, no exceptions and no objects with constructors: a template shared with the baseline could be merged by
// the linker with the copy that was compiled for a newer CPU.
#include "backend.hpp"
#include "gemm/gemm.hpp"
#include "runtime/memory.hpp"
#include "sequence/table.hpp"
#include "status.hpp"

namespace fusedrnn::FUSEDRNN_ISA {
namespace {

// Stands in the table for what a backend does not provide: it may be called, and says so.
template <class... A>
[[maybe_unused]] Status unsupported(A...) {
  return fail(Status::unsupported, "this backend does not provide the operation");
}

[[maybe_unused]] size_t no_workspace(const GemmArgs*, int32_t) { return 0; }

}  // namespace
}  // namespace fusedrnn::FUSEDRNN_ISA

#define FUSEDRNN_TEXT_(token) #token
#define FUSEDRNN_TEXT(token) FUSEDRNN_TEXT_(token)
#define FUSEDRNN_TABLE_(isa) fusedrnn_backend_##isa
#define FUSEDRNN_TABLE(isa) FUSEDRNN_TABLE_(isa)

using namespace fusedrnn;
using namespace fusedrnn::FUSEDRNN_ISA;

extern "C" {
extern const Backend FUSEDRNN_TABLE(FUSEDRNN_ISA);
const Backend FUSEDRNN_TABLE(FUSEDRNN_ISA) = {
    /* abi */ kBackendAbi,
    /* size */ sizeof(Backend),
    /* name */ FUSEDRNN_TEXT(FUSEDRNN_ISA),
    /* status_text */ status_text,

    /* alloc */ host_alloc,
    /* free */ host_free,
    /* copy */ host_copy,
    /* fill */ host_fill,

    /* plan */ sequence_plan,
    /* sizes */ sequence_sizes,
    /* pack */ sequence_pack,
    /* forward */ sequence_forward,
    /* backward */ sequence_backward,
    /* tape_view */ sequence_tape_view,

    /* gemm_workspace */ gemm_workspace,
    /* gemm */ gemm,
    /* column_sum */ column_sum,

    /* embedding_forward */ unsupported,
    /* embedding_backward */ unsupported,
    /* layer_norm_forward */ unsupported,
    /* layer_norm_backward */ unsupported,
    /* dropout */ unsupported,
    /* last_forward */ unsupported,
    /* last_backward */ unsupported,

    /* loss */ unsupported,
    /* optimizer */ unsupported,
    /* norm */ unsupported,
    /* scale */ unsupported,
    /* clip_value */ unsupported,
};
}
