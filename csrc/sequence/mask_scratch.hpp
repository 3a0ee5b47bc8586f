// Scratch of masks over hidden units (sequence/masks.hpp): nothing where a stack has none.
#pragma once

#include "backend/backend.hpp"
#include "sequence/arena.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

inline bool drops_states(const SequenceDesc& desc) { return desc.train && desc.recurrent_dropout > 0; }
inline bool masks_units(const SequenceDesc& desc) {
  return drops_states(desc) || desc.zoneout_h > 0 || desc.zoneout_c > 0;
}

// What masks one row of one step; null where there is nothing of the kind (`past`: read with keep_h alone).
template <class T>
struct MaskRow {
  const T* recurrent;
  const T* h_prev;  // the state before the step, not masked
  T* masked;        // recurrent dropout of: forward the new h, backward h_prev
  const T *keep_h, *keep_c;
  T* past;              // backward: what goes past this step's cell
  const T* past_after;  // and past that of the step after
};

template <class T>
struct MaskScratch {
  T* recurrent;      // per direction group (B, P): factors of h
  T* masked[2];      // per direction group, h times factors: forward (B, P), steps in turn; backward (chunk rows, P),
                     // chunks
  T* keep;           // per thread (`group_rows`, 2, H): of h, of c
  T* past;           // backward, per direction group (B, P): of the gradient of h, what zoneout leads past the cell
  MaskRow<T>* rows;  // per thread: `group_rows`
};

template <class T>
MaskScratch<T> mask_scratch(const SequenceDesc& desc, const Plan& plan, bool backward, int64_t group_rows,
                            Arena& arena) {
  const int64_t states = plan.direction_groups * desc.B * state_units(desc);
  const int64_t chunk = backward ? states * plan.chunk_steps : states;
  const bool zones = desc.zoneout_h > 0 || desc.zoneout_c > 0;
  MaskScratch<T> s{};
  s.recurrent = arena.take<T>(drops_states(desc) ? states : 0);
  for (T*& rows : s.masked) rows = arena.take<T>(drops_states(desc) ? chunk : 0);
  const int32_t threads = plan.direction_groups * plan.row_groups * plan.unit_groups;
  s.keep = arena.take<T>(zones ? threads * group_rows * 2 * desc.H : 0);
  s.rows = arena.take<MaskRow<T>>(masks_units(desc) ? threads * group_rows : 0);
  s.past = arena.take<T>(backward && desc.zoneout_h > 0 ? states : 0);
  return s;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
