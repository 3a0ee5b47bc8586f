// Optimizers: update rules over tables of segments, the global norm, clipping.
#pragma once

#include "backend/fault.hpp"
#include "optim/list.hpp"

namespace fusedrnn {

#define FUSEDRNN_KIND(kind, Type, header) kind,
enum class OptimizerKind : int32_t { FUSEDRNN_RULES(FUSEDRNN_KIND) };
#undef FUSEDRNN_KIND

constexpr int32_t kMaxStates = 4, kMaxScalars = 8;  // of a rule

// Where in OptimizerArgs::scalar a rule's scalars are, by name: a.scalar[sgd_scalars::momentum].
#define FUSEDRNN_INDEX(name, otherwise, range) name,
#define FUSEDRNN_NOTHING(...)
#define FUSEDRNN_SCALARS(kind, Type, header)                                                          \
  struct kind##_scalars {                                                                             \
    enum : int32_t { always = -1, FUSEDRNN_RULE_##kind(FUSEDRNN_INDEX, FUSEDRNN_NOTHING) count };     \
    static_assert(lr == 0 && count <= kMaxScalars, "lr is the first scalar, of at most kMaxScalars"); \
  };
FUSEDRNN_RULES(FUSEDRNN_SCALARS)
#undef FUSEDRNN_SCALARS
#undef FUSEDRNN_NOTHING
#undef FUSEDRNN_INDEX
constexpr int32_t kLearningRate = 0;  // every rule's first scalar

// A contiguous piece of parameters with its gradient and state, all of one dtype.
struct Segment {
  void* param;
  void* grad;
  void* state[kMaxStates];  // in the order of optim/list.hpp; nullptr where the rule keeps none
  int64_t count;
};

struct OptimizerArgs {
  OptimizerKind kind;
  DType dtype;
  int64_t segments;
  const Segment* segment;
  double scalar[kMaxScalars];
  int64_t step;               // of this update, from 1
  const double* clip_factor;  // one float64 in backend memory that scales every gradient, or nullptr
};

// Gradients of one dtype; of a segment, grad and count are read.
struct GradientGroup {
  DType dtype;
  int64_t segments;
  const Segment* segment;
};

// The global norm: the square root of the sum of the squares of all gradients, which are added in the order that
// optim/norm_order.hpp says.
struct NormArgs {
  int64_t groups;
  const GradientGroup* group;
  double max_norm;      // factor = min(1, max_norm / (norm + 1e-6)); NaN norm gives NaN
  double* norm;         // backend memory
  double* clip_factor;  // backend memory, or nullptr
  double* partials;     // as many as norm_partials (scratch.hpp) says
};

// An optimizer's whole step: the norm of the gradients of all groups, and their updates with gradients scaled as
// NormArgs says. What is decided is decided where the gradients are: the host does not wait, nothing comes back.
struct UpdateGroup {
  OptimizerArgs update;  // its clip_factor is not read
  // Both or neither may be nullptr. In backend memory, so that steps can be repeated without anew telling what changes
  // from one to the next: the learning rate, instead of update's; and, instead of update.step, a pair of numbers, of
  // which the second is how many updates there have been. A skipped one does not count. (Two, because on a GPU some
  // blocks begin when others have ended: the first is the one they read.)
  const double* lr;
  int64_t* steps;
};

struct ClippedUpdateArgs {
  int64_t groups;  // at least one
  const UpdateGroup* group;
  double max_norm;         // infinity scales nothing
  int32_t skip_nonfinite;  // where the norm is infinite or NaN, leave all parameters and states as they are
  double* norm;            // backend memory; nullptr: gradients are not measured, and neither scaled nor looked at
  double* partials;        // as NormArgs'
  const Fault* fault = nullptr;  // of a device only: where it tells of one, nothing is updated and the norm is NaN
};

struct OptimOps {
  Status (*optimizer)(const OptimizerArgs*, Stream);
  Status (*norm)(const NormArgs*, Stream);
  Status (*clipped_update)(const ClippedUpdateArgs*, Stream);
  Status (*scale)(DType, int64_t segments, const Segment*, const double* factor, Stream);  // grad *= factor
  Status (*clip_value)(DType, int64_t segments, const Segment*, double limit, Stream);     // grad to [-limit, limit]
};

}  // namespace fusedrnn
