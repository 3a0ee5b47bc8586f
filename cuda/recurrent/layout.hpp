// Where everything of a stack lies in the four blocks a caller provides: packed weights, tape, and the two scratches.
//
// Laid out from a null base to learn the size, from the real base to get the pointers. Letters as in backend.hpp; E is
// the type operands are stored in and C the accumulator (element.cuh); Hp is H rounded up so that a row of E begins at
// 16 bytes. Of the plan depends only what `grid` has for itself.
#pragma once

#include "backend/traits.hpp"
#include "math.cuh"
#include "products/element.cuh"
#include "products/gemm.hpp"
#include "recurrent/grid/grid.hpp"
#include "sequence/arena.hpp"

namespace fusedrnn::cuda {

// Rows (of a step and a batch row) that are worth a product of their own: chunks of steps are that large. It fixes the
// order in which weight gradients are summed, and the size of the scratches.
constexpr int64_t kChunkRows = 8192;

// Layers of one direction may run side by side, each a piece of the sequence behind the one below. So many pieces are
// wanted of a sequence (two layers then take 9/16 of the time of one after the other), none of fewer steps than these:
// each costs a layer the launches of its products and reading R again, about as long as ten steps.
constexpr int64_t kWantedPieces = 8, kLeastPieceSteps = 16;

// Steps [first, end) of the chunk [chunk, chunk_end).
struct Piece {
  int64_t chunk, chunk_end, first, end;
};

struct StackSize {
  StackSize(const SequenceDesc& desc, Element e)
      : desc(desc), e(e), cell(traits(desc.cell)), Hp(aligned_pitch(e, desc.H)), stacks(desc.layers * desc.directions) {
    chunk_steps = desc.B > 0 ? kChunkRows / desc.B : 1;
    if (chunk_steps < 2) chunk_steps = 2;  // backward reads the step after a chunk where it writes the chunk's first
    if (chunk_steps > desc.T) chunk_steps = desc.T > 0 ? desc.T : 1;
    chunks = (desc.T + chunk_steps - 1) / chunk_steps;
    pieces_of_chunk = 1;
    if (desc.directions == 1 && desc.layers > 1 && chunks > 0) {
      const int64_t wanted = (kWantedPieces + chunks - 1) / chunks, most = chunk_steps / kLeastPieceSteps;
      pieces_of_chunk = most < 1 ? 1 : wanted < most ? wanted : most;
    }
    lanes = desc.directions == 2 || (desc.layers > 1 && pieces() > 1) ? 2 : 1;
  }

  // A chunk is cut into pieces_of_chunk equal parts, which are handed from layer to layer.
  int64_t pieces() const { return chunks * pieces_of_chunk; }
  Piece piece(int64_t i) const {
    const int64_t start = i / pieces_of_chunk * chunk_steps, part = i % pieces_of_chunk;
    const int64_t steps = start + chunk_steps < desc.T ? chunk_steps : desc.T - start;
    return {start, start + steps, start + steps * part / pieces_of_chunk, start + steps * (part + 1) / pieces_of_chunk};
  }

  int64_t inputs(int l) const { return l == 0 ? desc.I : desc.directions * desc.H; }
  int64_t input_pitch(int l) const { return aligned_pitch(e, inputs(l)); }
  int64_t widest_input() const { return desc.layers > 1 && inputs(1) > desc.I ? inputs(1) : desc.I; }
  int64_t gates() const { return cell.gates * desc.H; }            // columns of pre
  int64_t gate_pitch() const { return cell.gates * Hp; }           // of a part of a row of dgates
  int64_t dgates_pitch() const { return cell.dgate_blocks * Hp; }  // of a row of dgates
  int64_t cells() const { return desc.T * desc.B * desc.H; }
  int64_t chunk_rows() const { return chunk_steps * desc.B; }
  int64_t piece_rows() const { return (chunk_steps + pieces_of_chunk - 1) / pieces_of_chunk * desc.B; }  // at most

  const SequenceDesc& desc;
  Element e;
  const CellTraits& cell;
  int64_t Hp, chunk_steps, chunks, pieces_of_chunk;
  int32_t stacks;
  int32_t lanes;  // what may run side by side: both directions of a layer, or two layers of one direction
};

// Pieces of E and of C, of a base or counted.
class Pieces {
 public:
  Pieces(Element e, const void* base) : e_(bytes_of(e)), c_(accumulator_bytes(e)), arena_(const_cast<void*>(base)) {}

  void* of_e(int64_t count) { return arena_.take<char>(count * e_); }
  void* of_c(int64_t count) { return arena_.take<char>(count * c_); }
  void* of_bytes(int64_t count) { return arena_.take<char>(count); }
  size_t used() const { return arena_.used(); }

 private:
  int64_t e_, c_;
  Arena arena_;
};

// One layer and direction. Rows of w and r are gates * H, in PyTorch's order; w_back and r_back are their transposes,
// columns being the blocks of the x and the h part of dgates, Hp wide and 0 past H.
struct PackedLayer {
  void *w, *r;            // E (G * H, input pitch), (G * H, Hp)
  void *w_back, *r_back;  // E (inputs, G * Hp), (H, G * Hp)
  void *bias_x, *bias_h;  // C (G * H), zeros without bias
};

inline PackedLayer packed_layer(const StackSize& size, const void* packed, int index, size_t* bytes = nullptr) {
  Pieces pieces(size.e, packed);
  PackedLayer layer{};
  for (int i = 0; i <= index; ++i) {
    const int l = i / size.desc.directions;
    layer.w = pieces.of_e(size.gates() * size.input_pitch(l));
    layer.r = pieces.of_e(size.gates() * size.Hp);
    layer.w_back = pieces.of_e(size.inputs(l) * size.gate_pitch());
    layer.r_back = pieces.of_e(size.desc.H * size.gate_pitch());
    layer.bias_x = pieces.of_c(size.gates());
    layer.bias_h = pieces.of_c(size.gates());
  }
  if (bytes) *bytes = pieces.used();
  return layer;
}

// What one layer and direction keep. `hidden` is the layer's, for the layer above; `before` follows the steps of its
// direction (walk.cuh), the others time.
struct TapeLayer {
  void* hidden;  // E (T, B, D * H), 0 past lengths; none of the last layer
  void* before;  // E (T, B, Hp): the state that step s starts from, 0 where the link is cut
  void* carry;   // C (T, B, H): c of an LSTM, h otherwise
  void* gates;   // C (T, B, tape_blocks * H)
};

inline TapeLayer tape_layer(const StackSize& size, const void* tape, int index, size_t* bytes = nullptr) {
  const SequenceDesc& desc = size.desc;
  Pieces pieces(size.e, tape);
  TapeLayer layer{};
  for (int i = 0; i <= index; ++i) {
    if (i % desc.directions == 0)
      layer.hidden = i / desc.directions < desc.layers - 1 ? pieces.of_e(size.cells() * desc.directions) : nullptr;
    layer.before = pieces.of_e(desc.T * desc.B * size.Hp);
    layer.carry = pieces.of_c(size.cells());
    layer.gates = pieces.of_c(size.cells() * size.cell.tape_blocks);
  }
  if (bytes) *bytes = pieces.used();
  return layer;
}

// Both scratches; [2] are the lanes unless said otherwise.
struct Scratch {
  void* exchange;   // flags and states of the plan `grid`
  void* xs;         // E (piece rows, backward chunk rows; input pitch): a layer's input in the order of steps
  void* pre[2];     // forward: C (piece rows, G * H): x W + b_ih
  void* hidden[2];  // forward without tape: E (T, B, D * H) of layers l % 2
  void* before[2];  // forward without tape: E (2, B, Hp), steps in turn
  void* carry[2];   // forward without tape: C (B, H)

  void* dgates[2];   // E (chunk rows, dgate_blocks * Hp)
  void* dcarry[2];   // C (B, H)
  void* dxs;         // C (piece rows, inputs): dX in the order of steps
  void* dhidden[2];  // C (T, B, D * H): gradient of the input of layers l % 2
  void* partials;    // C: partial sums of weight gradients
};

// How often sums over the rows of a chunk are cut to make weight gradients: of a weight of `columns`, and of a bias.
inline int32_t weight_splits(const StackSize& size, int64_t columns) {
  return splits_for(size.gate_pitch(), columns, size.chunk_rows());
}
inline int32_t bias_splits(const StackSize& size) {
  const int64_t runs = (size.chunk_rows() + 2047) / 2048;
  return static_cast<int32_t>(runs > 0 ? runs : 1);
}

inline Scratch scratch(const StackSize& size, bool backward, void* memory, size_t* bytes = nullptr) {
  const SequenceDesc& desc = size.desc;
  const int64_t B = desc.B, rows = size.chunk_rows(), inner = desc.layers - 1, hidden = size.cells() * desc.directions;
  const int64_t pitch = aligned_pitch(size.e, size.widest_input());
  Pieces pieces(size.e, memory);
  Scratch s{};
  s.exchange = pieces.of_bytes(grid_exchange_bytes(desc, size.e, backward));
  s.xs = pieces.of_e((backward ? rows : size.piece_rows()) * pitch);
  for (int d = 0; d < size.lanes; ++d) {
    if (!backward) {
      s.pre[d] = pieces.of_c(size.piece_rows() * size.gates());
      s.before[d] = pieces.of_e(desc.train ? 0 : 2 * B * size.Hp);
      s.carry[d] = pieces.of_c(desc.train ? 0 : B * desc.H);
    } else {
      s.dgates[d] = pieces.of_e(rows * size.dgates_pitch());
      s.dcarry[d] = pieces.of_c(B * desc.H);
    }
  }
  for (int i = 0; i < 2; ++i) {
    if (!backward) s.hidden[i] = pieces.of_e(!desc.train && inner > i ? hidden : 0);
    if (backward) s.dhidden[i] = pieces.of_c(inner > i ? hidden : 0);
  }
  if (backward) {
    s.dxs = pieces.of_c(size.piece_rows() * size.widest_input());
    int64_t most = bias_splits(size) * size.gate_pitch();
    for (const int64_t columns : {desc.H, desc.I, size.inputs(1)}) {
      const int64_t sums = weight_splits(size, columns) * size.gate_pitch() * columns;
      if (sums > most) most = sums;
    }
    s.partials = pieces.of_c(most);
  }
  if (bytes) *bytes = pieces.used();
  return s;
}

}  // namespace fusedrnn::cuda
