// Losses whose entries are elements. Loss is a policy: `entry(p, t, slope)` returns the loss of lanes of entries and
// sets its derivative by p up to the constant `factor`. One that is `weighted` has `entry(p, t, w, slope)` as well.
#pragma once

#include "losses/entries.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Losses and gradients of the entries [first, first + n), n <= kLossBlock.
template <class T, template <class> class Loss>
void elementwise_block(const LossArgs& a, int64_t first, int64_t n, T scale, T* loss) {
  using L = Lanes<T>;
  T pred_buffer[kLossBlock], target_buffer[kLossBlock];
  const T* pred = elements_of(a.pred, first, n, pred_buffer);
  const T* target = elements_of(a.target, first, n, target_buffer);
  T* dpred = static_cast<T*>(a.dpred) + first;
  T weight[kLossBlock];
  if (Loss<T>::weighted && a.weight)
    for (int64_t i = 0; i < n; ++i) weight[i] = static_cast<T>(a.weight[(first + i) % a.weights]);
  const typename L::V factor = L::set(scale);
  typename L::V slope;
  const auto entry = [&](const auto& load) {
    if constexpr (Loss<T>::weighted)
      if (a.weight) return Loss<T>::entry(load(pred), load(target), load(weight), slope);
    return Loss<T>::entry(load(pred), load(target), slope);
  };
  int64_t i = 0;
  for (; i + L::N <= n; i += L::N) {
    L::store(loss + i, entry([&](const T* from) { return L::load(from + i); }));
    L::store(dpred + i, slope * factor);
  }
  if (i < n) {
    const int left = static_cast<int>(n - i);
    L::store(loss + i, entry([&](const T* from) { return L::load(from + i, left); }), left);
    L::store(dpred + i, slope * factor, left);
  }
  if (a.mask.data || a.spec.has_ignore_index) {
    uint8_t counts[kLossBlock];
    find_counting<T>(a, a.classes, first, n, counts);
    for (i = 0; i < n; ++i) {
      loss[i] = counts[i] ? loss[i] : T(0);
      dpred[i] = counts[i] ? dpred[i] : T(0);
    }
  }
}

template <class T, template <class> class Loss>
void run_elementwise(const LossArgs& a, Team* team) {
  const int64_t count = a.rows * a.classes;
  run_chunks<T>(a, count, kReduceChunk, a.classes, 4 * count, team, [&](int64_t first, int64_t n, double scale) {
    T buffer[kLossBlock];
    Wide sum = Wide::zero();
    for (int64_t at = 0; at < n; at += kLossBlock) {
      const int64_t block = n - at < kLossBlock ? n - at : kLossBlock;
      T* loss = a.spec.reduction == Reduction::none ? static_cast<T*>(a.loss) + first + at : buffer;
      elementwise_block<T, Loss>(a, first + at, block, static_cast<T>(Loss<T>::factor * scale), loss);
      for (int64_t i = 0; i < block; i += Wide::N) sum = sum + Wide::load(loss + i, block - i);
    }
    return Wide::sum(sum);
  });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
