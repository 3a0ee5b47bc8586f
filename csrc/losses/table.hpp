// The losses' entry of the backend table.
#pragma once

#include "backend/status.hpp"
#include "losses/binary_cross_entropy.hpp"
#include "losses/cross_entropy.hpp"
#include "losses/elementwise.hpp"
#include "losses/huber.hpp"
#include "losses/l1.hpp"
#include "losses/mse.hpp"
#include "losses/nll.hpp"
#include "losses/smooth_l1.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

#define FUSEDRNN_ELEMENT(kind, Loss, header, weights, threshold)                 \
  static_assert(Loss<float>::weighted == (option_named(#weights) != nullptr) &&  \
                    Loss<float>::bends == (option_named(#threshold) != nullptr), \
                #Loss " takes the options that losses/list.hpp says, no more and no less");
#define FUSEDRNN_ROW(...)
FUSEDRNN_LOSSES(FUSEDRNN_ELEMENT, FUSEDRNN_ROW)
#undef FUSEDRNN_ROW
#undef FUSEDRNN_ELEMENT

inline Status loss(const LossArgs* a, Stream stream) {
  Team* team = static_cast<Team*>(stream);
  Status known = Status::ok;
  const Status status = with_type(a->dtype, [&](auto type) {
    using T = decltype(type);
    switch (a->spec.kind) {
#define FUSEDRNN_ELEMENT(kind, Loss, header, ...) \
  case LossKind::kind:                            \
    return run_elementwise<T, Loss>(*a, team);
#define FUSEDRNN_ROW(kind, function, target, ...) \
  case LossKind::kind:                            \
    return run_##function<T>(*a, team);
      FUSEDRNN_LOSSES(FUSEDRNN_ELEMENT, FUSEDRNN_ROW)
#undef FUSEDRNN_ROW
#undef FUSEDRNN_ELEMENT
    }
    known = fail(Status::invalid_argument, "a loss of a kind that is not in losses/list.hpp");
  });
  return status == Status::ok ? known : status;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
