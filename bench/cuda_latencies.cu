// What the plans of a recurrent net hang on and no data sheet says: a few lines a number, on this machine's GPU.
//
//   nvcc -arch=sm_90 -std=c++17 -Icuda -Icsrc bench/cuda_latencies.cu -o build/cuda_latencies && build/cuda_latencies
//
//   exchange   nanoseconds of a turn in which every block of a cluster sends all others a slice and waits for theirs
//   room       clusters that the device runs at once when a block has 215 KB of shared memory
//   grid       nanoseconds of a meeting of all blocks: the runtime's grid barrier, and a flag for each block
//   graph      microseconds between kernels that do nothing, launched one by one and as a graph
//
// Not part of the package: what is called here of CUDA directly has no place behind the door yet.
#include <cooperative_groups.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "device.cuh"

namespace {

using namespace fusedrnn;
using namespace fusedrnn::cuda;

void require(Status status) {
  if (status == Status::ok) return;
  std::fprintf(stderr, "%s\n", status_text());
  std::exit(1);
}

void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
  std::exit(1);
}

// Milliseconds of run() on the device: the least of five, after one that does not count.
template <class Run>
float milliseconds(Run run) {
  cudaEvent_t begin, end;
  require(cudaEventCreate(&begin));
  require(cudaEventCreate(&end));
  float least = 1e30f;
  for (int i = 0; i < 6; ++i) {
    require(cudaEventRecord(begin));
    run();
    require(cudaEventRecord(end));
    require(cudaEventSynchronize(end));
    float time;
    require(cudaEventElapsedTime(&time, begin, end));
    if (i > 0 && time < least) least = time;
  }
  return least;
}

// ---------------------------------------------------------------------------------------------------------- exchange
constexpr int kThreads = 256;

struct Exchange {
  int32_t vectors, turns;  // 16 bytes each, of a block's slice
};

// Two states and their mbarriers, as in cuda/cluster_block.cuh, with nothing to compute.
FR_KERNEL void exchange(const FR_CONSTANT Exchange a) {
  using Vector = door::Vec<uint32_t, 4>;
  const int rank = door::cluster_rank(), blocks = door::cluster_blocks(), all = blocks * a.vectors;
  const door::Shared<door::Mbarrier> full = door::shared<door::Mbarrier>(0, 2);
  const door::Shared<Vector> states = door::shared<Vector>(16, 2 * all);
  for (int i = door::thread(); i < 2 * all; i += kThreads) states[i] = {{1, 2, 3, 4}};
  if (door::thread() == 0) {
    door::mbarrier_init(full, 1);
    door::mbarrier_init(full + 1, 1);
  }
  door::cluster_arrive();
  door::cluster_wait();
  for (int turn = 0; turn < a.turns; ++turn) {
    if (turn > 0) door::mbarrier_wait(full + turn % 2, (turn - 1) / 2 % 2);
    door::barrier();
    if (turn + 1 == a.turns) break;
    const door::Shared<Vector> slice = states + ((turn + 1) % 2 * all + rank * a.vectors);
    const door::Shared<door::Mbarrier> at = full + (turn + 1) % 2;
    if (door::thread() == 0) door::mbarrier_arrive_expect(at, (blocks - 1) * a.vectors * 16);
    for (int i = door::thread(); i < (blocks - 1) * a.vectors; i += kThreads) {
      const int hop = rank + 1 + i / a.vectors, to = hop < blocks ? hop : hop - blocks;
      const Vector value = slice[i % a.vectors];
      door::store_async(door::remote(slice + i % a.vectors, to), value, door::remote(at, to));
    }
  }
}

void exchanges() {
  std::printf("exchange: ns a turn, bytes of a block's slice across\n%8s", "blocks");
  constexpr int kBytes[] = {128, 512, 1024, 2048, 4096};
  for (const int bytes : kBytes) std::printf("%8d", bytes);
  for (const int blocks : {2, 4, 8, 16}) {
    std::printf("\n%8d", blocks);
    for (const int bytes : kBytes) {
      const int turns = 20000;
      const door::Grid grid{{blocks}, kThreads, static_cast<size_t>(16 + 2 * blocks * bytes), blocks};
      const float time = milliseconds([&] { require(door::launch<exchange>(grid, nullptr, {bytes / 16, turns})); });
      std::printf("%8.0f", time * 1e6f / turns);
    }
  }
  std::printf("\n\nroom: clusters at once, 215 KB a block\n");
  for (const int blocks : {1, 2, 4, 8, 12, 16}) {
    int32_t clusters;
    require(door::clusters_at_once<exchange>({{blocks}, kThreads, 215 * 1024, blocks}, &clusters));
    std::printf("%8d blocks: %d\n", blocks, clusters);
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

void grids() {
  door::Limits limits;
  require(door::device_limits(&limits));
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
  std::printf("\ngrid: ns a meeting of %d blocks: barrier %.0f, flags %.0f\n", limits.multiprocessors,
              barrier * 1e6f / turns, by_flag * 1e6f / turns);
}

// ------------------------------------------------------------------------------------------------------------- graph
__global__ void nothing() {}

void graphs() {
  constexpr int kKernels = 1000;
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t ready;
  const auto all = [&] {
    for (int i = 0; i < kKernels; ++i) nothing<<<1, 32, 0, stream>>>();
  };
  require(cudaStreamCreateWithFlags(&stream, cudaStreamDefault));
  require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  all();
  require(cudaStreamEndCapture(stream, &graph));
  require(cudaGraphInstantiate(&ready, graph, 0));
  const float launched = milliseconds(all), replayed = milliseconds([&] { require(cudaGraphLaunch(ready, stream)); });
  std::printf("graph: us a kernel: launched %.2f, in a graph %.2f\n", launched * 1e3f / kKernels,
              replayed * 1e3f / kKernels);
}

}  // namespace

int main() {
  exchanges();
  grids();
  graphs();
}
