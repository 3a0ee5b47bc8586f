// Rows on their way into and out of the order of steps, and the ends of a walk: one warp per row.
#include "recurrent/rows.hpp"
#include "warp_rows.cuh"

namespace fusedrnn::cuda {
namespace {

template <class C>
FR_DEVICE C dropped(const Dropout& d, C value, int64_t element) {
  return philox_word(d, static_cast<uint64_t>(element)) >= d.threshold ? value * static_cast<C>(d.scale) : C(0);
}

template <class From, class E>
FR_KERNEL void reorder_kernel(const FR_CONSTANT RowMove m) {
  using C = Accumulator<E>;
  const int64_t row = warp_row();
  if (row >= m.steps * m.B) return;
  const int64_t b = row % m.B, s = m.s0 + row / m.B, length = m.walk.length(b);
  const int64_t t = Walk::time(s, length, m.reverse != 0);
  const From* const from = row_of<const From>(m.array, t, b);
  E* const to = static_cast<E*>(m.rows) + row * m.pitch;
  const Dropout dropout = m.dropout.read();
  for (int64_t k = hw::lane(); k < m.width; k += hw::kWarp) {
    C value = s < length ? C(widen(from[k])) : C(0);
    if (m.drops) value = dropped(dropout, value, (t * m.B + b) * m.width + k);
    to[k] = narrow<E>(value);
  }
}

template <class C>
FR_KERNEL void restore_order_kernel(const FR_CONSTANT RowMove m) {
  const int64_t row = warp_row();
  if (row >= m.steps * m.B) return;
  const int64_t b = row % m.B, s = m.s0 + row / m.B, length = m.walk.length(b);
  const int64_t t = Walk::time(s, length, m.reverse != 0);
  const C* const from = static_cast<const C*>(m.rows) + row * m.pitch;
  C* const to = row_of<C>(m.array, t, b);
  const Dropout dropout = m.dropout.read();
  for (int64_t k = hw::lane(); k < m.width; k += hw::kWarp) {
    C value = s < length ? from[k] : C(0);
    if (m.drops) value = dropped(dropout, value, (t * m.B + b) * m.width + k);
    to[k] = m.add ? to[k] + value : value;
  }
}

struct ClearTask {
  Array3 array;
  int64_t T, B, width;
};

template <class C>
FR_KERNEL void clear_kernel(const FR_CONSTANT ClearTask a) {
  const int64_t row = warp_row();
  if (row >= a.T * a.B) return;
  C* const to = row_of<C>(a.array, row / a.B, row % a.B);
  for (int64_t k = hw::lane(); k < a.width; k += hw::kWarp) to[k] = 0;
}

template <class E>
FR_KERNEL void first_state_kernel(const FR_CONSTANT FirstState a) {
  using C = Accumulator<E>;
  const int64_t b = warp_row();
  if (b >= a.B) return;
  const int64_t length = a.walk.length(b);
  const bool starts = a.h0 && length > 0 && !a.walk.cut(0, b, length, a.reverse != 0);
  const C* const from = static_cast<const C*>(a.h0) + b * a.stride;
  E* const to = static_cast<E*>(a.before) + b * a.Hp;
  for (int64_t u = hw::lane(); u < a.H; u += hw::kWarp) to[u] = narrow<E>(starts ? from[u] : C(0));
}

template <class C>
FR_KERNEL void empty_rows_kernel(const FR_CONSTANT EmptyRows a) {
  const int64_t row = warp_row();
  if (row >= a.stacks * a.B) return;
  const int64_t i = row / a.B, b = row % a.B;
  if (a.walk.length(b) > 0) return;
  C* const to = row_of<C>(a.to, i, b);
  for (int64_t u = hw::lane(); u < a.H; u += hw::kWarp) to[u] = a.from.data ? row_of<const C>(a.from, i, b)[u] : C(0);
}

// A tile of 32 columns and 32 units of one gate, transposed in shared memory: both copies are written side by side.
constexpr int kTile = 32, kTilePitch = kTile + 1, kTileRows = 8;

template <class E>
FR_KERNEL void pack_kernel(const FR_CONSTANT PackWeight a) {
  using C = Accumulator<E>;
  const int lane = hw::thread() % kTile, first = hw::thread() / kTile;
  const int64_t tiles = (a.Hp + kTile - 1) / kTile;
  const int64_t gate = hw::block_y() / tiles, u0 = hw::block_y() % tiles * kTile, n0 = hw::block_x() * kTile;
  const hw::Shared<C> tile = hw::shared<C>(0, kTile * kTilePitch);
  for (int i = first; i < kTile; i += kTileRows) {
    const int64_t u = u0 + i, n = n0 + lane;
    const bool inside = u < a.H && n < a.columns;
    const C value = inside ? static_cast<const C*>(a.from)[(gate * a.H + u) * a.ld + n] : C(0);
    if (inside) static_cast<E*>(a.to)[(gate * a.H + u) * a.pitch + n] = narrow<E>(value);
    tile[i * kTilePitch + lane] = value;
  }
  hw::barrier();
  for (int i = first; i < kTile; i += kTileRows) {
    const int64_t n = n0 + i, u = u0 + lane;
    if (n >= a.columns || u >= a.Hp) continue;
    const C value = tile[lane * kTilePitch + i];
    static_cast<E*>(a.back)[(n * a.gates + a.block_of[gate]) * a.Hp + u] = narrow<E>(value);
  }
}

struct BiasTask {
  const void* from;
  void* to;
  int64_t count;
};

template <class C>
FR_KERNEL void bias_kernel(const FR_CONSTANT BiasTask a) {
  const int64_t i = hw::block_x() * hw::threads() + hw::thread();
  if (i < a.count) static_cast<C*>(a.to)[i] = a.from ? static_cast<const C*>(a.from)[i] : C(0);
}

}  // namespace

Status stage(Element e, bool stored, const RowMove& m, Stream stream) {
  return with_element(e, [&](auto zero) {
    using E = decltype(zero);
    const hw::Grid grid = warp_per_row(m.steps * m.B);
    return stored ? hw::launch<reorder_kernel<E, E>>(grid, stream, m)
                  : hw::launch<reorder_kernel<Accumulator<E>, E>>(grid, stream, m);
  });
}

Status unstage(Element e, const RowMove& m, Stream stream) {
  const hw::Grid grid = warp_per_row(m.steps * m.B);
  return e == Element::f64 ? hw::launch<restore_order_kernel<double>>(grid, stream, m)
                           : hw::launch<restore_order_kernel<float>>(grid, stream, m);
}

Status clear(Element e, const Array3& array, int64_t T, int64_t B, int64_t width, Stream stream) {
  const hw::Grid grid = warp_per_row(T * B);
  const ClearTask task{array, T, B, width};
  return e == Element::f64 ? hw::launch<clear_kernel<double>>(grid, stream, task)
                           : hw::launch<clear_kernel<float>>(grid, stream, task);
}

Status first_state(Element e, const FirstState& a, Stream stream) {
  return with_element(
      e, [&](auto zero) { return hw::launch<first_state_kernel<decltype(zero)>>(warp_per_row(a.B), stream, a); });
}

Status copy_empty_rows(Element e, const EmptyRows& a, Stream stream) {
  const hw::Grid grid = warp_per_row(a.stacks * a.B);
  return e == Element::f64 ? hw::launch<empty_rows_kernel<double>>(grid, stream, a)
                           : hw::launch<empty_rows_kernel<float>>(grid, stream, a);
}

Status pack_weight(Element e, const PackWeight& a, Stream stream) {
  return with_element(e, [&](auto zero) {
    using E = decltype(zero);
    const hw::Blocks blocks{(a.columns + kTile - 1) / kTile,
                            static_cast<int32_t>((a.Hp + kTile - 1) / kTile * a.gates)};
    return hw::launch<pack_kernel<E>>({blocks, kTile * kTileRows, kTile * kTilePitch * sizeof(Accumulator<E>)}, stream,
                                      a);
  });
}

Status pack_bias(Element e, const void* from, void* to, int64_t count, Stream stream) {
  const hw::Grid grid{{(count + 255) / 256}, 256};
  const BiasTask task{from, to, count};
  return e == Element::f64 ? hw::launch<bias_kernel<double>>(grid, stream, task)
                           : hw::launch<bias_kernel<float>>(grid, stream, task);
}

}  // namespace fusedrnn::cuda
