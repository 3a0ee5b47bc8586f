// What this machine's GPU can do at best: rates of its arithmetic and bandwidths. Prints JSON; `python
// bench/cuda_limits.py` builds and runs it.
//
//   copy_gbytes, read_gbytes     of memory, bytes read and written; bytes read
//   l2_gbytes                    read again and again from what fits there
//   shared_gbytes                read by all multiprocessors together, each from its own
//   fma_tflops, mma_*_tflops     from registers, two operations a multiply-add; mma is `mma.sync`
#include "cuda_timing.cuh"
#include "products/element.cuh"

namespace {

using namespace fusedrnn;
using namespace fusedrnn::bench;
using namespace fusedrnn::cuda;

constexpr int kThreads = 256, kBlocksEach = 4;  // blocks of a multiprocessor

__global__ void copy(const float4* from, float4* to, int64_t n) {
  const int64_t step = int64_t{4} * gridDim.x * blockDim.x;
  for (int64_t i = int64_t{4} * blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
    float4 v[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) v[e] = from[i + e * blockDim.x];
#pragma unroll
    for (int e = 0; e < 4; ++e) to[i + e * blockDim.x] = v[e];
  }
}

// Reads n vectors `times` times, past the first-level cache; the sum keeps the reads from being left out.
__global__ void read(const float4* from, float* to, int64_t n, int times) {
  float sum = 0;
  const int64_t step = int64_t{4} * gridDim.x * blockDim.x;
  for (int time = 0; time < times; ++time) {
    for (int64_t i = int64_t{4} * blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float4 v = __ldcg(from + i + e * blockDim.x);
        sum += v.x + v.y + v.z + v.w;
      }
    }
  }
  if (sum == 1.0f) *to = sum;
}

__global__ void read_shared(float* to, int times) {
  __shared__ float4 tile[2048];
  for (int i = threadIdx.x; i < 2048; i += blockDim.x) tile[i] = make_float4(i, 1, 2, 3);
  __syncthreads();
  float4 sum = make_float4(0, 0, 0, 0);
  for (int time = 0; time < times; ++time) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float4 v = tile[(threadIdx.x + 256 * i + time) & 2047];
      sum.x += v.x;
      sum.y += v.y;
      sum.z += v.z;
      sum.w += v.w;
    }
  }
  if (sum.x + sum.y + sum.z + sum.w == 1.0f) *to = sum.x;
}

constexpr int kChains = 16, kTurns = 4000;

__global__ void fmas(float* to, float x, float y) {
  float sum[kChains];
#pragma unroll
  for (int c = 0; c < kChains; ++c) sum[c] = threadIdx.x + c;
  for (int turn = 0; turn < kTurns; ++turn) {
#pragma unroll
    for (int c = 0; c < kChains; ++c) sum[c] = __fmaf_rn(x, sum[c], y);
  }
#pragma unroll
  for (int c = 1; c < kChains; ++c) sum[0] += sum[c];
  if (sum[0] == 1.0f) *to = sum[0];
}

__device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Tf32) { hw::mma_tf32(d, a, b); }
__device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Bf16) { hw::mma_bf16(d, a, b); }
__device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Fp16) { hw::mma_fp16(d, a, b); }

template <class E>
__global__ void mmas(float* to, uint32_t bits) {
  float sums[kChains / 2][4] = {};
  const uint32_t a[4] = {bits, bits + threadIdx.x, bits, bits}, b[2] = {bits, bits + threadIdx.x};
  for (int turn = 0; turn < kTurns / 8; ++turn) {
#pragma unroll
    for (auto& sum : sums) multiply(sum, a, b, E());
  }
  float all = 0;
  for (auto& sum : sums) all += sum[0] + sum[1] + sum[2] + sum[3];
  if (all == 1.0f) *to = all;
}

template <class E>
void tensor_cores(Results& results, const char* name, int blocks, float* to) {
  const float time = milliseconds([&] { mmas<E><<<blocks, kThreads>>>(to, 0x3c003c00); });
  const double depth = 32 / sizeof(E), warps = blocks * (kThreads / 32.0);
  results.add(2e-9 * 16 * 8 * depth * (kChains / 2) * (kTurns / 8) * warps / time, "mma_%s_tflops", name);
}

}  // namespace

int main() {
  hw::Limits limits;
  require(hw::device_limits(&limits));
  const int blocks = limits.multiprocessors * kBlocksEach;
  const int64_t vectors = int64_t{1} << 26, few = int64_t{1} << 20;  // 1 GB; 16 MB
  float4 *from, *there;
  float* to;
  require(cudaMalloc(&from, vectors * 16));
  require(cudaMalloc(&there, vectors * 16));
  require(cudaMalloc(&to, 4));
  require(cudaMemset(from, 1, vectors * 16));
  Results results;
  results.add(2e-6 * vectors * 16 / milliseconds([&] { copy<<<blocks, kThreads>>>(from, there, vectors); }),
              "copy_gbytes");
  results.add(1e-6 * vectors * 16 / milliseconds([&] { read<<<blocks, kThreads>>>(from, to, vectors, 1); }),
              "read_gbytes");
  results.add(1e-6 * few * 16 * 50 / milliseconds([&] { read<<<blocks, kThreads>>>(from, to, few, 50); }), "l2_gbytes");
  results.add(
      1e-6 * 16.0 * 8 * 2000 * blocks * kThreads / milliseconds([&] { read_shared<<<blocks, kThreads>>>(to, 2000); }),
      "shared_gbytes");
  results.add(
      2e-9 * kChains * kTurns * blocks * kThreads / milliseconds([&] { fmas<<<blocks, kThreads>>>(to, 0.5f, 1); }),
      "fma_tflops");
  tensor_cores<Tf32>(results, "tf32", blocks, to);
  tensor_cores<Bf16>(results, "bf16", blocks, to);
  tensor_cores<Fp16>(results, "fp16", blocks, to);
  require(cudaGetLastError());
  require(cudaDeviceSynchronize());
  require(cudaFree(from));
  require(cudaFree(there));
  require(cudaFree(to));
}
