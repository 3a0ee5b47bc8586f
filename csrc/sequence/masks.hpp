// Masks over hidden units: recurrent dropout, zoneout and weight dropout. None is stored but for as long as it is read.
//
// Recurrent dropout (Gal & Ghahramani 2016) has a factor for each row and unit of a layer and direction. Products read
// rows of h times these factors: forward keeps them for the next step, backward for the weight gradients of a chunk.
// Zoneout (Krueger et al. 2017) draws at every step which units take their new state: state = keep new + (1 - keep)
// old with keep = 1 or 0, or its expectation 1 - p where nothing is drawn. What it lets through is gone past the cell.
#pragma once

#include "layers/philox.hpp"
#include "sequence/rows.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Streams of a call's key: dropout of layer l's input has stream l, all others layer * D + direction in theirs.
enum class MaskUse : uint32_t { input, recurrent, zoneout_h, zoneout_c, weight };

inline uint32_t mask_stream(MaskUse use, int64_t index) {
  static_assert(kMaxLayers * 2 < 1 << 24, "layers and directions must be told apart");
  return static_cast<uint32_t>(use) << 24 | static_cast<uint32_t>(index);
}

// Whether zoneout is its expectation.
inline bool zoneout_is_mean(const SequenceDesc& desc) { return !desc.train || desc.zoneout_mean; }

// Unit 0 of row b in masks by row: whatever T, B and H are, a row has the same ones.
inline uint64_t mask_row(const SequenceDesc& desc, int64_t b) {
  return static_cast<uint64_t>(desc.first_row + b) << 34;
}

// The first element of an inner layer's input, `width` features of row b at step t, in that layer's dropout.
inline uint64_t input_element(const SequenceDesc& desc, int64_t t, int64_t b, int64_t width) {
  return desc.dropout_per_sequence ? mask_row(desc, b)
                                   : static_cast<uint64_t>(((desc.first_step + t) * desc.B + b) * width);
}

// Units that a thread of the grid has.
struct UnitRange {
  int64_t first, last;
};

// Those that a thread finishes the step of: a part of the units of all its rows, or all units of one row in so many.
struct FinishedUnits {
  UnitRange h, c;
  int64_t row = 0, rows = 1;
};

// What one thread does with masks: it makes and reads those of its rows and units alone.
template <class E>
class UnitMasks {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  using V = typename L::V;

 public:
  // `keep` and `rows` are the thread's own, `h` its units of h.
  UnitMasks(const SequenceDesc& desc, const MaskScratch<T>& scratch, const RowOrder& order, const RowGroup& group,
            int32_t direction, T* keep, MaskRow<T>* rows, const UnitRange& h, const FinishedUnits& finished)
      : desc_(desc),
        scratch_(scratch),
        order_(order),
        group_(group),
        states_(direction * desc.B),
        keep_(keep),
        rows_(rows),
        h_(h),
        finished_(finished),
        any_(masks_units(desc)) {
    if (!zoneout_is_mean(desc) || desc.B == 0 || (desc.zoneout_h <= 0 && desc.zoneout_c <= 0)) return;
    for (int64_t unit = 0; unit < desc.H; ++unit) {
      keep_[unit] = T(1 - desc.zoneout_h);
      keep_[desc.H + unit] = T(1 - desc.zoneout_c);
    }
  }

  bool any() const { return any_; }

  // The factors of a layer and direction.
  void begin(int64_t index) {
    index_ = index;
    if (!drops_states(desc_)) return;
    const Dropout mask = of(MaskUse::recurrent, desc_.recurrent_dropout);
    const T scale = static_cast<T>(mask.scale);
    for (int64_t i = 0; i < group_.count(desc_.B); ++i) draw(mask, group_.row(i), scale, h_, factors(group_.row(i)));
  }

  // Row i of my rows, which is r of the order, at time t.
  MaskRow<T>& row(int64_t i, int64_t r, int64_t t, const T* h_prev) {
    MaskRow<T>& row = rows_[i];
    row = MaskRow<T>{};
    row.h_prev = h_prev;
    if (drops_states(desc_)) row.recurrent = factors(r);
    row.keep_h = keep(MaskUse::zoneout_h, desc_.zoneout_h, i, r, t);
    row.keep_c = keep(MaskUse::zoneout_c, desc_.zoneout_c, i, r, t);
    if (desc_.zoneout_h > 0) row.past = state(scratch_.past, r);
    return row;
  }

  // Likewise for the gradient of row r's initial state, which a reset may have cut off.
  const MaskRow<T>& behind_initial(int64_t i, int64_t r, bool cut) {
    MaskRow<T>& row = rows_[i];
    row = MaskRow<T>{};
    if (drops_states(desc_)) row.recurrent = factors(r);
    if (desc_.zoneout_h > 0 && !cut) row.past_after = state(scratch_.past, r);
    return row;
  }

  // Row r's state behind step s as the product of the next one reads it: steps in turn.
  T* masked(int64_t s, int64_t r) const { return state(scratch_.masked[s % 2], r); }

  // Initial states go where those of a step -1 would be.
  void mask_initial(const Array3& h0) const {
    if (!drops_states(desc_) || !h0.data) return;
    for (int64_t i = 0; i < group_.count(desc_.B); ++i) {
      const int64_t r = group_.row(i);
      const T *const from = at<T>(h0, index_, order_.batch[r]), *const factor = factors(r);
      T* const to = masked(1, r);
      for (int64_t k = h_.first; k < h_.last; ++k) to[k] = from[k] * factor[k];
    }
  }

  // h as it was made becomes the state of the step.
  FR_INLINE static void forward_h(const MaskRow<T>& row, int64_t unit, int count, V& h) {
    if (row.keep_h) h = zoned(load(row.keep_h, unit, count), h, load(row.h_prev, unit, count));
    if (row.masked) store(row.masked, unit, count, h * load(row.recurrent, unit, count));
  }
  // Likewise the carry.
  FR_INLINE static void forward_carry(const MaskRow<T>& row, int64_t unit, int count, V& carry, const V& carry_prev) {
    if (row.keep_c) carry = zoned(load(row.keep_c, unit, count), carry, carry_prev);
  }

  // dh as a product left it becomes the gradient of the state behind this step, as far as it comes from the next.
  FR_INLINE static V arriving(const MaskRow<T>& row, int64_t unit, int count, const V& product) {
    V dh = product;
    if (row.recurrent) dh = dh * load(row.recurrent, unit, count);
    if (row.past_after) dh = dh + load(row.past_after, unit, count);
    return dh;
  }

  // The gradient of a step's h becomes that of h as it was made.
  FR_INLINE static void backward_h(const MaskRow<T>& row, int64_t unit, int count, V& dh) {
    if (row.masked) store(row.masked, unit, count, load(row.h_prev, unit, count) * load(row.recurrent, unit, count));
    if (!row.keep_h) return;
    const V keep = load(row.keep_h, unit, count);
    store(row.past, unit, count, (L::set(1) - keep) * dh);
    dh = keep * dh;
  }
  // Likewise that of the carry; returns what of it goes past the cell. A carry that is no state of its own is h, and
  // its gradient a part of h's.
  template <bool SeparateCarry>
  FR_INLINE static V backward_carry(const MaskRow<T>& row, int64_t unit, int count, V& dcarry) {
    const T* const keeps = SeparateCarry ? row.keep_c : row.keep_h;
    if (!keeps) return L::zero();
    const V keep = load(keeps, unit, count), past = (L::set(1) - keep) * dcarry;
    dcarry = keep * dcarry;
    return past;
  }

 private:
  static V load(const T* from, int64_t unit, int count) {
    return count == L::N ? L::load(from + unit) : L::load(from + unit, count);
  }
  static void store(T* to, int64_t unit, int count, const V& v) {
    count == L::N ? L::store(to + unit, v) : L::store(to + unit, v, count);
  }
  static V zoned(const V& keep, const V& now, const V& before) {
    return L::fma(keep, now, (L::set(1) - keep) * before);
  }

  Dropout of(MaskUse use, double p) const {
    return Dropout(p, desc_.dropout_key, desc_.dropout_key_at, mask_stream(use, index_)).read();
  }
  T* state(T* states, int64_t r) const { return states + (states_ + r) * state_units(desc_); }
  T* factors(int64_t r) const { return state(scratch_.recurrent, r); }

  // Those units of row r: `kept` where the mask keeps them, else 0.
  void draw(const Dropout& mask, int64_t r, T kept, const UnitRange& units, T* row) const {
    T* const to = row + units.first;
    for_elements(mask, units.last - units.first, mask_row(desc_, order_.batch[r]) + static_cast<uint64_t>(units.first),
                 [=](int64_t k, bool keeps) { to[k] = keeps ? kept : T(0); });
  }

  const T* keep(MaskUse use, double p, int64_t i, int64_t r, int64_t t) const {
    if (p <= 0) return nullptr;
    const int64_t which = use == MaskUse::zoneout_c;
    if (zoneout_is_mean(desc_)) return keep_ + which * desc_.H;
    T* const row = keep_ + (2 * i + which) * desc_.H;
    if (i % finished_.rows != finished_.row) return row;  // another thread reads its own
    Dropout mask = of(use, p);
    mask.step = static_cast<uint32_t>(desc_.first_step + t);
    draw(mask, r, T(1), which ? finished_.c : finished_.h, row);
    return row;
  }

  const SequenceDesc& desc_;
  const MaskScratch<T>& scratch_;
  const RowOrder& order_;
  const RowGroup group_;
  const int64_t states_;  // rows of direction groups before mine
  T* const keep_;
  MaskRow<T>* const rows_;
  const UnitRange h_;
  const FinishedUnits finished_;
  const bool any_;
  int64_t index_ = 0;  // layer * D + direction
};

// Weight dropout (Merity et al. 2018): the mask of R (rows, P), element (row, k) being row * P + k.
inline Dropout weight_mask(const SequenceDesc& desc, int64_t index) {
  return Dropout(desc.weight_dropout, desc.weight_key, nullptr, mask_stream(MaskUse::weight, index));
}

// Rows first <= row < last of R, dropped.
template <class T>
void drop_weight(const SequenceDesc& desc, int64_t index, const T* weight, int64_t ld, T* dropped, int64_t first,
                 int64_t last) {
  const Dropout mask = weight_mask(desc, index);
  const int64_t P = state_units(desc);
  for (int64_t row = first; row < last; ++row)
    dropout_elements(mask, weight + row * ld, dropped + row * P, P, static_cast<uint64_t>(row * P));
}

// grad += the gradient of R from that of what was left of it, those rows.
template <class T>
void add_dropped_gradient(const SequenceDesc& desc, int64_t index, const T* dropped, T* grad, int64_t first,
                          int64_t last) {
  const Dropout mask = weight_mask(desc, index);
  const T scale = static_cast<T>(mask.scale);
  const int64_t P = state_units(desc), begin = first * P;
  for_elements(mask, (last - first) * P, static_cast<uint64_t>(begin), [=](int64_t k, bool kept) {
    if (kept) grad[begin + k] = grad[begin + k] + dropped[begin + k] * scale;
  });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
