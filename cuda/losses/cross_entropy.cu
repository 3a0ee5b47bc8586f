// Softmax cross-entropy of rows of logits (csrc/losses/cross_entropy.hpp has the equations). A row belongs to a warp,
// or to a block where it is long: what its threads leave in dpred on the way, each reads again itself.
#include "dtype.hpp"
#include "losses/loss.cuh"
#include "sum.cuh"

namespace fusedrnn::cuda {
namespace {

constexpr int kThreads = 256, kRows = kThreads / hw::kWarp;
constexpr int64_t kLong = 1024;  // classes from which on a row has a block

struct CrossEntropyTask {
  LossTask loss;
  int32_t whole_block;
};

// The threads of one row.
struct Team {
  bool whole_block;
  int64_t row;
  int first, step;  // a thread has the classes first, first + step ..

  FR_DEVICE explicit Team(bool whole_block)
      : whole_block(whole_block),
        row(whole_block ? hw::block_x() : hw::block_x() * kRows + hw::warp()),
        first(whole_block ? hw::thread() : hw::lane()),
        step(whole_block ? kThreads : hw::kWarp) {}

  template <class T>
  FR_DEVICE T sum(T value) const {
    return whole_block ? block_sum<kThreads>(value) : warp_sum(value);
  }
  template <class T>
  FR_DEVICE T max(T value) const {
    return whole_block ? block_max<kThreads>(value) : warp_max(value);
  }
};

// Leaves exp(p - max p) in e; `most` is the maximum. Returns the sum.
template <class T>
FR_DEVICE double exponentials(const Team& team, const T* p, int64_t classes, T* e, T& most) {
  most = p[team.first < classes ? team.first : 0];
  for (int64_t k = team.first; k < classes; k += team.step) most = p[k] > most ? p[k] : most;
  most = team.max(most);
  double sum = 0;
  for (int64_t k = team.first; k < classes; k += team.step) {
    e[k] = Math<T>::exp(p[k] - most);
    sum = sum + static_cast<double>(e[k]);
  }
  return team.sum(sum);
}

template <class T>
FR_DEVICE double class_row(const Team& team, const T* p, int64_t target, int64_t classes, double scale, T* dp) {
  T most;
  const double sum = exponentials(team, p, classes, dp, most);
  const T factor = static_cast<T>(scale / sum);
  for (int64_t k = team.first; k < classes; k += team.step) {
    const double others = static_cast<double>(dp[k]) - sum;  // of the target: rounds once where the prediction is right
    dp[k] = k == target ? static_cast<T>(others / sum * scale) : dp[k] * factor;
  }
  return Math<double>::log(sum) + (static_cast<double>(most) - static_cast<double>(p[target]));
}

template <class T>
FR_DEVICE double probabilities_row(const Team& team, const T* p, const T* target, int64_t classes, double scale,
                                   T* dp) {
  T most;
  const double sum = exponentials(team, p, classes, dp, most);
  double weight = 0, cross = 0;
  for (int64_t k = team.first; k < classes; k += team.step) {
    const double t = static_cast<double>(target[k]);
    weight = weight + t;
    cross = cross + t * (static_cast<double>(p[k]) - static_cast<double>(most));
  }
  weight = team.sum(weight);
  cross = team.sum(cross);
  const T factor = static_cast<T>(weight / sum * scale), to = static_cast<T>(scale);
  for (int64_t k = team.first; k < classes; k += team.step) dp[k] = dp[k] * factor - target[k] * to;
  return weight * Math<double>::log(sum) - cross;
}

// share(k): what stands for the probability of class k.
template <class T, class Share>
FR_DEVICE double shares_row(const Team& team, const T* p, const Share& share, int64_t classes, double scale, T* dp) {
  T most;
  const double sum = exponentials(team, p, classes, dp, most);
  double weight = 0, cross = 0;
  for (int64_t k = team.first; k < classes; k += team.step) {
    const double s = share(k);
    weight = weight + s;
    cross = cross + s * (static_cast<double>(p[k]) - static_cast<double>(most));
  }
  weight = team.sum(weight);
  cross = team.sum(cross);
  for (int64_t k = team.first; k < classes; k += team.step)
    dp[k] = static_cast<T>(static_cast<double>(dp[k]) * (weight / sum * scale) - share(k) * scale);
  return weight * Math<double>::log(sum) - cross;
}

template <class T>
FR_DEVICE double class_entry(const LossArgs& a, const Team& team, const T* p, int64_t target, double scale, T* dp) {
  const double weight = a.weight ? a.weight[target] : 1, smoothing = a.spec.label_smoothing;
  if (smoothing == 0) {
    const double loss = class_row(team, p, target, a.classes, scale * weight, dp);
    return weight == 0 ? 0 : weight * loss;
  }
  const double each = smoothing / static_cast<double>(a.classes);
  const auto share = [&](int64_t k) {
    return (a.weight ? each * a.weight[k] : each) + (k == target ? (1 - smoothing) * weight : 0);
  };
  return shares_row(team, p, share, a.classes, scale, dp);
}

template <class T>
FR_DEVICE double probabilities_entry(const LossArgs& a, const Team& team, const T* p, const T* target, double scale,
                                     T* dp) {
  const double smoothing = a.spec.label_smoothing, each = smoothing / static_cast<double>(a.classes);
  if (smoothing == 0 && !a.weight) return probabilities_row(team, p, target, a.classes, scale, dp);
  const auto share = [&](int64_t k) {
    const double smooth = static_cast<double>(target[k]) * (1 - smoothing) + each;
    return a.weight ? smooth * a.weight[k] : smooth;
  };
  return shares_row(team, p, share, a.classes, scale, dp);
}

template <class T, bool Probabilities>
FR_KERNEL void cross_entropy_kernel(const FR_CONSTANT CrossEntropyTask task) {
  const LossArgs& a = task.loss.args;
  const Team team(task.whole_block != 0);
  if (team.row >= a.rows) return;
  const T* const p = row_of<T>(a.pred, team.row);
  T* const dp = static_cast<T*>(a.dpred) + team.row * a.classes;
  const double scale = 1 / divisor_of(task.loss);
  double loss = 0;
  if (!counts<std::conditional_t<Probabilities, char, int64_t>>(task.loss, team.row)) {
    for (int64_t k = team.first; k < a.classes; k += team.step) dp[k] = 0;
  } else if constexpr (Probabilities) {
    loss = probabilities_entry(a, team, p, row_of<T>(a.target, team.row), scale, dp);
  } else {
    const int64_t target = element_of<int64_t>(a.target, team.row);
    if (target >= 0 && target < a.classes) {
      loss = class_entry(a, team, p, target, scale, dp);
    } else {
      for (int64_t k = team.first; k < a.classes; k += team.step) dp[k] = nan_of<T>();
      loss = nan_of<double>();
    }
  }
  if (team.first > 0) return;
  if (a.spec.reduction == Reduction::none)
    static_cast<T*>(a.loss)[team.row] = static_cast<T>(loss);
  else
    a.partials[team.row] = loss;
}

}  // namespace

Status launch_cross_entropy(const LossTask& loss, Stream stream) {
  const LossArgs& a = loss.args;
  const CrossEntropyTask task{loss, a.classes >= kLong};
  return with_dtype(a.dtype, "cross_entropy", [&](auto zero) {
    using T = decltype(zero);
    const hw::Grid grid{
        {task.whole_block ? a.rows : (a.rows + kRows - 1) / kRows}, kThreads, kBlockBytes<double, kThreads>};
    return a.spec.kind == LossKind::cross_entropy_probabilities
               ? hw::launch<cross_entropy_kernel<T, true>>(grid, stream, task)
               : hw::launch<cross_entropy_kernel<T, false>>(grid, stream, task);
  });
}

}  // namespace fusedrnn::cuda
