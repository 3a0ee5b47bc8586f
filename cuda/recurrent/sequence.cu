// Sizes, packing and the view of the tape of a recurrent stack.
#include "recurrent/sequence.hpp"

#include "products/cublaslt.hpp"
#include "recurrent/rows.hpp"

namespace fusedrnn::cuda {

Status element_of(const SequenceDesc& desc, Element* e) {
  if (!is_cell(desc.cell)) return fail(Status::invalid_argument, "unknown cell %d", static_cast<int>(desc.cell));
  if (traits(desc.cell).unit_values > 0)
    return fail(Status::unsupported, "CUDA has no kernels for %s, whose units have weights of their own",
                traits(desc.cell).name);
  if (desc.dtype != DType::float32 && desc.dtype != DType::float64)
    return fail(Status::unsupported,
                "CUDA takes parameters and states in float32 and float64 only: for less choose a precision");
  if (desc.dtype == DType::float64 && desc.precision != Precision::ieee)
    return fail(Status::unsupported, "CUDA computes float64 in ieee precision only");
  switch (desc.precision) {
    case Precision::ieee:
      *e = desc.dtype == DType::float64 ? Element::f64 : Element::f32;
      return Status::ok;
    case Precision::tf32:
      *e = Element::tf32;
      return Status::ok;
    case Precision::bf16:
      *e = Element::bf16;
      return Status::ok;
    case Precision::fp16:
      *e = Element::fp16;
      return Status::ok;
    case Precision::tf32x3:
      *e = Element::tf32x3;
      return Status::ok;
  }
  return fail(Status::unsupported, "precision %d is not one of this backend's", static_cast<int>(desc.precision));
}

CellSteps steps_of(CellKind cell) {
  switch (cell) {
#define FUSEDRNN_CASE(kind, Type) \
  case CellKind::kind:            \
    return kind##_steps();
    FUSEDRNN_CUDA_CELLS(FUSEDRNN_CASE)
#undef FUSEDRNN_CASE
#define FUSEDRNN_CASE(kind, Type) \
  case CellKind::kind:            \
    break;
    FUSEDRNN_HOST_CELLS(FUSEDRNN_CASE)
#undef FUSEDRNN_CASE
  }
  return {};  // of another cell: element_of refuses it before
}

bool many_launches(const SequenceDesc& desc, const PlanChoice& plan) {
  return plan.kind == PlanKind::step && desc.B > 0 && !cublaslt::usable();
}

Status sequence_sizes(const SequenceDesc* desc, SequenceSizes* sizes) {
  Element e{};
  FR_TRY(element_of(*desc, &e));
  const StackSize size(*desc, e);
  *sizes = SequenceSizes{};
  packed_layer(size, nullptr, size.stacks - 1, &sizes->packed);
  scratch(size, false, nullptr, &sizes->forward);
  if (!desc->train) return Status::ok;
  tape_layer(size, nullptr, size.stacks - 1, &sizes->tape);
  scratch(size, true, nullptr, &sizes->backward);
  return Status::ok;
}

Status sequence_pack(const SequenceDesc* desc, const LayerWeights* weights, void* packed, Stream stream) {
  Element e{};
  FR_TRY(element_of(*desc, &e));
  const StackSize size(*desc, e);
  PackWeight input{}, recurrent{};
  for (int k = 0; k < size.cell.gates; ++k) {
    input.block_of[size.cell.x_gate[k]] = k;
    recurrent.block_of[size.cell.h_gate[k]] = k;
  }
  for (int i = 0; i < size.stacks; ++i) {
    const int l = i / desc->directions;
    const PackedLayer to = packed_layer(size, packed, i);
    const LayerWeights& from = weights[i];
    for (PackWeight* w : {&input, &recurrent}) {
      const bool is_input = w == &input;
      const WeightView& given = from.weight[is_input ? kWeightIh : kWeightHh];
      w->from = given.data;
      w->to = is_input ? to.w : to.r;
      w->back = is_input ? to.w_back : to.r_back;
      w->H = desc->H;
      w->Hp = size.Hp;
      w->columns = is_input ? size.inputs(l) : desc->H;
      w->ld = given.row_stride;
      w->pitch = is_input ? size.input_pitch(l) : size.Hp;
      w->gates = size.cell.gates;
      FR_TRY(pack_weight(e, *w, stream));
    }
    FR_TRY(pack_bias(e, from.weight[kBiasIh].data, to.bias_x, size.gates(), stream));
    FR_TRY(pack_bias(e, from.weight[kBiasHh].data, to.bias_h, size.gates(), stream));
  }
  return Status::ok;
}

Status sequence_tape_view(const SequenceDesc* desc, const void* tape, int32_t index, TapeView* view) {
  Element e{};
  FR_TRY(element_of(*desc, &e));
  const StackSize size(*desc, e);
  const TapeLayer layer = tape_layer(size, tape, index);
  const int64_t blocks = size.cell.tape_blocks;
  *view = TapeView{};
  view->gate_blocks = size.cell.tape_blocks;
  if (size.cell.has_cell_state) view->cells = {layer.carry, desc->B * desc->H, desc->H};
  if (blocks > 0) view->gates = {layer.gates, desc->B * blocks * desc->H, blocks * desc->H};
  return Status::ok;
}

}  // namespace fusedrnn::cuda
