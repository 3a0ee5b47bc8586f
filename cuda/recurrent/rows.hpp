// Rows on their way into and out of the order of steps, and the ends of a walk, for the host.
#pragma once

#include "math.cuh"
#include "products/element.cuh"
#include "recurrent/walk.cuh"
//
#include "layers/philox.hpp"

namespace fusedrnn::cuda {

// Rows (s, b) of steps [s0, s0 + steps), b fastest, of one direction of an array whose rows are (t, b).
struct RowMove {
  Walk walk;
  Array3 array;                        // (T, B, width)
  void* rows;                          // (steps * B, width)
  int64_t s0, steps, B, width, pitch;  // pitch: from one of `rows` to the next
  int32_t reverse, add;
  int32_t drops;  // through dropout: element (t, b, k) is number (t * B + b) * width + k
  Dropout dropout;
};

// rows = array, rounded to E, 0 past lengths. `array` holds C, or E if `stored`.
Status stage(Element e, bool stored, const RowMove& move, Stream stream);

// array = rows or, with `add`, array += rows, both C; 0 past lengths.
Status unstage(Element e, const RowMove& move, Stream stream);

// 0 everywhere.
Status clear(Element e, const Array3& array, int64_t T, int64_t B, int64_t width, Stream stream);

// The state that step 0 starts from: h0 rounded to E, 0 where the link to it is cut or the row has no steps.
struct FirstState {
  Walk walk;
  const void* h0;  // C, row b at b * stride, or null for zeros
  void* before;    // E (B, Hp)
  int64_t stride, B, H, Hp;
  int32_t reverse;
};
Status first_state(Element e, const FirstState& state, Stream stream);

// to = from (zeros if null) for rows without steps, which end in the state they start from.
struct EmptyRows {
  Walk walk;
  Array3 from, to;  // C (stacks, B, H)
  int64_t stacks, B, H;
};
Status copy_empty_rows(Element e, const EmptyRows& rows, Stream stream);

// One weight (G * H, columns) as E, and its transpose (columns, G * Hp) whose block k is gate block_gate[k].
struct PackWeight {
  const void* from;  // C, rows `ld` apart
  void *to, *back;   // rows `pitch` and gates * Hp apart
  int64_t H, Hp, columns, ld, pitch;
  int32_t gates, block_of[4];  // the block of a gate
};
Status pack_weight(Element e, const PackWeight& weight, Stream stream);

// to = from, or zeros if null; C.
Status pack_bias(Element e, const void* from, void* to, int64_t count, Stream stream);

}  // namespace fusedrnn::cuda
