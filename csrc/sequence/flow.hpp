// Gradient flow: the norms of the whole gradients of the states of each step, measured on backward's way.
//
// A step's epilogue leaves the gradients, and a thread of the row group sums the squares of a row while they are in its
// cache. Units in the order of simd/wide.hpp, then rows in that of the batch: so no bit depends on threads, instruction
// sets or lengths of other rows.
#pragma once

#include "sequence/rows.hpp"
#include "simd/wide.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Of one direction group.
template <class T>
class Flow {
 public:
  Flow(const SequenceDesc& desc, const BackwardArgs& args, const FlowScratch<T>& scratch, int32_t direction_group)
      : desc_(desc),
        args_(args),
        states_(states_of(desc)),
        rows_{scratch.rows[0] + direction_group * desc.B * states_ * desc.H,
              scratch.rows[1] + direction_group * desc.B * states_ * desc.H},
        sums_(scratch.sums + direction_group * desc.T * desc.B * states_) {}

  // Where step s leaves the gradients of row r: steps in turn.
  T* row(int64_t s, int64_t r) const { return rows_[s % 2] + r * states_ * desc_.H; }

  // Squares of row r at step s, which is row b at time t.
  void add_row(int64_t s, int64_t r, int64_t t, int64_t b) const {
    for (int64_t k = 0; k < states_; ++k) {
      const T* const gradient = row(s, r) + k * desc_.H;
      sums_[(t * desc_.B + b) * states_ + k] = reduce(k == 0 ? state_units(desc_) : desc_.H, [&](int64_t i, int64_t n) {
        const Wide g = Wide::load(gradient + i, n);
        return g * g;
      });
    }
  }

  // Norms of the times [first, last) of a layer and direction, once all rows are there.
  void norms(int64_t index, int64_t first, int64_t last) const {
    for (int64_t k = 0; k < states_; ++k) {
      double* const out = (k == 0 ? args_.flow_h : args_.flow_c) + index * args_.flow_stride;
      for (int64_t t = first; t < last; ++t) {
        double sum = 0;
        for (int64_t b = 0; b < desc_.B; ++b)
          if (!args_.lengths || t < args_.lengths[b]) sum += sums_[(t * desc_.B + b) * states_ + k];
        out[t] = __builtin_sqrt(sum);
      }
    }
  }

 private:
  const SequenceDesc& desc_;
  const BackwardArgs& args_;
  const int64_t states_;
  T* const rows_[2];
  double* const sums_;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
