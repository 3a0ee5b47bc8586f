// The kernels of a step: h R (or dgates R) of a tile of rows and units, all gates of a unit in one block, with the cell
// in the epilogue; and the plain ones, one thread per row and unit.
//
// A block has four warps, each a quarter of k, over 32 rows and 16 units of a cell with gates (32 of Elman's, and of
// any in backward). Column g * units + u of the tile is gate g of unit u. Directions are blocks of the z axis.
#pragma once

#include "cluster.cuh"
#include "finish.cuh"
#include "gemm.cuh"

namespace fusedrnn::cuda {

constexpr int kStepRows = 32, kStepWarps = 4;

template <class Cell>
constexpr int kStepUnits = Cell::gates == 1 ? 32 : 16;
constexpr int kBackwardUnits = 32;

// Rows of R in the order of a tile's columns; units past H are rows of zeros.
template <class E>
struct GateRows {
  const E* data;
  int64_t H, Hp, unit;  // the tile's first unit
  int32_t units;
  static constexpr bool aligned = true;

  FR_DEVICE const E* row(int64_t n) const {
    const int64_t u = unit + n % units;
    return u < H ? data + (n / units * H + u) * Hp : nullptr;
  }
};

template <class Cell, class E>
FR_KERNEL void FR_LAUNCH_BOUNDS(128, 2) forward_tiles(const FR_CONSTANT ForwardStep a) {
  using C = Accumulator<E>;
  constexpr int G = Cell::gates, U = kStepUnits<Cell>;
  using T = Tile<typename EngineOf<E, kStepRows, G * U>::type, 1, 1, kStepWarps>;
  const int direction = door::block_z();
  const ForwardDirection& d = a.direction[direction];
  const int64_t b0 = door::block_x() * kStepRows, u0 = static_cast<int64_t>(door::block_y()) * U;
  const Matrix<E> before{static_cast<const E*>(d.before), a.Hp, a.B, a.H, true};
  const GateRows<E> r{static_cast<const E*>(d.r), a.H, a.Hp, u0, U};
  const typename T::Sums sums = T::multiply(before, b0, r, 0, 0, a.H);
  for (int i = door::thread(); i < kStepRows * U; i += T::kThreads) {
    const int row = i / U, unit = i % U;
    if (b0 + row >= a.B || u0 + unit >= a.H) continue;
    C h[G];
    FR_UNROLL
    for (int g = 0; g < G; ++g) h[g] = sums.at(row, g * U + unit);
    finish_forward<Cell, E>(a, direction, b0 + row, u0 + unit, h);
  }
}

template <class Cell, class E>
FR_KERNEL void FR_LAUNCH_BOUNDS(128, 2) backward_tiles(const FR_CONSTANT BackwardStep a) {
  constexpr int U = kBackwardUnits;
  using T = Tile<typename EngineOf<E, kStepRows, U>::type, 1, 1, kStepWarps>;
  const int direction = door::block_z();
  const BackwardDirection& d = a.direction[direction];
  const int64_t b0 = door::block_x() * kStepRows, u0 = static_cast<int64_t>(door::block_y()) * U;
  const int64_t K = a.s == a.walk.T - 1 ? 0 : Cell::gates * a.Hp;
  const Matrix<E> next{static_cast<const E*>(d.next) + Cell::h_first * a.Hp, Cell::dgate_blocks * a.Hp, a.B, K, true};
  const Matrix<E> r{static_cast<const E*>(d.r_back), Cell::gates * a.Hp, a.H, K, true};
  const typename T::Sums sums = T::multiply(next, b0, r, u0, 0, K);
  for (int i = door::thread(); i < kStepRows * U; i += T::kThreads) {
    const int row = i / U, unit = i % U;
    if (b0 + row >= a.B || u0 + unit >= a.Hp) continue;
    finish_backward<Cell, E>(a, direction, b0 + row, u0 + unit, sums.at(row, unit));
  }
}

template <class Cell, class E>
FR_KERNEL void forward_plain(const FR_CONSTANT ForwardStep a) {
  using C = Accumulator<E>;
  constexpr int G = Cell::gates;
  const int64_t i = door::block_x() * door::threads() + door::thread(), b = i / a.H, u = i % a.H;
  if (b >= a.B) return;
  const ForwardDirection& d = a.direction[door::block_z()];
  const E* const before = static_cast<const E*>(d.before) + b * a.Hp;
  C h[G];
  for (int g = 0; g < G; ++g) {
    const E* const r = static_cast<const E*>(d.r) + (g * a.H + u) * a.Hp;
    h[g] = 0;
    for (int64_t k = 0; k < a.H; ++k) h[g] = Lanes<C>::fma(widen(r[k]), widen(before[k]), h[g]);
  }
  finish_forward<Cell, E>(a, door::block_z(), b, u, h);
}

template <class Cell, class E>
FR_KERNEL void backward_plain(const FR_CONSTANT BackwardStep a) {
  using C = Accumulator<E>;
  const int64_t i = door::block_x() * door::threads() + door::thread(), b = i / a.Hp, u = i % a.Hp;
  if (b >= a.B) return;
  const BackwardDirection& d = a.direction[door::block_z()];
  C sum = 0;
  if (u < a.H && a.s < a.walk.T - 1) {
    const E* const next = static_cast<const E*>(d.next) + (b * Cell::dgate_blocks + Cell::h_first) * a.Hp;
    const E* const r = static_cast<const E*>(d.r_back) + u * Cell::gates * a.Hp;
    for (int64_t k = 0; k < Cell::gates * a.Hp; ++k) sum = Lanes<C>::fma(widen(next[k]), widen(r[k]), sum);
  }
  finish_backward<Cell, E>(a, door::block_z(), b, u, sum);
}

template <template <class> class Cell>
Status launch_forward(Element e, bool plain, const ForwardStep& a, Stream stream) {
  return with_element(e, [&](auto zero) {
    using E = decltype(zero);
    using Of = Cell<Math<Accumulator<E>>>;
    if (plain) return door::launch<forward_plain<Of, E>>({{(a.B * a.H + 127) / 128, 1, a.directions}, 128}, stream, a);
    constexpr int U = kStepUnits<Of>;
    using T = Tile<typename EngineOf<E, kStepRows, Of::gates * U>::type, 1, 1, kStepWarps>;
    const door::Blocks blocks{(a.B + kStepRows - 1) / kStepRows, static_cast<int32_t>((a.H + U - 1) / U), a.directions};
    return door::launch<forward_tiles<Of, E>>({blocks, T::kThreads, T::kSharedBytes}, stream, a);
  });
}

template <template <class> class Cell>
Status launch_backward(Element e, bool plain, const BackwardStep& a, Stream stream) {
  return with_element(e, [&](auto zero) {
    using E = decltype(zero);
    using Of = Cell<Math<Accumulator<E>>>;
    if (plain)
      return door::launch<backward_plain<Of, E>>({{(a.B * a.Hp + 127) / 128, 1, a.directions}, 128}, stream, a);
    constexpr int U = kBackwardUnits;
    using T = Tile<typename EngineOf<E, kStepRows, U>::type, 1, 1, kStepWarps>;
    const door::Blocks blocks{(a.B + kStepRows - 1) / kStepRows, static_cast<int32_t>((a.Hp + U - 1) / U),
                              a.directions};
    return door::launch<backward_tiles<Of, E>>({blocks, T::kThreads, T::kSharedBytes}, stream, a);
  });
}

template <template <class> class Cell>
CellSteps steps_of() {
  return {kStepUnits<Cell<Math<float>>>, kStepRows,          launch_forward<Cell>,
          launch_backward<Cell>,         cluster_room<Cell>, launch_cluster_forward<Cell>,
          launch_cluster_backward<Cell>};
}

}  // namespace fusedrnn::cuda
