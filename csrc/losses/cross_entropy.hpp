// Softmax cross-entropy of rows of logits p with a class or with probabilities t. With m = max p, e = exp(p - m) and
// s = sum e:
//
//   class t          log(s) + m - p_t                        derivative e_k / s - [k = t]
//   probabilities    sum(t) log(s) - sum t_k (p_k - m)       derivative sum(t) e_k / s - t_k
//
// Label smoothing and weights of classes make a class or probabilities into shares, (1 - smoothing) t_k + smoothing / K
// times the weight of k, which take the place of probabilities. A weighted class is its weight times the first line.
//
// A class without probability adds nothing to the second sum, even where its logit is minus infinity.
#pragma once

#include "losses/entries.hpp"
#include "simd/math.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// With the bits of the lanes' logarithm, the same everywhere; a libm's vary with its version.
inline double logarithm(double x) {
  double lanes[Lanes<double>::N];
  Lanes<double>::store(lanes, Math<double>::log(Lanes<double>::set(x)));
  return lanes[0];
}

template <class T>
T highest(const T* p, int64_t n) {
  using L = Lanes<T>;
  T lanes[L::N];
  typename L::V most = L::set(p[0]);
  int64_t i = 0;
  for (; i + L::N <= n; i += L::N) most = L::max(most, L::load(p + i));
  L::store(lanes, most);
  T result = lanes[0];
  for (int j = 1; j < L::N; ++j) result = lanes[j] > result ? lanes[j] : result;
  for (; i < n; ++i) result = p[i] > result ? p[i] : result;
  return result;
}

// to[k] = value(k, n), lanes of n <= N elements from k on, for k in [0, count).
template <class T, class Value>
FR_INLINE void fill(T* to, int64_t count, const Value& value) {
  using L = Lanes<T>;
  int64_t k = 0;
  for (; k + L::N <= count; k += L::N) L::store(to + k, value(k, L::N));
  if (k < count) L::store(to + k, value(k, static_cast<int>(count - k)), static_cast<int>(count - k));
}

// Leaves exp(p - max p) in e, returns its sum and the maximum.
template <class T>
FR_INLINE double exponentials(const T* p, int64_t n, T* e, T& most) {
  using L = Lanes<T>;
  most = highest(p, n);
  const typename L::V shift = L::set(most);
  fill(e, n, [&](int64_t k, int left) { return Math<T>::exp(L::load(p + k, left) - shift); });
  return reduce(n, [&](int64_t k, int64_t left) { return Wide::load(e + k, left); });
}

template <class T>
double class_row(const T* p, int64_t target, int64_t classes, double scale, T* dp) {
  using L = Lanes<T>;
  T most;
  const double logit = static_cast<double>(p[target]);  // dp may be p
  const double sum = exponentials(p, classes, dp, most);
  const double others = static_cast<double>(dp[target]) - sum;  // rounds once where the prediction is right
  const typename L::V factor = L::set(static_cast<T>(scale / sum));
  fill(dp, classes, [&](int64_t k, int left) { return L::load(dp + k, left) * factor; });
  dp[target] = static_cast<T>(others / sum * scale);
  return logarithm(sum) + (static_cast<double>(most) - logit);
}

template <class T>
double probabilities_row(const T* p, const T* target, int64_t classes, double scale, T* dp) {
  using L = Lanes<T>;
  T most;
  const double sum = exponentials(p, classes, dp, most);
  const double weight = reduce(classes, [&](int64_t k, int64_t left) { return Wide::load(target + k, left); });
  const Wide shift = Wide::set(static_cast<double>(most));
  const double cross = reduce(classes, [&](int64_t k, int64_t left) {
    return Wide::weighted(Wide::load(target + k, left), Wide::load(p + k, left) - shift);
  });
  const typename L::V factor = L::set(static_cast<T>(weight / sum * scale)), to = L::set(static_cast<T>(scale));
  fill(dp, classes,
       [&](int64_t k, int left) { return L::load(dp + k, left) * factor - L::load(target + k, left) * to; });
  return weight * logarithm(sum) - cross;
}

// share(k, left): what stands for the probabilities of classes [k, k + left). Class `target`, unless it is -1, has
// `more` besides.
template <class T, class Share>
double shares_row(const T* p, const Share& share, int64_t target, double more, int64_t classes, double scale, T* dp) {
  T most;
  const double sum = exponentials(p, classes, dp, most);
  const Wide shift = Wide::set(static_cast<double>(most));
  double weight = reduce(classes, share), cross = reduce(classes, [&](int64_t k, int64_t left) {
                                            return Wide::weighted(share(k, left), Wide::load(p + k, left) - shift);
                                          });
  if (target >= 0 && more != 0) {
    weight += more;
    cross += more * (static_cast<double>(p[target]) - static_cast<double>(most));
  }
  const Wide factor = Wide::set(weight / sum * scale), to = Wide::set(scale);
  const T own = target >= 0 ? dp[target] : T(0);
  for (int64_t k = 0; k < classes; k += Wide::N)
    Wide::store(dp + k, Wide::load(dp + k, classes - k) * factor - share(k, classes - k) * to, classes - k);
  if (target >= 0) {
    double lanes[Wide::N];
    Wide::store(lanes, share(target, 1));
    dp[target] = static_cast<T>(static_cast<double>(own) * (weight / sum * scale) - (lanes[0] + more) * scale);
  }
  return weight * logarithm(sum) - cross;
}

template <class T>
double class_entry(const LossArgs& a, const T* p, int64_t target, double scale, T* dp) {
  const double weight = a.weight ? a.weight[target] : 1, smoothing = a.spec.label_smoothing;
  if (smoothing == 0) {
    const double loss = class_row(p, target, a.classes, scale * weight, dp);
    return weight == 0 ? 0 : weight * loss;
  }
  const Wide each = Wide::set(smoothing / static_cast<double>(a.classes));
  const auto share = [&](int64_t k, int64_t left) { return a.weight ? each * Wide::load(a.weight + k, left) : each; };
  return shares_row(p, share, target, (1 - smoothing) * weight, a.classes, scale, dp);
}

template <class T>
double probabilities_entry(const LossArgs& a, const T* p, const T* target, double scale, T* dp) {
  const double smoothing = a.spec.label_smoothing;
  if (smoothing == 0 && !a.weight) return probabilities_row(p, target, a.classes, scale, dp);
  const Wide keep = Wide::set(1 - smoothing), each = Wide::set(smoothing / static_cast<double>(a.classes));
  const auto share = [&](int64_t k, int64_t left) {
    const Wide smooth = Wide::load(target + k, left) * keep + each;
    return a.weight ? smooth * Wide::load(a.weight + k, left) : smooth;
  };
  return shares_row(p, share, -1, 0, a.classes, scale, dp);
}

template <class T>
void run_cross_entropy(const LossArgs& a, Team* team) {
  const int64_t work = 8 * a.rows * a.classes;
  if (a.spec.kind == LossKind::cross_entropy_classes) {
    run_chunks<int64_t>(a, a.rows, kLossRows, 1, work, team, [&](int64_t first, int64_t n, double scale) {
      int64_t buffer[kLossRows];
      const int64_t* target = elements_of(a.target, first, n, buffer);
      return loss_rows<T, int64_t>(
          a, first, n, [&](int64_t i, const T* p, T* dp) { return class_entry(a, p, target[i], scale, dp); });
    });
  } else {
    run_chunks<char>(a, a.rows, kLossRows, 1, work, team, [&](int64_t first, int64_t n, double scale) {
      return loss_rows<T, char>(a, first, n, [&](int64_t i, const T* p, T* dp) {
        return probabilities_entry(a, p, row_of<T>(a.target, first + i), scale, dp);
      });
    });
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
