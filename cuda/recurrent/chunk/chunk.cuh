// A piece of the sequence by a block that keeps its part of R: what the plans `cluster` and `grid` have in common. How
// blocks hand the state round is theirs (cluster/block.cuh, grid/block.cuh).
#pragma once

#include "recurrent/chunk/unit_block.cuh"
#include "recurrent/finish.cuh"

namespace fusedrnn::cuda {

// run(E(), the number of batch tiles as a constant) for what the plans compute: `cluster` one tile of 8 rows, two or
// four; `grid` one or four, in ieee and tf32x3 two.
template <PlanKind plan, class Run>
Status with_tiles(Element e, int rows, Run&& run) {
  constexpr bool kGrid = plan == PlanKind::grid;
  const auto with_rows = [&](auto zero) {
    using E = decltype(zero);
    constexpr int kMany = kGrid && (std::is_same_v<E, float> || std::is_same_v<E, Tf32x3>) ? 2 : 4;
    if constexpr (!kGrid) {
      if (rows == 16) return run(zero, std::integral_constant<int, 2>());
    }
    return rows == 8 ? run(zero, std::integral_constant<int, 1>()) : run(zero, std::integral_constant<int, kMany>());
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
    case Element::f64:
      break;
  }
  return fail(Status::unsupported, "plans cluster and grid compute in float32 and less");
}

// ---------------------------------------------------------------------------------------------------------- forward
template <class Cell, class E, class Args, class Block>
FR_DEVICE void run_forward(const Args& a, Block& block) {
  using C = float;
  constexpr int G = Cell::gates;
  const ClusterShape& shape = a.shape;
  const ClusterLane& lane = a.lane[block.lane()];
  const bool reverse = lane.reverse != 0;
  const ForwardDirection& d = a.step.direction[block.lane()];
  const int64_t B = a.step.B, H = a.step.H;
  const E* const before = static_cast<const E*>(d.before);
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
  const auto bias = hw::shared<C>(shape.bias_at, G * shape.units);
  const auto carries = hw::shared<C>(shape.carry_at, items);
  const auto inputs = hw::shared<C>(shape.input_at, 2 * G * items);
  for (int i = hw::thread(); i < G * shape.units; i += kClusterThreads) {
    const int64_t unit = block.unit() + i % shape.units;
    bias[i] = unit < H ? static_cast<const C*>(d.bias_h)[i / shape.units * H + unit] : C(0);
  }
  block.first_state(B, H, [&](int n, int, int64_t unit) { return before[(b0 + n) * a.step.Hp + unit]; });

  const auto turns = static_cast<uint32_t>(lane.end - lane.first);  // unsigned: halves of it are shifts
  const auto fetch = [&](uint32_t turn) {
    if (turn < turns) {
      const C* const pre = static_cast<const C*>(d.pre) + (turn * B + b0) * G * H + block.unit();
      const auto to = inputs + turn % 2 * G * items;
      block.each_item(B, H, [&](int i, int n, int u, int64_t, int64_t) {
        const C* const from = pre + (n * G * static_cast<int>(H) + u);  // of a tile of rows: 32 bits do
        FR_UNROLL
        for (int g = 0; g < G; ++g) hw::copy_async4(to + (g * items + i), from + g * H);
      });
    }
    hw::commit_copies();
  };
  fetch(0);
  block.each_item(B, H, [&](int i, int, int, int64_t b, int64_t unit) {
    const int64_t length = a.step.walk.length(b);
    carries[i] =
        lane.first < length
            ? value_or_zero(carry_before<C>(a.step, d, reverse, lane.first, b, unit, length, a.step.carry_time))
            : C(0);
  });
  block.begin();

  for (uint32_t turn = 0; turn < turns; ++turn) {
    const int64_t s = lane.first + turn;
    fetch(turn + 1);
    block.multiply(turn);
    hw::wait_copies<1>();
    const auto here = inputs + turn % 2 * G * items;
    E* kept = nullptr;
    if (a.before_time > 0 && s + 1 < a.step.walk.T)
      kept = static_cast<E*>(d.after) + turn * a.before_time;
    else if (a.before_time == 0 && s + 1 == lane.end)
      kept = static_cast<E*>(d.after);
    const auto write = [&](int n, int64_t b, int64_t unit, const Made<Cell, C>& made, E next) {
      const int64_t length = lengths[n];
      if (kept) kept[b * a.step.Hp + unit] = next;
      leave<Cell, E, 1>(a.step, d, reverse, s, b, unit, length, &made);
    };
    // The others wait for the state: what the first item leaves besides, mostly the only one, is written behind it.
    Made<Cell, C> first;
    E first_next = narrow<E>(C(0));
    block.each_item(B, H, [&](int i, int n, int u, int64_t b, int64_t unit) {
      C sum[G], x[G], h[G];
      block.sum(u, n, sum);
      FR_UNROLL
      for (int g = 0; g < G; ++g) {
        x[g] = here[g * items + i];
        const C own = bias[g * shape.units + u];
        h[g] = sum[g] + own;
      }
      const C before = carries[i];
      const int64_t length = lengths[n];
      const Made<Cell, C> made = forward_cell<Cell>(x, h, before);
      const bool on = goes_on(a.step, reverse, s, b, length);
      const E next = narrow<E>(on ? made.out : C(0));
      carries[i] = on ? made.carry : C(0);
      block.put(turn + 1, n, 0, u, next);
      if (i < kClusterThreads) {
        first = made;
        first_next = next;
      } else {
        write(n, b, unit, made, next);
      }
    });
    if (turn + 1 < turns) block.send(turn + 1);
    block.first_item(B, H, [&](int, int n, int, int64_t b, int64_t unit) { write(n, b, unit, first, first_next); });
  }
}

// ---------------------------------------------------------------------------------------------------------- backward
template <class Cell, class E, class Args, class Block>
FR_DEVICE void run_backward(const Args& a, Block& block) {
  using C = float;
  constexpr int G = Cell::gates, N = Cell::dgate_blocks;
  using In = BackwardInputs<Cell>;
  constexpr int kInputs = In::kBeforeThePrevious;
  static_assert(kInputs == Cell::tape_blocks + kBackwardInputs, "cluster.hpp makes room for them");
  const ClusterShape& shape = a.shape;
  const ClusterLane& lane = a.lane[block.lane()];
  const bool reverse = lane.reverse != 0;
  const BackwardDirection& d = a.step.direction[block.lane()];
  const int64_t B = a.step.B, H = a.step.H, Hp = a.step.Hp;
  const int items = block.items();
  const int64_t b0 = block.row();

  const E* const r = static_cast<const E*>(d.r_back);
  block.load([&](int m) { return block.unit() + m < H ? r + (block.unit() + m) * G * Hp : nullptr; }, H, Hp);

  const auto lengths = block.lengths(a.step.walk, B);
  const auto dcarries = hw::shared<C>(shape.carry_at, items);
  const auto inputs = hw::shared<C>(shape.input_at, 2 * kInputs * items);
  const E* const next = static_cast<const E*>(d.next) + Cell::h_first * Hp;
  block.first_state(B, H, [&](int n, int part, int64_t unit) {
    return lane.end < a.step.walk.T ? next[((b0 + n) * N + part) * Hp + unit] : narrow<E>(C(0));
  });

  const auto turns = static_cast<uint32_t>(lane.end - lane.first);
  const auto fetch = [&](uint32_t turn) {
    if (turn < turns) {
      const int64_t s = lane.end - 1 - turn;
      block.each_item(B, H, [&](int i, int, int, int64_t b, int64_t unit) {
        const int64_t length = a.step.walk.length(b);
        if (s >= length) return;
        backward_inputs<Cell, C>(a.step, d, reverse, s, b, unit, length, [&](int k, const C* from) {
          const C* const any = static_cast<const C*>(d.carry);
          hw::copy_async4(inputs + ((turn % 2 * kInputs + k) * items + i), from ? from : any, from ? 4 : 0);
        });
      });
    }
    hw::commit_copies();
  };
  fetch(0);
  block.each_item(B, H, [&](int i, int, int, int64_t b, int64_t unit) {
    const bool handed = Cell::carry_gradient && lane.end < a.step.walk.length(b);
    dcarries[i] = handed ? static_cast<const C*>(d.dcarry)[b * H + unit] : C(0);
  });
  block.begin();

  for (uint32_t turn = 0; turn < turns; ++turn) {
    const int64_t s = lane.end - 1 - turn;
    fetch(turn + 1);
    block.multiply(turn);
    hw::wait_copies<1>();
    const auto write = [&](int64_t b, int64_t unit, const MadeBack<Cell, C>& made) {
      E* const dgates = static_cast<E*>(d.dgates) + (s - lane.first) * B * N * Hp;  // no register is left to keep it in
      FR_UNROLL
      for (int k = 0; k < N; ++k) dgates[(b * N + k) * Hp + unit] = narrow<E>(made.da[k]);
    };
    MadeBack<Cell, C> first;  // as in forward
    block.each_item(B, Hp, [&](int i, int n, int u, int64_t b, int64_t unit) {
      const int64_t length = lengths[n];
      MadeBack<Cell, C> made;
      if (unit < H && s < length) {
        const auto input = [&](int k) {
          const C value = inputs[(turn % 2 * kInputs + k) * items + i];
          return value;
        };
        C sum[1], dcarry = dcarries[i];
        block.sum(u, n, sum);
        const C dy = input(In::kDy);
        gradients_into<Cell, 1>(a.step, d, reverse, s, b, unit, length, &dy, sum, &dcarry);
        made = backward_cell<Cell>(input, sum[0], dcarry);
        dcarries[i] = made.dcarry;
      }
      FR_UNROLL
      for (int part = 0; part < G; ++part) block.put(turn + 1, n, part, u, narrow<E>(made.da[Cell::h_first + part]));
      if (i < kClusterThreads)
        first = made;
      else
        write(b, unit, made);
    });
    if (turn + 1 < turns) block.send(turn + 1);
    block.first_item(B, Hp, [&](int, int, int, int64_t b, int64_t unit) { write(b, unit, first); });
  }
  if (!Cell::carry_gradient) return;
  block.each_item(B, H, [&](int i, int, int, int64_t b, int64_t unit) {
    const C dcarry = dcarries[i];
    static_cast<C*>(d.dcarry)[b * H + unit] = dcarry;
  });
}

}  // namespace fusedrnn::cuda
