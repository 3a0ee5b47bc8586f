// The kernels of the plan `cluster`: a piece of the sequence, forward and backward, by a cluster of blocks
// (cluster_block.cuh).
#pragma once

#include "cluster_block.cuh"
#include "finish.cuh"

namespace fusedrnn::cuda {

// ---------------------------------------------------------------------------------------------------------- forward
template <class Cell, class E, int NT>
FR_DEVICE void run_forward(const ClusterForward& a) {
  using C = float;
  constexpr int G = Cell::gates;
  const ClusterShape& shape = a.shape;
  const ClusterLane& lane = a.lane[door::block_y()];
  const bool reverse = lane.reverse != 0;
  const ForwardDirection& d = a.step.direction[door::block_y()];
  const int64_t B = a.step.B, H = a.step.H;
  const E* const before = static_cast<const E*>(d.before);
  ClusterBlock<E, NT> block(shape);
  const int items = block.items();
  const int64_t b0 = block.row();

  const E* const r = static_cast<const E*>(d.r);
  block.load(
      [&](int m) {
        const int64_t unit = block.unit() + m % shape.units;
        return unit < H ? r + (m / shape.units * H + unit) * a.step.Hp : nullptr;
      },
      H, 0);

  const auto lengths = block.lengths(a.step.walk, B);
  const auto bias = door::shared<C>(shape.bias_at, G * shape.units);
  const auto carries = door::shared<C>(shape.carry_at, items);
  const auto inputs = door::shared<C>(shape.input_at, 2 * G * items);
  for (int i = door::thread(); i < G * shape.units; i += kClusterThreads) {
    const int64_t unit = block.unit() + i % shape.units;
    bias[i] = unit < H ? static_cast<const C*>(d.bias_h)[i / shape.units * H + unit] : C(0);
  }
  const auto first_state = block.state(0);
  for (int i = door::thread(); i < shape.blocks * items; i += kClusterThreads) {
    const int q = i / items, n = i % items / shape.units, u = i % shape.units;
    const int64_t k = static_cast<int64_t>(q) * shape.units + u;
    if (k < H && b0 + n < B) first_state[block.place(n, q, 0, u)] = before[(b0 + n) * a.step.Hp + k];
  }

  const auto fetch = [&](int64_t s) {
    if (s < lane.end) {
      const C* const pre = static_cast<const C*>(d.pre) + (s - lane.first) * B * G * H;
      block.each_item(B, H, [&](int i, int, int, int64_t b, int64_t unit) {
        FR_UNROLL
        for (int g = 0; g < G; ++g)
          door::copy_async4(inputs + ((s % 2 * G + g) * items + i), pre + (b * G + g) * H + unit);
      });
    }
    door::commit_copies();
  };
  fetch(lane.first);
  block.each_item(B, H, [&](int i, int, int, int64_t b, int64_t unit) {
    const int64_t length = a.step.walk.length(b);
    carries[i] =
        lane.first < length
            ? value_or_zero(carry_before<C>(a.step, d, reverse, lane.first, b, unit, length, a.step.carry_time))
            : C(0);
  });
  block.begin();

  for (int64_t s = lane.first; s < lane.end; ++s) {
    const int64_t turn = s - lane.first;
    fetch(s + 1);
    block.multiply(turn);
    door::wait_copies<1>();
    const auto after = block.state(turn + 1);
    E* kept = nullptr;
    if (a.before_time > 0 && s + 1 < a.step.walk.T)
      kept = static_cast<E*>(d.after) + turn * a.before_time;
    else if (a.before_time == 0 && s + 1 == lane.end)
      kept = static_cast<E*>(d.after);
    block.each_item(B, H, [&](int i, int n, int u, int64_t b, int64_t unit) {
      C x[G], h[G];
      FR_UNROLL
      for (int g = 0; g < G; ++g) {
        x[g] = inputs[(s % 2 * G + g) * items + i];
        const C own = bias[g * shape.units + u];
        h[g] = block.sum(g * shape.units + u, n) + own;
      }
      C carry = carries[i];
      const int64_t length = lengths[n];
      const E next = forward_cell<Cell, E>(a.step, d, reverse, s, b, unit, length, x, h, carry);
      carries[i] = carry;
      after[block.place(n, block.rank(), 0, u)] = next;
      if (kept) kept[b * a.step.Hp + unit] = next;
    });
    if (s + 1 < lane.end) block.send(turn + 1);
  }
}

template <class Cell, class E, int NT>
FR_KERNEL void FR_LAUNCH_BOUNDS(kClusterThreads, 1) cluster_forward(const FR_CONSTANT ClusterForward a) {
  if constexpr (door::kClusters) run_forward<Cell, E, NT>(a);
}

// ---------------------------------------------------------------------------------------------------------- backward
template <class Cell, class E, int NT>
FR_DEVICE void run_backward(const ClusterBackward& a) {
  using C = float;
  constexpr int G = Cell::gates, N = Cell::dgate_blocks, kTape = Cell::tape_blocks;
  using In = BackwardInputs<Cell>;
  constexpr int kInputs = In::kBeforeThePrevious;
  static_assert(kInputs == kTape + kBackwardInputs, "cluster.hpp makes room for them");
  const ClusterShape& shape = a.shape;
  const ClusterLane& lane = a.lane[door::block_y()];
  const bool reverse = lane.reverse != 0;
  const BackwardDirection& d = a.step.direction[door::block_y()];
  const int64_t B = a.step.B, H = a.step.H, Hp = a.step.Hp;
  ClusterBlock<E, NT> block(shape);
  const int items = block.items();
  const int64_t b0 = block.row();

  const E* const r = static_cast<const E*>(d.r_back);
  block.load([&](int m) { return block.unit() + m < H ? r + (block.unit() + m) * G * Hp : nullptr; }, H, Hp);

  const auto lengths = block.lengths(a.step.walk, B);
  const auto dcarries = door::shared<C>(shape.carry_at, items);
  const auto inputs = door::shared<C>(shape.input_at, 2 * kInputs * items);
  if (lane.end < a.step.walk.T) {
    const E* const next = static_cast<const E*>(d.next) + Cell::h_first * Hp;
    const auto first_state = block.state(0);
    for (int i = door::thread(); i < shape.blocks * G * items; i += kClusterThreads) {
      const int q = i / (G * items), part = i / items % G, n = i % items / shape.units, u = i % shape.units;
      const int64_t k = static_cast<int64_t>(q) * shape.units + u;
      if (k < H && b0 + n < B) first_state[block.place(n, q, part, u)] = next[((b0 + n) * N + part) * Hp + k];
    }
  }

  const auto fetch = [&](int64_t s) {
    if (s >= lane.first) {
      block.each_item(B, H, [&](int i, int, int, int64_t b, int64_t unit) {
        const int64_t length = a.step.walk.length(b);
        if (s >= length) return;
        backward_inputs<Cell, C>(a.step, d, reverse, s, b, unit, length, [&](int k, const C* from) {
          const C* const any = static_cast<const C*>(d.carry);
          door::copy_async4(inputs + ((s % 2 * kInputs + k) * items + i), from ? from : any, from ? 4 : 0);
        });
      });
    }
    door::commit_copies();
  };
  fetch(lane.end - 1);
  block.each_item(B, H, [&](int i, int, int, int64_t b, int64_t unit) {
    const bool handed = Cell::carry_gradient && lane.end < a.step.walk.length(b);
    dcarries[i] = handed ? static_cast<const C*>(d.dcarry)[b * H + unit] : C(0);
  });
  block.begin();

  for (int64_t s = lane.end - 1; s >= lane.first; --s) {
    const int64_t turn = lane.end - 1 - s;
    fetch(s - 1);
    block.multiply(turn);
    door::wait_copies<1>();
    const auto after = block.state(turn + 1);
    E* const dgates = static_cast<E*>(d.dgates) + (s - lane.first) * B * N * Hp;
    block.each_item(B, Hp, [&](int i, int n, int u, int64_t b, int64_t unit) {
      const int64_t length = lengths[n];
      C da[N] = {};
      if (unit < H && s < length) {
        const auto input = [&](int k) {
          const C value = inputs[(s % 2 * kInputs + k) * items + i];
          return value;
        };
        C tape[kTape + 1];
        FR_UNROLL
        for (int k = 0; k < kTape; ++k) tape[k] = input(k);
        const C handed = dcarries[i];
        dcarries[i] = backward_cell<Cell>(a.step, d, reverse, s, b, unit, length, tape, input(In::kBefore),
                                          input(In::kCarry), input(In::kDy), block.sum(u, n), handed, da);
      }
      FR_UNROLL
      for (int k = 0; k < N; ++k) {
        const E stored = narrow<E>(da[k]);
        dgates[(b * N + k) * Hp + unit] = stored;
        const int part = k - Cell::h_first;
        if (part >= 0 && part < G) after[block.place(n, block.rank(), part, u)] = stored;
      }
    });
    if (s > lane.first) block.send(turn + 1);
  }
  if (!Cell::carry_gradient) return;
  block.each_item(B, H, [&](int i, int, int, int64_t b, int64_t unit) {
    const C dcarry = dcarries[i];
    static_cast<C*>(d.dcarry)[b * H + unit] = dcarry;
  });
}

template <class Cell, class E, int NT>
FR_KERNEL void FR_LAUNCH_BOUNDS(kClusterThreads, 1) cluster_backward(const FR_CONSTANT ClusterBackward a) {
  if constexpr (door::kClusters) run_backward<Cell, E, NT>(a);
}

// run(E(), the number of batch tiles as a constant) for what the plan computes.
template <class Run>
Status with_cluster(Element e, int rows, Run&& run) {
  const auto with_rows = [&](auto zero) {
    return rows == 8 ? run(zero, std::integral_constant<int, 1>()) : run(zero, std::integral_constant<int, 4>());
  };
  switch (e) {
    case Element::f32:
      return with_rows(float());
    case Element::tf32:
      return with_rows(Tf32());
    case Element::bf16:
      return with_rows(Bf16());
    case Element::fp16:
      return with_rows(Fp16());
    case Element::tf32x3:
      return with_rows(Tf32x3());
    default:
      return fail(Status::unsupported, "plan cluster computes in float32 and less");
  }
}

inline door::Grid cluster_grid(const ClusterShape& shape, int64_t B, int32_t directions) {
  const int64_t clusters = (B + shape.rows - 1) / shape.rows;
  return {{clusters * shape.blocks, directions}, kClusterThreads, static_cast<size_t>(shape.bytes), shape.blocks};
}

template <template <class> class Cell>
Status cluster_room(Element e, bool backward, const ClusterShape& shape, int32_t* clusters) {
  return with_cluster(e, shape.rows, [&](auto zero, auto tiles) {
    using E = decltype(zero);
    constexpr int NT = decltype(tiles)::value;
    const door::Grid grid = cluster_grid(shape, 1, 1);
    return backward ? door::clusters_at_once<cluster_backward<Cell<Math<float>>, E, NT>>(grid, clusters)
                    : door::clusters_at_once<cluster_forward<Cell<Math<float>>, E, NT>>(grid, clusters);
  });
}

template <template <class> class Cell>
Status launch_cluster_forward(Element e, const ClusterForward& a, Stream stream) {
  return with_cluster(e, a.shape.rows, [&](auto zero, auto tiles) {
    return door::launch<cluster_forward<Cell<Math<float>>, decltype(zero), decltype(tiles)::value>>(
        cluster_grid(a.shape, a.step.B, a.step.directions), stream, a);
  });
}

template <template <class> class Cell>
Status launch_cluster_backward(Element e, const ClusterBackward& a, Stream stream) {
  return with_cluster(e, a.shape.rows, [&](auto zero, auto tiles) {
    return door::launch<cluster_backward<Cell<Math<float>>, decltype(zero), decltype(tiles)::value>>(
        cluster_grid(a.shape, a.step.B, a.step.directions), stream, a);
  });
}

}  // namespace fusedrnn::cuda
