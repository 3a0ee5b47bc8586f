// The losses' entry of the backend table.
#pragma once

#include "losses/binary_cross_entropy.hpp"
#include "losses/cross_entropy.hpp"
#include "losses/elementwise.hpp"
#include "losses/mse.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

inline Status loss(const LossArgs* a, Stream stream) {
  Team* team = static_cast<Team*>(stream);
  return with_type(a->dtype, [&](auto type) {
    using T = decltype(type);
    if (a->kind == LossKind::mse)
      run_elementwise<T, Mse>(*a, team);
    else if (a->kind == LossKind::binary_cross_entropy)
      run_elementwise<T, BinaryCrossEntropy>(*a, team);
    else
      run_cross_entropy<T>(*a, team);
  });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
