// Where everything of a stack lies in the four blocks a caller provides: packed weights, tape, and the two scratches.
//
// One struct per block, filled by the same code that counts its bytes: `lay out` from a null base to learn the size,
// from the real base to get the pointers. All pieces are 64-byte aligned. Letters as in backend.hpp; l layer, d
// direction.
#pragma once

#include "backend/backend.hpp"
#include "gemm/column_sums.hpp"
#include "gemm/outer.hpp"
#include "sequence/arena.hpp"
#include "sequence/barriers.hpp"
#include "sequence/cells.hpp"
#include "sequence/flow_scratch.hpp"
#include "sequence/mask_scratch.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// How a cell's units and gates fill a panel: `units` vectors of hidden units, the gates of each side by side, so that a
// tile holds everything its units need and finishes them. In a vector of units gate g of unit u is column g * s + u, s
// being the number of units: N, but fewer at the end of H, which then takes fewer vectors as well.
template <class E>
constexpr int panel_units(int gates) {
  return gates == 1 ? EngineOf<E>::vectors : 1;
}
template <class E>
constexpr int panel_vectors(int gates) {
  return panel_units<E>(gates) * gates;
}

// The panels of the gates of H units.
template <class E>
Panels gate_panels(int gates, int64_t H) {
  using T = typename E::Accumulator;
  constexpr int N = Lanes<T>::N;
  const int64_t vectors = H / N * gates + vectors_of<T>(H % N * gates);
  return gates == 1 ? even_panels(vectors, panel_vectors<E>(gates)) : full_panels(vectors, panel_vectors<E>(gates));
}

// Those of the plain products of backward (dh = dgates R, dX = dgates W): columns are units or inputs.
template <class E>
Panels plain_panels(int64_t columns) {
  return even_panels(vectors_of<typename E::Accumulator>(columns), EngineOf<E>::vectors);
}

// Those of a gated gate of H units: vectors of units, as many as a tile takes.
template <class E>
Panels gated_panels(int64_t H) {
  return full_panels(vectors_of<typename E::Accumulator>(H), EngineOf<E>::vectors);
}

// How many panels of gates go to one thread together: those with the units of one panel of a gated gate, so that both
// parts of a step have the same ones.
template <class E>
int64_t panels_together(const CellFacts& cell) {
  return cell.gated_gates > 0 ? EngineOf<E>::vectors : 1;
}

template <class E>
Plan plan_of(const SequenceDesc& desc) {
  const int gates = facts(desc.cell).gates;
  return make_plan<E>(desc, gates, gate_panels<E>(gates, desc.H).count);
}

// Rows of all steps.
inline int64_t rows_of(const SequenceDesc& desc) { return desc.is_packed ? desc.rows : desc.T * desc.B; }

// Sizes derived from a descriptor that every piece below needs.
template <class E>
struct StackSize {
  explicit StackSize(const SequenceDesc& desc) : desc(desc), cell(facts(desc.cell)) {}

  int64_t state() const { return state_units(desc); }
  int64_t width() const { return desc.directions * state(); }  // of a layer's output
  int64_t inputs(int l) const { return l == 0 ? desc.I : width(); }
  int64_t widest_input() const { return desc.layers > 1 && inputs(1) > desc.I ? inputs(1) : desc.I; }
  Panels gates() const { return gate_panels<E>(cell.gates, desc.H); }
  int32_t open_gates() const { return cell.gates - cell.gated_gates; }  // those that read h itself
  Panels open() const { return gate_panels<E>(open_gates(), desc.H); }
  Panels gated() const { return cell.gated_gates > 0 ? gated_panels<E>(desc.H) : Panels{}; }

  // The panels of gates of a unit group begin with this one; those of group `groups` with one more than there are.
  int64_t first_panel(int64_t group, int64_t groups) const {
    const int64_t count = gates().count, together = panels_together<E>(cell);
    const int64_t first = share((count + together - 1) / together, groups, group) * together;
    return first < count ? first : count;
  }
  int stacks() const { return desc.layers * desc.directions; }

  const SequenceDesc& desc;
  const CellFacts& cell;
};

template <class E>
struct PackedLayer {
  using Operand = OperandOf<E>;
  using Storage = typename E::Storage;

  Operand* w;        // forward, gate-interleaved panels over inputs
  Operand* r;        // forward, gate-interleaved panels over P: of the gates that read h itself
  Operand* r_gated;  // forward, panels over H: of the gated gate
  Storage* bias_x;   // as the panels' columns, zeros without bias
  Storage* bias_h;
  Storage* units;   // (unit_values, H)
  Storage* shift;   // (G * H,) of a cell that normalises: all biases of its gates, which the panels' are not then
  Operand* w_back;  // plain panels: columns are inputs, k runs over the x part of a dgates row
  Operand* r_back;  // plain panels: columns are units of h, k runs over the h part of a dgates row, gated gates apart
  Operand* r_gated_back;
  Storage* dropped;  // (G * H, P): R after weight dropout
  // Of a cell that projects h:
  Operand* project;       // plain panels: columns are units of h, k runs over H
  Operand* project_back;  // plain panels: columns are units, k runs over P
};

template <class E>
PackedLayer<E> packed_layer(const SequenceDesc& desc, const void* packed, int index, size_t* bytes = nullptr) {
  using Operand = OperandOf<E>;
  using Storage = typename E::Storage;
  const StackSize<E> size(desc);
  const EngineOf<E> engine = engine_of<E>(desc.precision);
  const auto elements = [&](const Panels& panels, int64_t K) { return engine.panel_elements(panels.vectors, K); };
  Arena arena(const_cast<void*>(packed));
  PackedLayer<E> layer{};
  for (int i = 0; i <= index; ++i) {
    const int64_t inputs = size.inputs(i / desc.directions), K_back = size.cell.gates * desc.H, P = size.state();
    const Panels gates = size.gates();
    const bool projects = size.cell.projection >= 0;
    layer.w = arena.take<Operand>(elements(gates, inputs));
    layer.r = arena.take<Operand>(elements(size.open(), P));
    layer.r_gated = arena.take<Operand>(elements(size.gated(), desc.H));
    layer.bias_x = arena.take<Storage>(gates.vectors * Lanes<Storage>::N);
    layer.bias_h = arena.take<Storage>(gates.vectors * Lanes<Storage>::N);
    layer.units = arena.take<Storage>(size.cell.unit_values * desc.H);
    layer.shift = arena.take<Storage>(size.cell.normalises ? K_back : 0);
    layer.w_back = arena.take<Operand>(elements(plain_panels<E>(inputs), K_back));
    layer.r_back = arena.take<Operand>(elements(plain_panels<E>(P), size.open_gates() * desc.H));
    layer.r_gated_back = arena.take<Operand>(elements(plain_panels<E>(desc.H), size.cell.gated_gates * desc.H));
    layer.dropped = arena.take<Storage>(desc.weight_dropout > 0 ? K_back * P : 0);
    layer.project = arena.take<Operand>(projects ? elements(plain_panels<E>(P), desc.H) : 0);
    layer.project_back = arena.take<Operand>(projects ? elements(plain_panels<E>(desc.H), P) : 0);
  }
  if (bytes) *bytes = arena.used();
  return layer;
}

// What one layer and direction keep. h has the stride of the whole layer, D * P; gates and c are the direction's own.
template <class T>
struct TapeLayer {
  T* h;      // (T, B, D * P) of the layer, offset to this direction
  T* c;      // (T, B, H), only with a separate carry
  T* gates;  // (T, B, tape_blocks * H)
  T* row;    // (T, B, row_values)
};

template <class T>
TapeLayer<T> tape_layer(const SequenceDesc& desc, const void* tape, int index, size_t* bytes = nullptr) {
  const CellFacts& cell = facts(desc.cell);
  Arena arena(const_cast<void*>(tape));
  const int64_t cells = rows_of(desc) * desc.H, P = state_units(desc);
  T* h = nullptr;
  TapeLayer<T> layer{};
  for (int i = 0; i <= index; ++i) {
    const int d = i % desc.directions;
    if (d == 0) h = arena.take<T>(rows_of(desc) * desc.directions * P);
    layer.h = h ? h + d * P : nullptr;
    layer.c = arena.take<T>(cell.has_cell_state ? cells : 0);
    layer.gates = arena.take<T>(cells * cell.tape_blocks);
    layer.row = arena.take<T>(rows_of(desc) * cell.row_values);
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
  T* values;   // row_values of the tape
  T* between;  // what the first part of a step leaves to the second, between_blocks * H
  const MaskRow<T>* masks;
  bool streams_gates, streams_y;  // past the caches
};

// What one row of one backward step reads and writes.
template <class T>
struct BackwardRow {
  const T* dy;     // null: zeros
  const T* start;  // gradient of the final state where the row ends here, else unused
  const T *carry_prev, *carry, *gates, *values;
  const T* dcarry;  // from the step after
  T* dcarry_prev;
  T* dgates;
  T* between;      // as forward's, of a cell that normalises
  T* gated;        // where a gated h goes, for the weight gradients of its chunk
  T *dh, *output;  // of a cell that projects h: the gradient of h (P), what was projected (H)
  const MaskRow<T>* masks;
  T* flow;  // null, or where the whole gradient of h goes and, behind it, that of c
};

// Operands for the panels of what weight gradients multiply dgates with: states, gated ones, inputs. One panel serves
// all that are not kept.
template <class E>
int64_t weight_panels(const EngineOf<E>& engine, const CellFacts& cell, int64_t H, int64_t P, int64_t inputs,
                      bool kept) {
  if (!kept) return outer_panels<E>(engine, 0, false);
  return outer_panels<E>(engine, P, true) + outer_panels<E>(engine, inputs, true) +
         (cell.gated_gates > 0 ? outer_panels<E>(engine, H, true) : 0);
}

// Operands that a thread with `units` hidden units packs for weight gradients (sequence/gradients.hpp).
template <class E>
int64_t gradient_operands(const EngineOf<E>& engine, const CellFacts& cell, int64_t H, int64_t P, int64_t inputs,
                          int64_t units, int64_t pairs) {
  const int64_t group = outer_group<E>(engine, units, cell.product_blocks, pairs);
  const int64_t projected = cell.projection < 0 ? 0 : outer_panels<E>(engine, 0, false) + engine.outer_elements(P);
  const int64_t all =
      weight_panels<E>(engine, cell, H, P, inputs, group < units) + cell.product_blocks * engine.outer_elements(group);
  return all > projected ? all : projected;
}

// Elements of a thread's part of a block, so that no two threads write to one line.
inline int64_t apart(int64_t elements) { return elements > 0 ? (elements + 64) / 64 * 64 : 0; }

// Rows of a thread's part of a table, likewise: eight of any row made of 8-byte words fill whole lines.
inline int64_t whole_lines(int64_t rows) { return (rows + 7) / 8 * 8; }

// Both scratches. Forward: `pre` per thread; backward: `dgates` (two chunks in turn) shared.
template <class E>
struct Scratch {
  using T = typename E::Storage;

  RowOrder order;
  Barrier* barrier;      // see sequence/barriers.hpp
  T* zeros;              // a row of zeros, long enough for any row read as an operand
  T* hidden[2];          // (T, B, D * P): forward without tape: outputs of inner layers; backward: their gradients
  T* dropped;            // (T, B, D * P): a layer's input after dropout
  T* carry;              // per direction group (B, H): forward without tape: c; backward: gradient of the carry
  T* between;            // per direction group (B, between_blocks * H): see ForwardRow
  T* dgates[2];          // per direction group (chunk rows, dgate_blocks * H)
  T* gated[2];           // per direction group (chunk rows, H): of a cell with gated gates, the gated h
  T *dh[2], *output[2];  // likewise (chunk rows, P) and (chunk rows, H), see BackwardRow
  T* sums;               // per direction group (2, dgate_blocks * H): of columns of dgates
  T* dx_reverse;         // (T, B, inputs): dX of the second direction where both run at once
  const T** pointers;    // per thread: `tables` row pointer tables of `pointer_rows`
  ForwardRow<T>* forward_rows;  // per thread: `group_rows`
  BackwardRow<T>* backward_rows;
  T* pre;                  // per thread: `pre_elements`, X W + b_ih of a chunk of steps
  OperandOf<E>* operands;  // per thread: `operand_elements`, what the engine packs of rows and dgates
  T* dropped_gradient;     // per direction group (G * H, P): backward: of R after weight dropout
  MaskScratch<T> masks;
  FlowScratch<T> flow;
  int64_t zeros_count, pointer_rows, group_rows, pre_elements, operand_elements;
  int tables;
};

template <class E>
Scratch<E> scratch(const SequenceDesc& desc, const Plan& plan, bool backward, void* memory, size_t* bytes = nullptr) {
  using T = typename E::Storage;
  const StackSize<E> size(desc);
  const CellFacts& cell = size.cell;
  const int threads = threads_of(plan), group_threads = plan.row_groups * plan.unit_groups;
  const int64_t cells = rows_of(desc) * size.width(), chunk_rows = plan.chunk_steps * desc.B;
  const int64_t widest = size.widest_input();
  const int64_t group_rows = (desc.B + plan.row_groups - 1) / plan.row_groups;
  const int64_t together = panels_together<E>(cell), blocks = (size.gates().count + together - 1) / together;
  const int64_t group_panels = (blocks + plan.unit_groups - 1) / plan.unit_groups * together;
  Arena arena(memory);
  Scratch<E> s{};
  s.order.batch = arena.take<int64_t>(desc.B);
  s.order.length = arena.take<int64_t>(desc.B);
  s.order.active = arena.take<int64_t>(desc.T + 1);
  s.order.next = arena.take<int64_t>(desc.T + 1);
  s.barrier = arena.take<Barrier>(barriers_of(plan));
  s.zeros_count = cell.dgate_blocks * desc.H;
  s.zeros = arena.take<T>(s.zeros_count);
  const int inner = desc.layers - 1;
  for (int i = 0; i < 2; ++i) s.hidden[i] = arena.take<T>((backward || !desc.train) && inner > i ? cells : 0);
  s.dropped = arena.take<T>(desc.train && desc.dropout > 0 && inner > 0 ? cells : 0);
  const bool carries = backward ? cell.carry_gradient : cell.has_cell_state && !desc.train;
  s.carry = arena.take<T>(carries ? plan.direction_groups * desc.B * desc.H : 0);
  const bool two_parts = !backward || cell.normalises;  // that leave something between them
  s.between = arena.take<T>(two_parts ? plan.direction_groups * desc.B * cell.between_blocks * desc.H : 0);
  if (backward)
    for (T*& chunk : s.dgates) chunk = arena.take<T>(plan.direction_groups * chunk_rows * cell.dgate_blocks * desc.H);
  if (backward && cell.gated_gates > 0)
    for (T*& chunk : s.gated) chunk = arena.take<T>(plan.direction_groups * chunk_rows * desc.H);
  const int64_t projected_rows = backward && cell.projection >= 0 ? plan.direction_groups * chunk_rows : 0;
  for (T*& chunk : s.dh) chunk = arena.take<T>(projected_rows * desc.P);
  for (T*& chunk : s.output) chunk = arena.take<T>(projected_rows * desc.H);
  s.sums = arena.take<T>(backward ? 2 * plan.direction_groups * cell.dgate_blocks * desc.H : 0);
  s.dx_reverse = arena.take<T>(backward && plan.direction_groups > 1 ? rows_of(desc) * widest : 0);
  s.group_rows = whole_lines(group_rows);
  s.forward_rows = arena.take<ForwardRow<T>>(backward ? 0 : threads * s.group_rows);
  s.backward_rows = arena.take<BackwardRow<T>>(backward ? threads * s.group_rows : 0);
  s.tables = !backward ? 1 : cell.gated_gates > 0 ? 4 : 3;
  s.pointer_rows = whole_lines(backward ? chunk_rows : plan.chunk_steps * group_rows);
  s.pointers = arena.take<const T*>(threads * s.tables * s.pointer_rows);
  const int64_t pre_columns = group_panels * panel_vectors<E>(cell.gates) * Lanes<T>::N;
  s.pre_elements = apart(backward ? 0 : s.pointer_rows * pre_columns);
  s.pre = arena.take<T>(threads * s.pre_elements);
  // Rows of a product are packed once the weight gradients before it are done, and the other way round.
  const auto larger = [](int64_t a, int64_t b) { return a > b ? a : b; };
  const EngineOf<E> engine = engine_of<E>(desc.precision);
  const int64_t rows = engine.a_elements(s.pointer_rows, backward ? cell.gates * desc.H : larger(widest, desc.H));
  const int64_t columns = backward ? gradient_operands<E>(engine, cell, desc.H, size.state(), widest,
                                                          (desc.H + group_threads - 1) / group_threads, chunk_rows)
                                   : 0;
  s.operand_elements = apart(larger(rows, columns));
  s.operands = arena.take<OperandOf<E>>(threads * s.operand_elements);
  const bool drops_weights = backward && desc.weight_dropout > 0;
  s.dropped_gradient = arena.take<T>(drops_weights ? plan.direction_groups * cell.gates * desc.H * size.state() : 0);
  s.masks = mask_scratch<T>(desc, plan, backward, s.group_rows, arena);
  if (backward && desc.flow) s.flow = flow_scratch<T>(desc, plan.direction_groups, arena);
  if (bytes) *bytes = arena.used();
  return s;
}

// The memory between the parts of a step of row r of the schedule.
template <class E>
typename E::Storage* between_row(const Scratch<E>& scratch, const CellFacts& cell, int64_t direction,
                                 const SequenceDesc& desc, int64_t r) {
  return scratch.between + (direction * desc.B + r) * cell.between_blocks * desc.H;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
