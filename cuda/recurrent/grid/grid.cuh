// The kernels of the plan `grid`: a chunk of steps, forward and backward, by groups of blocks (grid/block.cuh).
#pragma once

#include "recurrent/chunk/chunk.cuh"
#include "recurrent/grid/block.cuh"

namespace fusedrnn::cuda {

template <class Cell, class E, int NT>
FR_KERNEL void FR_LAUNCH_BOUNDS(kClusterThreads, 1) grid_forward(const FR_CONSTANT GridForward a) {
  GridBlock<E, NT, Cell::gates> block(a.shape, a.exchange, a.step.directions);
  run_forward<Cell, E>(a, block);
}

template <class Cell, class E, int NT>
FR_KERNEL void FR_LAUNCH_BOUNDS(kClusterThreads, 1) grid_backward(const FR_CONSTANT GridBackward a) {
  GridBlock<E, NT, 1> block(a.shape, a.exchange, a.step.directions);
  run_backward<Cell, E>(a, block);
}

inline hw::Grid grid_of_blocks(const GridShape& shape, int64_t groups) {
  hw::Grid grid{{groups * shape.blocks}, kClusterThreads, static_cast<size_t>(shape.bytes)};
  grid.cooperative = true;
  return grid;
}

template <template <class> class Cell>
Status grid_room(Element e, bool backward, const GridShape& shape, int32_t* blocks) {
  return with_tiles<PlanKind::grid>(e, shape.rows, [&](auto zero, auto tiles) {
    using E = decltype(zero);
    constexpr int NT = decltype(tiles)::value;
    const hw::Grid grid = grid_of_blocks(shape, 1);
    return backward ? hw::blocks_at_once<grid_backward<Cell<Math<float>>, E, NT>>(grid, blocks)
                    : hw::blocks_at_once<grid_forward<Cell<Math<float>>, E, NT>>(grid, blocks);
  });
}

// launch(grid, arguments) for as many groups as a launch has, until all have had theirs.
template <class Args, class Launch>
Status by_groups(Args a, Launch&& launch) {
  const int64_t groups = grid_groups(a.shape, a.step.B, a.step.directions);
  Status status = Status::ok;
  for (int64_t first = 0; first < groups && status == Status::ok; first += a.shape.groups) {
    a.exchange.first_group = first;
    const int64_t left = groups - first;
    status = launch(grid_of_blocks(a.shape, left < a.shape.groups ? left : a.shape.groups), a);
  }
  return status;
}

template <template <class> class Cell>
Status launch_grid_forward(Element e, const GridForward& a, Stream stream) {
  return with_tiles<PlanKind::grid>(e, a.shape.rows, [&](auto zero, auto tiles) {
    return by_groups(a, [&](const hw::Grid& grid, const GridForward& some) {
      return hw::launch<grid_forward<Cell<Math<float>>, decltype(zero), decltype(tiles)::value>>(grid, stream, some);
    });
  });
}

template <template <class> class Cell>
Status launch_grid_backward(Element e, const GridBackward& a, Stream stream) {
  return with_tiles<PlanKind::grid>(e, a.shape.rows, [&](auto zero, auto tiles) {
    return by_groups(a, [&](const hw::Grid& grid, const GridBackward& some) {
      return hw::launch<grid_backward<Cell<Math<float>>, decltype(zero), decltype(tiles)::value>>(grid, stream, some);
    });
  });
}

template <template <class> class Cell>
GridSteps grid_of() {
  return {grid_room<Cell>, launch_grid_forward<Cell>, launch_grid_backward<Cell>};
}

}  // namespace fusedrnn::cuda
