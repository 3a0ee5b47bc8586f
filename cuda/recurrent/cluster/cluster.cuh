// The kernels of the plan `cluster`: a piece of the sequence, forward and backward, by a cluster of blocks
// (cluster/block.cuh).
#pragma once

#include "recurrent/chunk/chunk.cuh"
#include "recurrent/cluster/block.cuh"

namespace fusedrnn::cuda {

template <class Cell, class E, int NT>
FR_KERNEL void FR_LAUNCH_BOUNDS(kClusterThreads, 1) cluster_forward(const FR_CONSTANT ClusterForward a) {
  if constexpr (hw::kClusters) {
    ClusterBlock<E, NT> block(a.shape);
    run_forward<Cell, E>(a, block);
  }
}

template <class Cell, class E, int NT>
FR_KERNEL void FR_LAUNCH_BOUNDS(kClusterThreads, 1) cluster_backward(const FR_CONSTANT ClusterBackward a) {
  if constexpr (hw::kClusters) {
    ClusterBlock<E, NT> block(a.shape);
    run_backward<Cell, E>(a, block);
  }
}

inline hw::Grid cluster_grid(const ClusterShape& shape, int64_t B, int32_t directions) {
  const int64_t clusters = (B + shape.rows - 1) / shape.rows;
  return {{clusters * shape.blocks, directions}, kClusterThreads, static_cast<size_t>(shape.bytes), shape.blocks};
}

template <template <class> class Cell>
Status cluster_room(Element e, bool backward, const ClusterShape& shape, int32_t* clusters) {
  return with_tiles<PlanKind::cluster>(e, shape.rows, [&](auto zero, auto tiles) {
    using E = decltype(zero);
    constexpr int NT = decltype(tiles)::value;
    const hw::Grid grid = cluster_grid(shape, 1, 1);
    return backward ? hw::clusters_at_once<cluster_backward<Cell<Math<float>>, E, NT>>(grid, clusters)
                    : hw::clusters_at_once<cluster_forward<Cell<Math<float>>, E, NT>>(grid, clusters);
  });
}

template <template <class> class Cell>
Status launch_cluster_forward(Element e, const ClusterForward& a, Stream stream) {
  return with_tiles<PlanKind::cluster>(e, a.shape.rows, [&](auto zero, auto tiles) {
    return hw::launch<cluster_forward<Cell<Math<float>>, decltype(zero), decltype(tiles)::value>>(
        cluster_grid(a.shape, a.step.B, a.step.directions), stream, a);
  });
}

template <template <class> class Cell>
Status launch_cluster_backward(Element e, const ClusterBackward& a, Stream stream) {
  return with_tiles<PlanKind::cluster>(e, a.shape.rows, [&](auto zero, auto tiles) {
    return hw::launch<cluster_backward<Cell<Math<float>>, decltype(zero), decltype(tiles)::value>>(
        cluster_grid(a.shape, a.step.B, a.step.directions), stream, a);
  });
}

}  // namespace fusedrnn::cuda
