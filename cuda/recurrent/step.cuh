// The kernels of a step: h R (or dgates R) of a tile of rows and units, all gates of a unit in one block, with the cell
// in the epilogue; and the plain ones, one thread per row and unit.
//
// A block has four warps, each a quarter of k, over 32 rows and 16 units of a cell with gates (32 of Elman's, and of
// any in backward). Column g * units + u of the tile is gate g of unit u. Directions are blocks of the z axis.
//
// A step's kernel may begin while that of the step before runs. R, x W + b_ih and the tape have been there since before
// the first of a chunk began, for that one overlaps with nothing; so a block asks for its first buffers of R and for
// all that its cell reads of those, then waits, then asks for the state and behind it for the carry, which the product
// does not need. That lands in shared memory behind the tile's buffers while the product runs. Copies are of 16 bytes
// where rows begin at such; then each thread makes and stores pairs of neighbouring units.
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

// Rows of R in the order of a tile's columns; of units past H there are none.
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

// Units that are asked for together: 16 bytes of values.
template <class C>
constexpr int kTogether = 16 / sizeof(C);

// How many of them there are if `left` units are.
template <class C>
FR_DEVICE int units_there(int64_t left) {
  return left <= 0 ? 0 : left < kTogether<C> ? static_cast<int>(left) : kTogether<C>;
}

// Asks for the values of kTogether units, of which the first `count` are there and the others are zero, as all are
// where `from` is null; `any`, at 16 bytes, is an address that may be named then.
template <class C>
FR_DEVICE void copy_units(hw::Shared<C> to, const C* from, int count, const C* any) {
  if (!from || count <= 0) {
    hw::copy_async16(to, any, 0);
  } else if (reinterpret_cast<uintptr_t>(from) % 16 == 0) {
    hw::copy_async16(to, from, count * static_cast<int>(sizeof(C)));
  } else {  // of an array of the caller's, or of an H that makes no whole vectors
    constexpr int kWords = sizeof(C) / 4;
    const uint32_t* const words = reinterpret_cast<const uint32_t*>(from);
    FR_UNROLL
    for (int i = 0; i < kTogether<C> * kWords; ++i) {
      const bool there = i / kWords < count;
      hw::copy_async4(hw::recast<uint32_t>(to) + i, there ? words + i : words, there ? 4 : 0);
    }
  }
}

// What the state needs: it is there once the step before has ended.
FR_DEVICE void state_is_there() {
  hw::wait_on_dependency();
  hw::launch_dependents();
}

// The rows and units of a block, dealt out to its threads in runs of `Run` neighbouring units of a row: a thread has
// the same units of kEach rows, in ascending order. Rows lie in slots, which follow each other in shared memory: a
// warp's, where it reads sums of two, are two apart, and so these lie in different banks.
template <int Units, int Run>
struct StepRuns {
  static constexpr int kThreads = kStepWarps * hw::kWarp, kRowsAtOnce = kThreads / (Units / Run);
  static constexpr int kEach = kStepRows / kRowsAtOnce;
  static_assert(Units % Run == 0 && kThreads % (Units / Run) == 0 && kStepRows % kRowsAtOnce == 0, "whole runs");

  FR_DEVICE static int unit() { return hw::thread() % (Units / Run) * Run; }  // the first
  FR_DEVICE static int row(int j) {
    const int slot = hw::thread() / (Units / Run);
    return j * kRowsAtOnce + (Units == 16 ? (slot & ~3) | (slot & 1) << 1 | (slot >> 1 & 1) : slot);
  }
  // Of value k, among runs and among values.
  FR_DEVICE static int run(int k, int j) { return k * (kStepRows * Units / Run) + j * kThreads + hw::thread(); }
  FR_DEVICE static int place(int k, int j) { return run(k, j) * Run; }
};

// Units of a row that a thread makes together: so what one waits for the other fills, and addresses and stores are of
// both.
constexpr int kPair = 2;

template <class Cell, class E>
struct ForwardTile {
  using C = Accumulator<E>;
  static constexpr int G = Cell::gates, kUnits = kStepUnits<Cell, E>, kItems = kStepRows * kUnits;
  using T = Tile<typename EngineOf<E, kStepRows, G * kUnits>::type, 1, 1, kStepWarps>;
  using Items = StepRuns<kUnits, kPair>;
  using Copies = StepRuns<kUnits, kTogether<C>>;
  static constexpr int kBias = (G + 1) * kItems, kValues = kBias + G * kUnits;  // behind x W + b_ih and the carry
  static constexpr size_t kSharedBytes = T::kSharedBytes + sizeof(C) * kValues;
};

template <class Cell, class E>
FR_KERNEL void FR_LAUNCH_BOUNDS(128, 2) forward_tiles(const FR_CONSTANT ForwardStep a) {
  using Block = ForwardTile<Cell, E>;
  using C = typename Block::C;
  using Items = typename Block::Items;
  using Copies = typename Block::Copies;
  constexpr int G = Cell::gates, U = Block::kUnits;
  const bool reverse = hw::block_z() == 1;
  const ForwardDirection d = a.direction[hw::block_z()];  // a copy: addresses out of constant memory come slowly
  const int64_t b0 = hw::block_x() * kStepRows, u0 = static_cast<int64_t>(hw::block_y()) * U, u = u0 + Items::unit();
  const Matrix<E> before{static_cast<const E*>(d.before), a.Hp, a.B, a.H, true};
  const GateRows<E> r{static_cast<const E*>(d.r), a.H, a.Hp, u0, U};
  const auto values = hw::shared<C>(Block::T::kSharedBytes, Block::kValues);
  const C* const bias = static_cast<const C*>(d.bias_h);

  const int64_t first = u0 + Copies::unit();
  const int count = units_there<C>(a.H - first);
  const C* carries[Copies::kEach];
  FR_UNROLL
  for (int j = 0; j < Copies::kEach; ++j) {
    const int64_t b = b0 + Copies::row(j), length = b < a.B ? a.walk.length(b) : 0;
    const bool live = a.s < length;
    forward_inputs<Cell, C>(a, d, b, first, [&](int k, const C* from) {
      copy_units(values + Copies::place(k, j), live ? from : nullptr, count, bias);
    });
    carries[j] = live ? carry_before<C>(a, d, reverse, a.s, b, first, length, a.carry_time) : nullptr;
  }
  constexpr int kRuns = U / kTogether<C>;  // of a gate's bias
  for (int i = hw::thread(); i < G * kRuns; i += Block::T::kThreads) {
    const int64_t unit = u0 + i % kRuns * kTogether<C>;
    copy_units(values + (Block::kBias + i * kTogether<C>), bias + i / kRuns * a.H + unit, units_there<C>(a.H - unit),
               bias);
  }
  const auto carries_follow = [&] {
    FR_UNROLL
    for (int j = 0; j < Copies::kEach; ++j) copy_units(values + Copies::place(G, j), carries[j], count, bias);
  };
  int64_t lengths[Items::kEach];  // less than 0 where there is no such pair, and of later rows none then
  bool on[Items::kEach];
  FR_UNROLL
  for (int j = 0; j < Items::kEach; ++j) {
    const int64_t b = b0 + Items::row(j);
    const bool there = b < a.B && u < a.H;
    lengths[j] = there ? a.walk.length(b) : -1;
    on[j] = there && goes_on(a, reverse, a.s, b, lengths[j]);
  }
  const typename Block::T::Sums sums = Block::T::multiply(before, b0, r, 0, 0, a.H, state_is_there, carries_follow);
  using Pair = hw::Vec<C, kPair>;
  const auto pairs = hw::recast<Pair>(values);
  FR_UNROLL
  for (int j = 0; j < Items::kEach; ++j) {
    if (lengths[j] < 0) break;
    C x[kPair][G], h[kPair][G];
    FR_UNROLL
    for (int g = 0; g < G; ++g) {
      const Pair in = pairs[Items::run(g, j)], own = pairs[(Block::kBias + g * U + Items::unit()) / kPair];
      const Pair sum = sums.pair(Items::row(j), (g * U + Items::unit()) / kPair);
      FR_UNROLL
      for (int i = 0; i < kPair; ++i) {
        x[i][g] = in.v[i];
        h[i][g] = sum.v[i] + own.v[i];
      }
    }
    const Pair carry = pairs[Items::run(G, j)];
    Made<Cell, C> made[kPair];
    FR_UNROLL
    for (int i = 0; i < kPair; ++i) made[i] = forward_cell<Cell>(x[i], h[i], carry.v[i]);
    const int64_t b = b0 + Items::row(j);
    if (a.H % kPair == 0) {
      finish_forward<Cell, E, kPair>(a, d, reverse, b, u, lengths[j], on[j], made);
    } else {
      FR_UNROLL
      for (int i = 0; i < kPair; ++i)
        if (u + i < a.H) finish_forward<Cell, E, 1>(a, d, reverse, b, u + i, lengths[j], on[j], made + i);
    }
  }
}

template <class Cell, class E>
struct BackwardTile {
  using C = Accumulator<E>;
  static constexpr int kUnits = kBackwardUnits<E>, kItems = kStepRows * kUnits;
  using T = Tile<typename EngineOf<E, kStepRows, kUnits>::type, 1, 1, kStepWarps>;
  using Items = StepRuns<kUnits, kPair>;
  using Copies = StepRuns<kUnits, kTogether<C>>;
  static constexpr int kValues = BackwardInputs<Cell>::kAll * kItems;
  static constexpr size_t kSharedBytes = T::kSharedBytes + sizeof(C) * kValues;
};

template <class Cell, class E>
FR_KERNEL void FR_LAUNCH_BOUNDS(128, 2) backward_tiles(const FR_CONSTANT BackwardStep a) {
  using Block = BackwardTile<Cell, E>;
  using C = typename Block::C;
  using In = BackwardInputs<Cell>;
  using Items = typename Block::Items;
  using Copies = typename Block::Copies;
  const bool reverse = hw::block_z() == 1;
  const BackwardDirection d = a.direction[hw::block_z()];
  const int64_t b0 = hw::block_x() * kStepRows, u0 = static_cast<int64_t>(hw::block_y()) * Block::kUnits;
  const int64_t u = u0 + Items::unit(), K = a.s == a.walk.T - 1 ? 0 : Cell::gates * a.Hp;
  const Matrix<E> next{static_cast<const E*>(d.next) + Cell::h_first * a.Hp, Cell::dgate_blocks * a.Hp, a.B, K, true};
  const Matrix<E> r{static_cast<const E*>(d.r_back), Cell::gates * a.Hp, a.H, K, true};
  const auto values = hw::shared<C>(Block::T::kSharedBytes, Block::kValues);
  const C* const any = static_cast<const C*>(d.carry);

  const int64_t first = u0 + Copies::unit();
  const int count = units_there<C>(a.H - first);
  const C* handed[Copies::kEach];
  FR_UNROLL
  for (int j = 0; j < Copies::kEach; ++j) {
    const int64_t b = b0 + Copies::row(j), length = b < a.B ? a.walk.length(b) : 0;
    const auto take = [&](int k, const C* from) { copy_units(values + Copies::place(k, j), from, count, any); };
    handed[j] = nullptr;
    if (a.s >= 0 && a.s < length) {
      backward_inputs<Cell, C>(a, d, reverse, a.s, b, first, length, take);
      if (Cell::carry_gradient) handed[j] = handed_carry<C>(a, d, b, first, length);
    } else {
      FR_UNROLL
      for (int k = 0; k < In::kBeforeThePrevious; ++k) take(k, nullptr);
    }
  }
  const auto carries_follow = [&] {
    if constexpr (Cell::carry_gradient) {
      FR_UNROLL
      for (int j = 0; j < Copies::kEach; ++j) copy_units(values + Copies::place(In::kHanded, j), handed[j], count, any);
    }
  };
  const typename Block::T::Sums sums = Block::T::multiply(next, b0, r, u0, 0, K, state_is_there, carries_follow);
  using Pair = hw::Vec<C, kPair>;
  const auto pairs = hw::recast<Pair>(values);
  FR_UNROLL_BY(1)  // so many would be too much code
  for (int j = 0; j < Items::kEach; ++j) {
    const int64_t b = b0 + Items::row(j);
    if (b >= a.B || u >= a.Hp) break;  // and of later rows as well
    const int64_t length = a.walk.length(b);
    Pair dh = sums.pair(Items::row(j), Items::unit() / kPair), dcarry{};
    if (a.s < 0) {
      FR_UNROLL
      for (int i = 0; i < kPair; ++i)
        if (u + i < a.H) finish_initial<Cell, C>(a, d, reverse, b, u + i, length, dh.v[i]);
      continue;
    }
    const bool live = a.s < length;
    const Pair dy = pairs[Items::run(In::kDy, j)];
    if constexpr (Cell::carry_gradient) dcarry = pairs[Items::run(In::kHanded, j)];
    if (live) gradients_into<Cell, kPair>(a, d, reverse, a.s, b, u, length, dy.v, dh.v, dcarry.v);
    Pair inputs[In::kDy];
    FR_UNROLL
    for (int k = 0; k < In::kDy; ++k) inputs[k] = pairs[Items::run(k, j)];
    MadeBack<Cell, C> made[kPair];
    FR_UNROLL
    for (int i = 0; i < kPair; ++i)
      made[i] = backward_cell<Cell>([&](int k) { return inputs[k].v[i]; }, dh.v[i], dcarry.v[i]);
    finish_backward<Cell, E, kPair>(a, d, b, u, live, made);
  }
}

template <class Cell, class E>
FR_KERNEL void forward_plain(const FR_CONSTANT ForwardStep a) {
  using C = Accumulator<E>;
  constexpr int G = Cell::gates;
  const int64_t i = hw::block_x() * hw::threads() + hw::thread(), b = i / a.H, u = i % a.H;
  if (b >= a.B) return;
  const bool reverse = hw::block_z() == 1;
  const ForwardDirection& d = a.direction[hw::block_z()];
  const int64_t length = a.walk.length(b);
  Made<Cell, C> made;
  if (a.s < length) {
    const E* const before = static_cast<const E*>(d.before) + b * a.Hp;
    C x[G] = {}, h[G] = {};
    forward_inputs<Cell, C>(a, d, b, u, [&](int g, const C* from) { x[g] = *from; });
    for (int g = 0; g < G; ++g) {
      const E* const r = static_cast<const E*>(d.r) + (g * a.H + u) * a.Hp;
      for (int64_t k = 0; k < a.H; ++k) h[g] = add_product(h[g], r[k], before[k]);
      h[g] = h[g] + static_cast<const C*>(d.bias_h)[g * a.H + u];
    }
    made = forward_cell<Cell>(x, h, value_or_zero(carry_before<C>(a, d, reverse, a.s, b, u, length, a.carry_time)));
  }
  finish_forward<Cell, E, 1>(a, d, reverse, b, u, length, goes_on(a, reverse, a.s, b, length), &made);
}

template <class Cell, class E>
FR_KERNEL void backward_plain(const FR_CONSTANT BackwardStep a) {
  using C = Accumulator<E>;
  const int64_t i = hw::block_x() * hw::threads() + hw::thread(), b = i / a.Hp, u = i % a.Hp;
  if (b >= a.B) return;
  const bool reverse = hw::block_z() == 1, live = u < a.H && a.s >= 0 && a.s < a.walk.length(b);
  const BackwardDirection& d = a.direction[hw::block_z()];
  const int64_t length = a.walk.length(b);
  C sum = 0;
  if (u < a.H && a.s < a.walk.T - 1) {
    const E* const next = static_cast<const E*>(d.next) + (b * Cell::dgate_blocks + Cell::h_first) * a.Hp;
    const E* const r = static_cast<const E*>(d.r_back) + u * Cell::gates * a.Hp;
    for (int64_t k = 0; k < Cell::gates * a.Hp; ++k) sum = add_product(sum, next[k], r[k]);
  }
  if (a.s < 0) {
    if (u < a.H) finish_initial<Cell, C>(a, d, reverse, b, u, length, sum);
    return;
  }
  MadeBack<Cell, C> made;
  if (live) {
    C inputs[BackwardInputs<Cell>::kHanded] = {};
    backward_inputs<Cell, C>(a, d, reverse, a.s, b, u, length,
                             [&](int k, const C* from) { inputs[k] = value_or_zero(from); });
    C dcarry = value_or_zero(handed_carry<C>(a, d, b, u, length));
    gradients_into<Cell, 1>(a, d, reverse, a.s, b, u, length, inputs + BackwardInputs<Cell>::kDy, &sum, &dcarry);
    made = backward_cell<Cell>([&](int k) { return inputs[k]; }, sum, dcarry);
  }
  finish_backward<Cell, E, 1>(a, d, b, u, live, &made);
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
