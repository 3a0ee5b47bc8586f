// The sequence entries of the table (backend.hpp), and what they share.
#pragma once

#include "recurrent/layout.hpp"
#include "recurrent/plan.hpp"
#include "recurrent/step.hpp"

namespace fusedrnn::cuda {

// Which element type a descriptor asks for; refuses what no kernel computes.
Status element_of(const SequenceDesc& desc, Element* e);

CellSteps steps_of(CellKind cell);

// Everything the passes of one call read.
struct Call {
  Call(const SequenceDesc& desc, Element e, const PlanChoice& plan, Stream stream)
      : desc(desc),
        e(e),
        size(desc, e),
        steps(steps_of(desc.cell)),
        plan(plan),
        plain(plan.kind == PlanKind::reference),
        stream(stream) {}

  bool has_cell_state() const { return size.cell.has_cell_state; }

  // The kernel of a step: the first of a piece comes behind kernels that let nothing begin.
  StepKernel step_kernel(bool first_of_piece) const {
    return plain ? StepKernel::plain : plan.overlaps && !first_of_piece ? StepKernel::overlapping : StepKernel::alone;
  }

  // `data` moved on by elements of E, or of C; null stays null.
  template <class P>
  P* e_at(P* data, int64_t elements) const {
    return data ? moved(data, elements * bytes_of(e)) : nullptr;
  }
  template <class P>
  P* c_at(P* data, int64_t elements) const {
    return data ? moved(data, elements * accumulator_bytes(e)) : nullptr;
  }
  // An array of the API, past some columns.
  Array3 columns_at(const Array3& a, int64_t columns) const { return {c_at(a.data, columns), a.stride0, a.stride1}; }

  const SequenceDesc& desc;
  const Element e;
  const StackSize size;
  const CellSteps steps;
  const PlanChoice plan;
  const bool plain;
  const Stream stream;

 private:
  static void* moved(void* data, int64_t bytes) { return static_cast<char*>(data) + bytes; }
  static const void* moved(const void* data, int64_t bytes) { return static_cast<const char*>(data) + bytes; }
};

// Whether a call launches a kernel for every step, and nothing but kernels.
bool many_launches(const SequenceDesc& desc, const PlanChoice& plan);

// Flags and states of the plan `grid` as a pass finds them: zero.
inline Status clear_exchange(const Call& call, const GridShape& shape, const Scratch& scratch) {
  const int64_t groups = grid_groups(shape, call.desc.B, call.desc.directions);
  return hw::fill(scratch.exchange, 0, static_cast<size_t>(groups * shape.group_bytes), call.stream);
}

// xs = the input of layer l at steps [first, end) of direction d: of x, or of `below`, the outputs of the layer below.
Status reorder_input(const Call& call, const Walk& walk, const Array3& x, const void* below, int l, int d,
                     int64_t first, int64_t end, void* xs);

Status sequence_plan(const SequenceDesc* desc, Plan* plan);
Status sequence_sizes(const SequenceDesc* desc, SequenceSizes* sizes);
Status sequence_pack(const SequenceDesc* desc, const LayerWeights* weights, void* packed, Stream stream);
Status sequence_forward(const SequenceDesc* desc, const ForwardArgs* args, void* workspace, Stream stream);
Status sequence_backward(const SequenceDesc* desc, const BackwardArgs* args, void* workspace, Stream stream);
Status sequence_tape_view(const SequenceDesc* desc, const void* tape, int32_t index, TapeView* view);

}  // namespace fusedrnn::cuda

// Leaves the function with a status that is not ok.
#define FR_TRY(expression) \
  if (const ::fusedrnn::Status status_ = (expression); status_ != ::fusedrnn::Status::ok) return status_
