// How much scratch a loss needs.
#pragma once

#include "backend.hpp"

namespace fusedrnn::step {

// Doubles that LossArgs::partials must have room for.
inline int64_t loss_chunks(const LossArgs& a) {
  const bool by_rows = a.kind == LossKind::cross_entropy_classes || a.kind == LossKind::cross_entropy_probabilities;
  const int64_t count = by_rows ? a.rows : a.rows * a.classes, chunk = by_rows ? kLossRows : kReduceChunk;
  return count / chunk + (count % chunk != 0);
}

}  // namespace fusedrnn::step
