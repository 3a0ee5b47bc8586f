// What the plans of a recurrent net hang on and no data sheet says: a few lines a number, on this machine's GPU.
// Prints JSON; `python bench/cuda_limits.py` builds and runs it.
//
//   exchange_ns C B    of a turn in which every block of a cluster of C sends all others B bytes and waits for theirs
//   clusters_at_once C that the device runs when a block has 215 KB of shared memory
//   grid_*_ns          of a meeting of all blocks: the runtime's grid barrier, and a flag for each block
//   kernel_us *        between kernels that do nothing: launched one by one, as a graph, and as a graph whose
//                      kernels may begin before the one in front has ended
//
// Not part of the package: what is called here of CUDA directly has no place in the hardware layer.
#include <cooperative_groups.h>

#include "cuda_timing.cuh"

namespace {

using namespace fusedrnn;
using namespace fusedrnn::bench;
using namespace fusedrnn::cuda;

// ---------------------------------------------------------------------------------------------------------- exchange
constexpr int kThreads = 256;

struct Exchange {
  int32_t vectors, turns;  // 16 bytes each, of a block's slice
};

// Two states and their mbarriers, as in cuda/recurrent/cluster/block.cuh, with nothing to compute.
FR_KERNEL void exchange(const FR_CONSTANT Exchange a) {
  using Vector = hw::Vec<uint32_t, 4>;
  const int rank = hw::cluster_rank(), blocks = hw::cluster_blocks(), all = blocks * a.vectors;
  const hw::Shared<hw::Mbarrier> full = hw::shared<hw::Mbarrier>(0, 2);
  const hw::Shared<Vector> states = hw::shared<Vector>(16, 2 * all);
  for (int i = hw::thread(); i < 2 * all; i += kThreads) states[i] = {{1, 2, 3, 4}};
  if (hw::thread() == 0) {
    hw::mbarrier_init(full, 1);
    hw::mbarrier_init(full + 1, 1);
  }
  hw::cluster_arrive();
  hw::cluster_wait();
  for (int turn = 0; turn < a.turns; ++turn) {
    if (turn > 0) hw::mbarrier_wait(full + turn % 2, (turn - 1) / 2 % 2);
    hw::barrier();
    if (turn + 1 == a.turns) break;
    const hw::Shared<Vector> slice = states + ((turn + 1) % 2 * all + rank * a.vectors);
    const hw::Shared<hw::Mbarrier> at = full + (turn + 1) % 2;
    if (hw::thread() == 0) hw::mbarrier_arrive_expect(at, (blocks - 1) * a.vectors * 16);
    for (int i = hw::thread(); i < (blocks - 1) * a.vectors; i += kThreads) {
      const int hop = rank + 1 + i / a.vectors, to = hop < blocks ? hop : hop - blocks;
      const Vector value = slice[i % a.vectors];
      hw::store_async(hw::remote(slice + i % a.vectors, to), value, hw::remote(at, to));
    }
  }
}

void exchanges(Results& results) {
  constexpr int kTurns = 20000;
  for (const int blocks : {2, 4, 8, 16}) {
    for (const int bytes : {128, 512, 1024, 2048, 4096}) {
      const hw::Grid grid{{blocks}, kThreads, static_cast<size_t>(16 + 2 * blocks * bytes), blocks};
      const float time = milliseconds([&] { require(hw::launch<exchange>(grid, nullptr, {bytes / 16, kTurns})); });
      results.add(time * 1e6 / kTurns, "exchange_ns %d %d", blocks, bytes);
    }
  }
  for (const int blocks : {1, 2, 4, 8, 12, 16}) {
    int32_t clusters;
    require(hw::clusters_at_once<exchange>({{blocks}, kThreads, 215 * 1024, blocks}, &clusters));
    results.add(clusters, "clusters_at_once %d", blocks);
  }
}

// -------------------------------------------------------------------------------------------------------------- grid
__global__ void barriers(int turns) {
  for (int turn = 0; turn < turns; ++turn) cooperative_groups::this_grid().sync();
}

// Each block says which turn it has reached; a warp of every block looks at all of them.
__global__ void flags(volatile unsigned* flag, unsigned first, int turns) {
  for (unsigned turn = first; turn < first + turns; ++turn) {
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      flag[blockIdx.x * 32] = turn;
    }
    if (threadIdx.x < 32) {
      for (unsigned block = threadIdx.x; block < gridDim.x; block += 32)
        while (static_cast<int>(flag[block * 32] - turn) < 0) {
        }
      __threadfence();
    }
    __syncthreads();
  }
}

void grids(Results& results) {
  hw::Limits limits;
  require(hw::device_limits(&limits));
  int turns = 10000;
  unsigned first = 1;
  unsigned* flag;
  require(cudaMalloc(&flag, limits.multiprocessors * 128));
  require(cudaMemset(flag, 0, limits.multiprocessors * 128));
  const dim3 blocks(limits.multiprocessors), threads(kThreads);
  void* barrier_args[] = {&turns};
  void* flag_args[] = {&flag, &first, &turns};
  const float barrier = milliseconds(
      [&] { require(cudaLaunchCooperativeKernel(reinterpret_cast<void*>(barriers), blocks, threads, barrier_args)); });
  const float by_flag = milliseconds([&] {
    require(cudaLaunchCooperativeKernel(reinterpret_cast<void*>(flags), blocks, threads, flag_args));
    first += turns;
  });
  require(cudaFree(flag));
  results.add(barrier * 1e6 / turns, "grid_barrier_ns");
  results.add(by_flag * 1e6 / turns, "grid_flags_ns");
}

// ------------------------------------------------------------------------------------------------------------- graph
__global__ void nothing() {
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
}

// Microseconds a kernel of a row of them, launched and from a graph.
void graphs(Results& results) {
  constexpr int kKernels = 1000;
  cudaStream_t stream;
  require(cudaStreamCreateWithFlags(&stream, cudaStreamDefault));
  for (const bool early : {false, true}) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = early;
    cudaLaunchConfig_t config{};
    config.gridDim = 1;
    config.blockDim = 32;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    const auto all = [&] {
      for (int i = 0; i < kKernels; ++i) require(cudaLaunchKernelEx(&config, nothing));
    };
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    all();
    require(cudaStreamEndCapture(stream, &graph));
    require(cudaGraphInstantiate(&ready, graph, 0));
    const float launched = milliseconds(all, stream);
    const float replayed = milliseconds([&] { require(cudaGraphLaunch(ready, stream)); }, stream);
    results.add(launched * 1e3 / kKernels, early ? "kernel_us launched early" : "kernel_us launched");
    results.add(replayed * 1e3 / kKernels, early ? "kernel_us graph early" : "kernel_us graph");
    require(cudaGraphExecDestroy(ready));
    require(cudaGraphDestroy(graph));
  }
  require(cudaStreamDestroy(stream));
}

}  // namespace

int main() {
  Results results;
  exchanges(results);
  grids(results);
  graphs(results);
}
