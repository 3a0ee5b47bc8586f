// Long short-term memory with a projection (Sak et al. 2014): h = W_hr (o tanh(c)) has fewer units than c.
#pragma once

#include "cells/lstm.hpp"

namespace fusedrnn {

template <class M>
struct ProjectedLstm : Lstm<M> {
  static constexpr int between_blocks = 1;  // o tanh(c)
  static constexpr WeightSpecs weights = with_projection(Lstm<M>::weights, "weight_hr");
};

}  // namespace fusedrnn
