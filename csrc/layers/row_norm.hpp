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

  // visit(i, left, rstd (g - mean(g) - n mean(g n)), n) for n = at(i, left): the gradient of x where g = slope(i, left)
  // is that of n.
  template <class Slope, class Visit>
  FR_INLINE void backward(int64_t width, const Slope& slope, const Visit& visit) const {
    const double n = static_cast<double>(width);
    const Wide along = Wide::set(reduce(width, slope) / n);
    const Wide across =
        Wide::set(reduce(width, [&](int64_t i, int64_t left) { return slope(i, left) * at(i, left); }) / n);
    for (int64_t i = 0; i < width; i += Wide::N) {
      const int64_t left = width - i;
      const Wide normal = at(i, left);
      visit(i, left, rstd_ * (slope(i, left) - along - normal * across), normal);
    }
  }

 private:
  const T* const x_;
  const Wide mean_, rstd_;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
