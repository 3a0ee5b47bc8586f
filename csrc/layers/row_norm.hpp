// One row of layer normalisation (Ba et al. 2016): its statistics, the row normalised, and what gradients go through
// it. All in double, sums by `reduce`, each result rounded once.
#pragma once

#include "simd/wide.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

struct Moments {
  double mean, rstd;  // rstd = 1 / sqrt(variance + eps)
};

// Of x (width,). Two passes: no difference of large sums.
template <class T>
FR_INLINE Moments moments(const T* x, int64_t width, double eps) {
  const double n = static_cast<double>(width);
  const double mean = reduce(width, [&](int64_t i, int64_t left) { return Wide::load(x + i, left); }) / n;
  const Wide centre = Wide::set(mean);
  const double squares = reduce(width, [&](int64_t i, int64_t left) {
    const Wide d = Wide::load(x + i, left) - centre;
    return d * d;
  });
  return {mean, 1 / __builtin_sqrt(squares / n + eps)};
}

// (x - mean) rstd, sixteen at a time.
template <class T>
class NormalRow {
 public:
  FR_INLINE NormalRow(const T* x, const Moments& m) : x_(x), mean_(Wide::set(m.mean)), rstd_(Wide::set(m.rstd)) {}

  FR_INLINE Wide at(int64_t i, int64_t left) const { return (Wide::load(x_ + i, left) - mean_) * rstd_; }

  // The means over the row of g and of g n, n = at(i, left): what the gradient of x, rstd (g - mean(g) - n mean(g n)),
  // is made of where g = slope(i, left) is that of n.
  struct Means {
    double along, across;
  };
  template <class Slope>
  FR_INLINE Means means(int64_t width, const Slope& slope) const {
    double along, across;
    reduce_two(
        width,
        [&](int64_t i, int64_t left, Wide& g, Wide& by_normal) {
          g = slope(i, left);
          by_normal = g * at(i, left);
        },
        along, across);
    return {along / static_cast<double>(width), across / static_cast<double>(width)};
  }

 private:
  const T* const x_;
  const Wide mean_, rstd_;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
