// Where everything of a stack lies in the four blocks a caller provides: packed weights, tape, and the two scratches.
//
// One struct per block, filled by the same code that counts its bytes: `lay out` from a null base to learn the size,
// from the real base to get the pointers. All pieces are 64-byte aligned. Letters as in backend.hpp; l layer, d
// direction.
#pragma once

#include "backend/backend.hpp"
#include "gemm/outer.hpp"
#include "gemm/panels.hpp"
#include "sequence/arena.hpp"
#include "sequence/barriers.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// How a cell's units and gates fill a panel: `units` vectors of hidden units, the gates of each side by side, so that a
// tile holds everything its units need and finishes them. In a vector of units gate g of unit u is column g * s + u, s
// being the number of units: N, but fewer at the end of H, which then takes fewer vectors as well.
template <class Cell>
struct PanelShape {
  static constexpr int units = Cell::gates == 1 ? 4 : 1;
  static constexpr int vectors = units * Cell::gates;
};

// The panels of the gates of H units.
template <class Cell, class T>
Panels gate_panels(int64_t H) {
  constexpr int N = Lanes<T>::N, NV = PanelShape<Cell>::vectors;
  const int64_t vectors = H / N * Cell::gates + vectors_of<T>(H % N * Cell::gates);
  return Cell::gates == 1 ? even_panels<NV>(vectors) : full_panels<NV>(vectors);
}

constexpr int kBackVectors = 4;  // panel width of the plain products of backward (dh = dgates R, dX = dgates W)

// Sizes derived from a descriptor that every piece below needs.
template <class Cell, class T>
struct StackSize {
  static constexpr int N = Lanes<T>::N;

  explicit StackSize(const SequenceDesc& desc) : desc(desc), unit_vectors(vectors_of<T>(desc.H)) {}

  int64_t inputs(int l) const { return l == 0 ? desc.I : desc.directions * desc.H; }
  Panels gates() const { return gate_panels<Cell, T>(desc.H); }
  int stacks() const { return desc.layers * desc.directions; }

  const SequenceDesc& desc;
  int64_t unit_vectors;
};

template <class T>
struct PackedLayer {
  T* w;       // forward, gate-interleaved panels over inputs
  T* r;       // forward, gate-interleaved panels over H
  T* bias_x;  // as the panels' columns, zeros without bias
  T* bias_h;
  T* w_back;  // plain panels: columns are inputs, k runs over the x part of a dgates row
  T* r_back;  // plain panels: columns are units, k runs over the h part of a dgates row
};

template <class Cell, class T>
PackedLayer<T> packed_layer(const SequenceDesc& desc, const void* packed, int index, size_t* bytes = nullptr) {
  const StackSize<Cell, T> size(desc);
  Arena arena(const_cast<void*>(packed));
  PackedLayer<T> layer{};
  for (int i = 0; i <= index; ++i) {
    const int64_t inputs = size.inputs(i / desc.directions), gates = size.gates().vectors;
    layer.w = arena.take<T>(packed_elements<T>(gates, inputs));
    layer.r = arena.take<T>(packed_elements<T>(gates, desc.H));
    layer.bias_x = arena.take<T>(packed_elements<T>(gates, 1));
    layer.bias_h = arena.take<T>(packed_elements<T>(gates, 1));
    layer.w_back = arena.take<T>(packed_elements<T>(vectors_of<T>(inputs), Cell::gates * desc.H));
    layer.r_back = arena.take<T>(packed_elements<T>(size.unit_vectors, Cell::gates * desc.H));
  }
  if (bytes) *bytes = arena.used();
  return layer;
}

// What one layer and direction keep. h has the stride of the whole layer, D * H; gates and c are the direction's own.
template <class T>
struct TapeLayer {
  T* h;      // (T, B, D * H) of the layer, offset to this direction
  T* c;      // (T, B, H), only with a separate carry
  T* gates;  // (T, B, tape_blocks * H)
};

template <class Cell, class T>
TapeLayer<T> tape_layer(const SequenceDesc& desc, const void* tape, int index, size_t* bytes = nullptr) {
  Arena arena(const_cast<void*>(tape));
  const int64_t cells = desc.T * desc.B * desc.H;
  T* h = nullptr;
  TapeLayer<T> layer{};
  for (int i = 0; i <= index; ++i) {
    const int d = i % desc.directions;
    if (d == 0) h = arena.take<T>(cells * desc.directions);
    layer.h = h ? h + d * desc.H : nullptr;
    layer.c = arena.take<T>(Cell::separate_carry ? cells : 0);
    layer.gates = arena.take<T>(cells * Cell::tape_blocks);
  }
  if (bytes) *bytes = arena.used();
  return layer;
}

// What depends on lengths: rows in order of falling length, so that the rows still active at any step are a prefix.
struct RowOrder {
  int64_t* batch;   // (B,) row r of the schedule is row batch[r] of the arrays
  int64_t* length;  // (B,) of row r
  int64_t* active;  // (T + 1,) rows with length > s; active[T] = 0
  int64_t* next;    // (T + 1,) used while sorting
};

// What one row of one forward step writes, and the carry it starts from; pointers to rows, null where there is nothing.
template <class T>
struct ForwardRow {
  const T* carry_prev;
  T *h, *y, *hn;
  T *carry, *cn;
  T* gates;
};

// What one row of one backward step reads and writes.
template <class T>
struct BackwardRow {
  const T* dy;     // null: zeros
  const T* start;  // gradient of the final state where the row ends here, else unused
  const T *carry_prev, *carry, *gates;
  const T* dcarry;  // from the step after
  T* dcarry_prev;
  T* dgates;
};

// Elements of scratch for the weight gradients of a thread that has `units` hidden units (sequence/gradients.hpp).
template <class Cell, class T>
int64_t gradient_scratch(int64_t units) {
  return outer_panel<T> + Cell::dgate_blocks * OuterTiles<T>::elements(units);
}

// Both scratches. Forward: `pre` per thread; backward: `dgates` (two chunks in turn) shared, `outer` per thread.
template <class T>
struct Scratch {
  RowOrder order;
  Barrier* barrier;    // see sequence/barriers.hpp
  T* zeros;            // a row of zeros, long enough for any row read as an operand
  T* hidden[2];        // (T, B, D * H): forward without tape: outputs of inner layers; backward: their gradients
  T* dropped;          // (T, B, D * H): a layer's input after dropout
  T* carry;            // per direction group (B, H): forward without tape: c; backward: gradient of the carry
  T* dgates[2];        // per direction group (chunk rows, dgate_blocks * H)
  T* dx_reverse;       // (T, B, inputs): dX of the second direction where both run at once
  const T** pointers;  // per thread: `tables` row pointer tables of `pointer_rows`
  ForwardRow<T>* forward_rows;  // per thread: `group_rows`
  BackwardRow<T>* backward_rows;
  T* per_thread;  // per thread: `thread_elements`
  int64_t zeros_count, pointer_rows, group_rows, thread_elements;
  int tables;
};

template <class Cell, class T>
Scratch<T> scratch(const SequenceDesc& desc, const Plan& plan, bool backward, void* memory, size_t* bytes = nullptr) {
  const StackSize<Cell, T> size(desc);
  const int threads = threads_of(plan), group_threads = plan.row_groups * plan.unit_groups;
  const int64_t cells = desc.T * desc.B * desc.H * desc.directions, chunk_rows = plan.chunk_steps * desc.B;
  const int64_t widest = desc.layers > 1 && desc.directions * desc.H > desc.I ? desc.directions * desc.H : desc.I;
  const int64_t group_rows = (desc.B + plan.row_groups - 1) / plan.row_groups;
  const int64_t group_panels = (size.gates().count + plan.unit_groups - 1) / plan.unit_groups;
  Arena arena(memory);
  Scratch<T> s{};
  s.order.batch = arena.take<int64_t>(desc.B);
  s.order.length = arena.take<int64_t>(desc.B);
  s.order.active = arena.take<int64_t>(desc.T + 1);
  s.order.next = arena.take<int64_t>(desc.T + 1);
  s.barrier = arena.take<Barrier>(barriers_of(plan));
  s.zeros_count = Cell::dgate_blocks * desc.H;
  s.zeros = arena.take<T>(s.zeros_count);
  const int inner = desc.layers - 1;
  for (int i = 0; i < 2; ++i) s.hidden[i] = arena.take<T>((backward || !desc.train) && inner > i ? cells : 0);
  s.dropped = arena.take<T>(desc.train && desc.dropout > 0 && inner > 0 ? cells : 0);
  const bool carries = backward ? Cell::carry_gradient : Cell::separate_carry && !desc.train;
  s.carry = arena.take<T>(carries ? plan.direction_groups * desc.B * desc.H : 0);
  if (backward)
    for (T*& chunk : s.dgates) chunk = arena.take<T>(plan.direction_groups * chunk_rows * Cell::dgate_blocks * desc.H);
  s.dx_reverse = arena.take<T>(backward && plan.direction_groups > 1 ? desc.T * desc.B * widest : 0);
  s.group_rows = group_rows;
  s.forward_rows = arena.take<ForwardRow<T>>(backward ? 0 : threads * group_rows);
  s.backward_rows = arena.take<BackwardRow<T>>(backward ? threads * group_rows : 0);
  s.tables = backward ? 3 : 1;
  s.pointer_rows = backward ? chunk_rows : plan.chunk_steps * group_rows;
  s.pointers = arena.take<const T*>(threads * s.tables * s.pointer_rows);
  s.thread_elements =
      backward ? gradient_scratch<Cell, T>((desc.H + group_threads - 1) / group_threads)
               : plan.chunk_steps * group_rows * packed_elements<T>(group_panels * PanelShape<Cell>::vectors, 1);
  s.thread_elements = (s.thread_elements + 64) / 64 * 64;
  s.per_thread = arena.take<T>(threads * s.thread_elements);
  if (bytes) *bytes = arena.used();
  return s;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
