// The kernels of a step: h R (or dgates R) of a tile of rows and units, all gates of a unit in one block, with the cell
// in the epilogue; and the plain ones, one thread per row and unit.
//
// A block has four warps, each a quarter of k, over 32 rows and 16 units of a cell with gates (32 of Elman's, and of
// any in backward). Column g * units + u of the tile is gate g of unit u. Directions are blocks of the z axis.
//
// A step's kernel may begin while that of the step before runs. R, x W + b_ih and the tape have been there since before
// the first of a chunk began, for that one overlaps with nothing; so a block asks for its first buffers of R and for
// all that its cell reads of those, then waits, then asks for the state and the carry. That lands in shared memory
// behind the tile's buffers while the product runs.
#pragma once

#include "products/gemm.cuh"
#include "recurrent/cluster/cluster.cuh"
#include "recurrent/finish.cuh"

namespace fusedrnn::cuda {

constexpr int kStepRows = 32, kStepWarps = 4;

// Half as many in double: what registers and, for two blocks on a multiprocessor of sm_90, shared memory have room for.
template <class Cell, class E>
constexpr int kStepUnits = (Cell::gates == 1 ? 32 : 16) / (sizeof(E) == 8 ? 2 : 1);
template <class E>
constexpr int kBackwardUnits = sizeof(E) == 8 ? 16 : 32;

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

// Asks for a value, zero where `from` is null; `any` is an address that may be named then.
template <class C>
FR_DEVICE void copy_value(hw::Shared<C> to, const C* from, const C* any) {
  const uint32_t* const words = reinterpret_cast<const uint32_t*>(from ? from : any);
  FR_UNROLL
  for (int i = 0; i < static_cast<int>(sizeof(C)) / 4; ++i)
    hw::copy_async4(hw::recast<uint32_t>(to) + i, words + i, from ? 4 : 0);
}

// The rows and units of a block as items of its threads, which share nothing: run(i, row, unit), both of the tile.
template <int Units, class Run>
FR_DEVICE void each_item(const Run& run) {
  for (int i = hw::thread(); i < kStepRows * Units; i += kStepWarps * hw::kWarp) run(i, i / Units, i % Units);
}

template <class Cell, class E>
struct ForwardTile {
  using C = Accumulator<E>;
  static constexpr int G = Cell::gates, kUnits = kStepUnits<Cell, E>, kItems = kStepRows * kUnits;
  using T = Tile<typename EngineOf<E, kStepRows, G * kUnits>::type, 1, 1, kStepWarps>;
  static constexpr int kBias = (G + 1) * kItems, kValues = kBias + G * kUnits;  // behind x W + b_ih and the carry
  static constexpr size_t kSharedBytes = T::kSharedBytes + sizeof(C) * kValues;
};

template <class Cell, class E>
FR_KERNEL void FR_LAUNCH_BOUNDS(128, 2) forward_tiles(const FR_CONSTANT ForwardStep a) {
  using Block = ForwardTile<Cell, E>;
  using C = typename Block::C;
  constexpr int G = Cell::gates, U = Block::kUnits;
  const int direction = hw::block_z();
  const ForwardDirection& d = a.direction[direction];
  const int64_t b0 = hw::block_x() * kStepRows, u0 = static_cast<int64_t>(hw::block_y()) * U;
  const Matrix<E> before{static_cast<const E*>(d.before), a.Hp, a.B, a.H, true};
  const GateRows<E> r{static_cast<const E*>(d.r), a.H, a.Hp, u0, U};
  const auto values = hw::shared<C>(Block::T::kSharedBytes, Block::kValues);
  const auto each_valid = [&](const auto& run) {
    each_item<U>([&](int i, int row, int unit) {
      if (b0 + row < a.B && u0 + unit < a.H) run(i, row, unit, b0 + row, u0 + unit);
    });
  };

  each_valid([&](int i, int, int, int64_t b, int64_t u) {
    if (a.s < a.walk.length(b))
      forward_inputs<Cell, C>(a, d, b, u,
                              [&](int k, const C* from) { copy_value(values + (k * Block::kItems + i), from, from); });
  });
  const C* const bias = static_cast<const C*>(d.bias_h);
  for (int i = hw::thread(); i < G * U; i += Block::T::kThreads)
    copy_value(values + (Block::kBias + i), u0 + i % U < a.H ? bias + i / U * a.H + u0 + i % U : nullptr, bias);
  const typename Block::T::Sums sums = Block::T::multiply(before, b0, r, 0, 0, a.H, [&] {
    hw::wait_on_dependency();
    hw::launch_dependents();
    each_valid([&](int i, int, int, int64_t b, int64_t u) {
      const int64_t length = a.walk.length(b);
      if (a.s < length)
        copy_value(values + (G * Block::kItems + i),
                   carry_before<C>(a, d, direction == 1, a.s, b, u, length, a.carry_time), bias);
    });
  });
  each_valid([&](int i, int row, int unit, int64_t b, int64_t u) {
    const int64_t length = a.walk.length(b);
    C x[G] = {}, h[G] = {}, carry = 0;
    if (a.s < length) {
      FR_UNROLL
      for (int g = 0; g < G; ++g) {
        const C own = values[Block::kBias + g * U + unit];
        x[g] = values[g * Block::kItems + i];
        h[g] = sums.at(row, g * U + unit) + own;
      }
      carry = values[G * Block::kItems + i];
    }
    finish_forward<Cell, E>(a, direction, b, u, length, x, h, carry);
  });
}

template <class Cell, class E>
struct BackwardTile {
  using C = Accumulator<E>;
  static constexpr int kUnits = kBackwardUnits<E>, kItems = kStepRows * kUnits;
  using T = Tile<typename EngineOf<E, kStepRows, kUnits>::type, 1, 1, kStepWarps>;
  static constexpr int kValues = BackwardInputs<Cell>::kAll * kItems;
  static constexpr size_t kSharedBytes = T::kSharedBytes + sizeof(C) * kValues;
};

template <class Cell, class E>
FR_KERNEL void FR_LAUNCH_BOUNDS(128, 2) backward_tiles(const FR_CONSTANT BackwardStep a) {
  using Block = BackwardTile<Cell, E>;
  using C = typename Block::C;
  using In = BackwardInputs<Cell>;
  constexpr int U = Block::kUnits;
  const int direction = hw::block_z();
  const bool reverse = direction == 1;
  const BackwardDirection& d = a.direction[direction];
  const int64_t b0 = hw::block_x() * kStepRows, u0 = static_cast<int64_t>(hw::block_y()) * U;
  const int64_t K = a.s == a.walk.T - 1 ? 0 : Cell::gates * a.Hp;
  const Matrix<E> next{static_cast<const E*>(d.next) + Cell::h_first * a.Hp, Cell::dgate_blocks * a.Hp, a.B, K, true};
  const Matrix<E> r{static_cast<const E*>(d.r_back), Cell::gates * a.Hp, a.H, K, true};
  const auto values = hw::shared<C>(Block::T::kSharedBytes, Block::kValues);
  const C* const any = static_cast<const C*>(d.carry);
  const auto each_step = [&](const auto& run) {
    each_item<U>([&](int i, int row, int unit) {
      const int64_t b = b0 + row, u = u0 + unit;
      if (b >= a.B || u >= a.H || a.s < 0) return;
      const int64_t length = a.walk.length(b);
      if (a.s < length) run(i, b, u, length);
    });
  };

  each_step([&](int i, int64_t b, int64_t u, int64_t length) {
    backward_inputs<Cell, C>(a, d, reverse, a.s, b, u, length,
                             [&](int k, const C* from) { copy_value(values + (k * Block::kItems + i), from, any); });
  });
  const typename Block::T::Sums sums = Block::T::multiply(next, b0, r, u0, 0, K, [&] {
    hw::wait_on_dependency();
    hw::launch_dependents();
    if constexpr (Cell::carry_gradient)
      each_step([&](int i, int64_t b, int64_t u, int64_t length) {
        copy_value(values + (In::kHanded * Block::kItems + i), handed_carry<C>(a, d, b, u, length), any);
      });
  });
  each_item<U>([&](int i, int row, int unit) {
    const int64_t b = b0 + row, u = u0 + unit;
    if (b >= a.B || u >= a.Hp) return;
    const auto input = [&](int k) {
      const C value = values[k * Block::kItems + i];
      return value;
    };
    finish_backward<Cell, E>(a, direction, b, u, a.walk.length(b), sums.at(row, unit), input);
  });
}

template <class Cell, class E>
FR_KERNEL void forward_plain(const FR_CONSTANT ForwardStep a) {
  using C = Accumulator<E>;
  constexpr int G = Cell::gates;
  const int64_t i = hw::block_x() * hw::threads() + hw::thread(), b = i / a.H, u = i % a.H;
  if (b >= a.B) return;
  const int direction = hw::block_z();
  const ForwardDirection& d = a.direction[direction];
  const int64_t length = a.walk.length(b);
  C x[G] = {}, h[G] = {}, carry = 0;
  if (a.s < length) {
    const E* const before = static_cast<const E*>(d.before) + b * a.Hp;
    forward_inputs<Cell, C>(a, d, b, u, [&](int g, const C* from) { x[g] = *from; });
    for (int g = 0; g < G; ++g) {
      const E* const r = static_cast<const E*>(d.r) + (g * a.H + u) * a.Hp;
      for (int64_t k = 0; k < a.H; ++k) h[g] = add_product(h[g], r[k], before[k]);
      h[g] = h[g] + static_cast<const C*>(d.bias_h)[g * a.H + u];
    }
    carry = value_or_zero(carry_before<C>(a, d, direction == 1, a.s, b, u, length, a.carry_time));
  }
  finish_forward<Cell, E>(a, direction, b, u, length, x, h, carry);
}

template <class Cell, class E>
FR_KERNEL void backward_plain(const FR_CONSTANT BackwardStep a) {
  using C = Accumulator<E>;
  const int64_t i = hw::block_x() * hw::threads() + hw::thread(), b = i / a.Hp, u = i % a.Hp;
  if (b >= a.B) return;
  const int direction = hw::block_z();
  const BackwardDirection& d = a.direction[direction];
  const int64_t length = a.walk.length(b);
  C sum = 0;
  if (u < a.H && a.s < a.walk.T - 1) {
    const E* const next = static_cast<const E*>(d.next) + (b * Cell::dgate_blocks + Cell::h_first) * a.Hp;
    const E* const r = static_cast<const E*>(d.r_back) + u * Cell::gates * a.Hp;
    for (int64_t k = 0; k < Cell::gates * a.Hp; ++k) sum = add_product(sum, next[k], r[k]);
  }
  C inputs[BackwardInputs<Cell>::kHanded + 1] = {};
  if (u < a.H && a.s >= 0 && a.s < length) {
    backward_inputs<Cell, C>(a, d, direction == 1, a.s, b, u, length,
                             [&](int k, const C* from) { inputs[k] = value_or_zero(from); });
    inputs[BackwardInputs<Cell>::kHanded] = value_or_zero(handed_carry<C>(a, d, b, u, length));
  }
  finish_backward<Cell, E>(a, direction, b, u, length, sum, [&](int k) { return inputs[k]; });
}

template <template <class> class Cell>
Status launch_forward(Element e, StepKernel kernel, const ForwardStep& a, Stream stream) {
  return with_element(e, [&](auto zero) {
    using E = decltype(zero);
    using Of = Cell<Math<Accumulator<E>>>;
    if (kernel == StepKernel::plain)
      return hw::launch<forward_plain<Of, E>>({{(a.B * a.H + 127) / 128, 1, a.directions}, 128}, stream, a);
    using Block = ForwardTile<Of, E>;
    const hw::Blocks blocks{(a.B + kStepRows - 1) / kStepRows,
                            static_cast<int32_t>((a.H + Block::kUnits - 1) / Block::kUnits), a.directions};
    hw::Grid grid{blocks, Block::T::kThreads, Block::kSharedBytes};
    grid.overlaps = kernel == StepKernel::overlapping;
    return hw::launch<forward_tiles<Of, E>>(grid, stream, a);
  });
}

template <template <class> class Cell>
Status launch_backward(Element e, StepKernel kernel, const BackwardStep& a, Stream stream) {
  return with_element(e, [&](auto zero) {
    using E = decltype(zero);
    using Of = Cell<Math<Accumulator<E>>>;
    if (kernel == StepKernel::plain)
      return hw::launch<backward_plain<Of, E>>({{(a.B * a.Hp + 127) / 128, 1, a.directions}, 128}, stream, a);
    using Block = BackwardTile<Of, E>;
    const hw::Blocks blocks{(a.B + kStepRows - 1) / kStepRows,
                            static_cast<int32_t>((a.Hp + Block::kUnits - 1) / Block::kUnits), a.directions};
    hw::Grid grid{blocks, Block::T::kThreads, Block::kSharedBytes};
    grid.overlaps = kernel == StepKernel::overlapping;
    return hw::launch<backward_tiles<Of, E>>(grid, stream, a);
  });
}

template <template <class> class Cell>
int32_t step_units(Element e) {
  return with_element(e, [](auto zero) { return kStepUnits<Cell<Math<float>>, decltype(zero)>; });
}

template <template <class> class Cell>
CellSteps steps_of() {
  return {step_units<Cell>,
          kStepRows,
          launch_forward<Cell>,
          launch_backward<Cell>,
          cluster_room<Cell>,
          launch_cluster_forward<Cell>,
          launch_cluster_backward<Cell>};
}

}  // namespace fusedrnn::cuda
