// What all losses share: which entries count, and what the gradient of a mean is divided by.
#pragma once

#include <type_traits>

#include "products/elements.cuh"

namespace fusedrnn::cuda {

struct LossTask {
  LossArgs args;
  int64_t entries, wide;  // `wide` entries in a row share one mask value
  double divisor;         // of a mean the number of entries, else 1
  const double* found;    // instead, where the device had to find out how many of them count, or their weights
};

FR_DEVICE double divisor_of(const LossTask& task) {
  if (!task.found) return task.divisor;
  const double found = *task.found;
  return found == 0 ? 1 : found;
}

// Target is an entry's target as it is compared with ignore_index; char: never.
template <class Target>
FR_DEVICE bool counts(const LossTask& task, int64_t entry) {
  const LossArgs& a = task.args;
  if (a.mask.data && element_of<uint8_t>(a.mask, task.wide == 1 ? entry : entry / task.wide) == 0) return false;
  if constexpr (sizeof(Target) > 1) {
    if (a.spec.has_ignore_index) return element_of<Target>(a.target, entry) != static_cast<Target>(a.spec.ignore_index);
  }
  return true;
}

// What an entry adds to the divisor of a mean: 1 if it counts, or the weight of its class.
template <class Target>
FR_DEVICE double counted(const LossTask& task, int64_t entry) {
  const LossArgs& a = task.args;
  if (!counts<Target>(task, entry)) return 0;
  if constexpr (std::is_same_v<Target, int64_t>) {
    const int64_t target = element_of<int64_t>(a.target, entry);
    if (a.weight) return target >= 0 && target < a.classes ? a.weight[target] : 0;
  }
  return 1;
}

// Every loss: gradients, and entries' losses or, in `partials`, one sum per kReduceChunk entries of an elementwise loss
// and per row of a cross-entropy.
//
// Of an elementwise loss: defined in elementwise.cuh; instance.cu.in makes one for each.
template <template <class> class Loss>
Status launch_elementwise(const char* name, const LossTask& task, Stream stream);

#define FUSEDRNN_ELEMENT(kind, Loss, header) \
  template <class T>                         \
  struct Loss;
#define FUSEDRNN_ROW(kind, function, target) Status launch_##function(const LossTask& task, Stream stream);
FUSEDRNN_LOSSES(FUSEDRNN_ELEMENT, FUSEDRNN_ROW)
#undef FUSEDRNN_ROW
#undef FUSEDRNN_ELEMENT

}  // namespace fusedrnn::cuda
