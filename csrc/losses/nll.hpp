// Negative log-likelihood of rows of log-probabilities p with a class t: -w p_t, w its weight; derivative -w [k = t].
#pragma once

#include "losses/entries.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
void run_nll(const LossArgs& a, Team* team) {
  run_chunks<int64_t>(a, a.rows, kLossRows, 1, a.rows * a.classes, team, [&](int64_t first, int64_t n, double scale) {
    int64_t buffer[kLossRows];
    const int64_t* target = elements_of(a.target, first, n, buffer);
    return loss_rows<T, int64_t>(a, first, n, [&](int64_t i, const T* p, T* dp) {
      const double weight = a.weight ? a.weight[target[i]] : 1;
      for (int64_t k = 0; k < a.classes; ++k) dp[k] = 0;
      dp[target[i]] = static_cast<T>(-weight * scale);
      return weight == 0 ? 0 : -weight * static_cast<double>(p[target[i]]);
    });
  });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
