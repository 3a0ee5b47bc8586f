// One step of the recurrent part for both directions at once, for the host: arguments, and who runs them.
#pragma once

#include "products/element.cuh"
#include "recurrent/walk.cuh"

namespace fusedrnn::cuda {

// Pointers are to E or C as layout.hpp says; rows are batch rows. Arrays of the API keep their strides.
struct ForwardDirection {
  const void* r;       // E (G * H, Hp)
  const void* bias_h;  // C (G * H)
  const void* pre;     // C (B, G * H): x W + b_ih of this step
  const void* before;  // E (B, Hp): the state this step starts from
  void* after;         // E (B, Hp): that of the next step, or null
  const void* carry0;  // C: the initial carry (row b at b * carry0_stride), or null for zeros
  void* carry;         // C (T, B, H), or (B, H) with carry_time = 0
  void* gates;         // C (T, B, tape_blocks * H), or null
  void* hidden;        // E: this direction's columns of (T, B, D * H), or null
  Array3 y;            // C: likewise of y, or absent
  void *hn, *cn;       // C: final states of row b at b * stride
};

struct ForwardStep {
  Walk walk;
  int64_t s, B, H, Hp;
  int64_t carry0_stride, carry_time, hidden_stride, hn_stride, cn_stride;  // carry_time: from one time to the next
  int32_t directions;
  ForwardDirection direction[2];
};

struct BackwardDirection {
  const void* r_back;  // E (H, G * Hp)
  const void* next;    // E (B, dgates pitch): dgates of step s + 1; not read in the last step
  void* dgates;        // E (B, dgates pitch): of this step
  const void* carry0;
  const void* carry;
  const void* gates;
  Array3 dy;              // C: this direction's columns, or absent
  const void *dhn, *dcn;  // C: gradients of the final states, or null
  void* dcarry;           // C (B, H): gradient that the carry hands from step to step
  void *dh0, *dc0;        // C: of the initial states, or null
};

// s = -1 is the end of the walk: the gradients of the initial states.
struct BackwardStep {
  Walk walk;
  int64_t s, B, H, Hp;
  int64_t carry0_stride, dhn_stride, dcn_stride, dh0_stride, dc0_stride;
  int32_t directions;
  BackwardDirection direction[2];
};

struct ClusterShape;
struct ClusterForward;
struct ClusterBackward;

// plain: one thread per row and unit. The others are tiles; `overlapping` begins before the kernel launched before it
// has ended, which is that of the step before (of the step after, in backward).
enum class StepKernel : int32_t { plain = 0, alone, overlapping };

// The kernels of one cell.
struct CellSteps {
  int32_t (*units)(Element e);  // of a tile of forward
  int32_t rows;                 // likewise
  Status (*forward)(Element e, StepKernel kernel, const ForwardStep& step, Stream stream);
  Status (*backward)(Element e, StepKernel kernel, const BackwardStep& step, Stream stream);
  // How many clusters of that shape the device has room for at once.
  Status (*cluster_room)(Element e, bool backward, const ClusterShape& shape, int32_t* clusters);
  Status (*cluster_forward)(Element e, const ClusterForward& steps, Stream stream);
  Status (*cluster_backward)(Element e, const ClusterBackward& steps, Stream stream);
};

#define FUSEDRNN_DECLARE(kind, Type) CellSteps kind##_steps();
FUSEDRNN_CUDA_CELLS(FUSEDRNN_DECLARE)
#undef FUSEDRNN_DECLARE

}  // namespace fusedrnn::cuda
