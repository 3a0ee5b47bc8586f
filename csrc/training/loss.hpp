// How much scratch a loss needs.
#pragma once

#include "backend/backend.hpp"

namespace fusedrnn::training {

// Doubles that LossArgs::partials must have room for.
inline int64_t loss_chunks(const LossArgs& a) {
  const bool by_rows = a.kind == LossKind::cross_entropy_classes || a.kind == LossKind::cross_entropy_probabilities;
  return by_rows ? a.rows : a.rows * a.classes / kReduceChunk + 1;
}

}  // namespace fusedrnn::training
