// Layer normalisation (Ba et al. 2016) of rows. With n = (x - mean) rstd and g = dy weight:
//
//   y  = n weight + bias
//   dx = rstd (g - mean(g) - n mean(g n))          dweight += sum over rows of dy n,   dbias += sum over rows of dy
//
// All in double, each result rounded once. The sums over rows are one chain a column, rows in order, threads split
// columns; the sums over columns are `reduce`, threads split rows.
#pragma once

#include "gemm/parallel.hpp"
#include "layers/row_norm.hpp"
#include "simd/strided.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
void run_layer_norm_forward(const LayerNormArgs& a, Team* team) {
  const T* weight = static_cast<const T*>(a.weight);
  const T* bias = static_cast<const T*>(a.bias);
  const int32_t threads = useful_threads(team, 4 * a.rows * a.width, a.rows);
  parallel(team, threads, [&](int32_t t) {
    for (int64_t r = share(a.rows, threads, t); r < share(a.rows, threads, t + 1); ++r) {
      const T* x = row_of<T>(a.x, r);
      T* y = static_cast<T*>(a.y) + r * a.width;
      const Moments m = moments(x, a.width, a.eps);
      a.mean[r] = m.mean;
      static_cast<T*>(a.rstd)[r] = static_cast<T>(m.rstd);
      const NormalRow<T> normal(x, m);
      for (int64_t i = 0; i < a.width; i += Wide::N) {
        const int64_t left = a.width - i;
        Wide value = normal.at(i, left);
        if (weight) value = value * Wide::load(weight + i, left);
        if (bias) value = value + Wide::load(bias + i, left);
        Wide::store(y + i, value, left);
      }
    }
  });
}

template <class T>
void layer_norm_dx(const LayerNormArgs& a, int64_t r) {
  const T* dy = row_of<T>(a.dy, r);
  const T* weight = static_cast<const T*>(a.weight);
  T* dx = static_cast<T*>(a.dx) + r * a.width;
  const NormalRow<T> normal(row_of<T>(a.x, r), {a.mean[r], static_cast<const T*>(a.rstd)[r]});
  const auto slope = [&](int64_t i, int64_t left) {
    const Wide g = Wide::load(dy + i, left);
    return weight ? g * Wide::load(weight + i, left) : g;
  };
  const auto means = normal.means(a.width, slope);
  const Wide rstd = Wide::set(static_cast<const T*>(a.rstd)[r]);
  const Wide along = Wide::set(means.along), across = Wide::set(means.across);
  for (int64_t i = 0; i < a.width; i += Wide::N) {
    const int64_t left = a.width - i;
    Wide::store(dx + i, rstd * (slope(i, left) - along - normal.at(i, left) * across), left);
  }
}

template <class T>
void layer_norm_dweight(const LayerNormArgs& a, int64_t column, int64_t left) {
  Wide dweight = Wide::zero(), dbias = Wide::zero();
  for (int64_t r = 0; r < a.rows; ++r) {
    const Wide mean = Wide::set(a.mean[r]), rstd = Wide::set(static_cast<const T*>(a.rstd)[r]);
    const Wide g = Wide::load(row_of<T>(a.dy, r) + column, left);
    dweight = dweight + g * ((Wide::load(row_of<T>(a.x, r) + column, left) - mean) * rstd);
    dbias = dbias + g;
  }
  T* weight_at = static_cast<T*>(a.dweight) + column;
  T* bias_at = static_cast<T*>(a.dbias) + column;
  if (a.dweight) Wide::store(weight_at, Wide::load(weight_at, left) + dweight, left);
  if (a.dbias) Wide::store(bias_at, Wide::load(bias_at, left) + dbias, left);
}

template <class T>
void run_layer_norm_backward(const LayerNormArgs& a, Team* team) {
  const int32_t threads = useful_threads(team, 4 * a.rows * a.width, a.rows);
  const int64_t blocks = a.dweight || a.dbias ? (a.width + Wide::N - 1) / Wide::N : 0;
  parallel(team, threads, [&](int32_t t) {
    for (int64_t r = share(a.rows, threads, t); r < share(a.rows, threads, t + 1); ++r) layer_norm_dx<T>(a, r);
    for (int64_t b = share(blocks, threads, t); b < share(blocks, threads, t + 1); ++b)
      layer_norm_dweight<T>(a, b * Wide::N, a.width - b * Wide::N);
  });
}

inline Status layer_norm_forward(const LayerNormArgs* a, Stream stream) {
  return with_type(a->dtype,
                   [&](auto type) { run_layer_norm_forward<decltype(type)>(*a, static_cast<Team*>(stream)); });
}

inline Status layer_norm_backward(const LayerNormArgs* a, Stream stream) {
  return with_type(a->dtype,
                   [&](auto type) { run_layer_norm_backward<decltype(type)>(*a, static_cast<Team*>(stream)); });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
