// The hardware layer's implementation for nvcc: what kernels call, and by includes the host's side. The contract of
// each function is in device.cuh.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "hw/machine_cuda.cuh"
#include "hw/streams_cuda.cuh"

// What a kernel fails by is declared where NDEBUG is not defined, as it is in the plugin's build.
#pragma push_macro("NDEBUG")
#undef NDEBUG
#include <cassert>
#pragma pop_macro("NDEBUG")

namespace fusedrnn::cuda::hw {

FR_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
FR_DEVICE int threads() { return static_cast<int>(blockDim.x); }
FR_DEVICE int lane() { return static_cast<int>(threadIdx.x) & (kWarp - 1); }
FR_DEVICE int warp() { return static_cast<int>(threadIdx.x) / kWarp; }
FR_DEVICE int64_t block_x() { return blockIdx.x; }
FR_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
FR_DEVICE int block_z() { return static_cast<int>(blockIdx.z); }
FR_DEVICE int64_t blocks_x() { return gridDim.x; }
FR_DEVICE int blocks_y() { return static_cast<int>(gridDim.y); }
FR_DEVICE int blocks_z() { return static_cast<int>(gridDim.z); }

FR_DEVICE void barrier() { __syncthreads(); }
FR_DEVICE void warp_barrier() { __syncwarp(); }

template <class T>
FR_DEVICE T shuffle_xor(T value, int mask) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

template <class T>
FR_DEVICE T shuffle(T value, int from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
  return __shfl_sync(0xffffffffu, value, from);
}

FR_DEVICE uint32_t ballot(bool yes) { return __ballot_sync(~0u, yes); }
FR_DEVICE int ones(uint32_t bits) { return __popc(bits); }

extern __shared__ __align__(128) unsigned char dynamic_shared[];

template <class T>
FR_DEVICE Shared<T> shared(int64_t byte_offset, int64_t) {
  return reinterpret_cast<T*>(dynamic_shared + byte_offset);
}

template <class U, class T>
FR_DEVICE Shared<U> recast(Shared<T> s) {
  return reinterpret_cast<U*>(s);
}

FR_DEVICE void wait_on_dependency() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

FR_DEVICE void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

template <class T>
FR_DEVICE void copy_async4(Shared<T> to, const T* from, int bytes_valid) {
  asm volatile(
      "cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
      "l"(__cvta_generic_to_global(from)), "r"(bytes_valid)
      : "memory");
}

template <class T>
FR_DEVICE void copy_async16(Shared<T> to, const T* from, int bytes_valid) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
      "l"(__cvta_generic_to_global(from)), "r"(bytes_valid)
      : "memory");
}

FR_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int N>
FR_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// The built-in type of a size: what the caching loads and stores are defined for.
template <size_t Bytes>
struct Word;
template <>
struct Word<1> {
  using type = unsigned char;
};
template <>
struct Word<2> {
  using type = unsigned short;
};
template <>
struct Word<4> {
  using type = unsigned int;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};

template <class To, class From>
FR_DEVICE To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From) && std::is_trivially_copyable_v<To> && std::is_trivially_copyable_v<From>);
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr bool kClusters = false;
#else
constexpr bool kClusters = true;
#endif

FR_DEVICE int cluster_rank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

FR_DEVICE int cluster_blocks() {
  uint32_t blocks;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
  return static_cast<int>(blocks);
}

FR_DEVICE int64_t keep(int64_t value) {
  asm volatile("" : "+l"(value));
  return value;
}
FR_DEVICE uint32_t keep(uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

FR_DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
FR_DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

template <class T>
FR_DEVICE uint32_t shared_address(Shared<T> s) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(s));
}

template <class T>
FR_DEVICE Remote<T> remote(Shared<T> s, int rank) {
  Remote<T> there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there.address) : "r"(shared_address(s)), "r"(rank));
  return there;
}

template <class T>
FR_DEVICE T load(Remote<T> from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "4, 8 or 16 bytes");
  if constexpr (sizeof(T) == 4) {
    uint32_t v;
    asm volatile("ld.shared::cluster.b32 %0, [%1];" : "=r"(v) : "r"(from.address) : "memory");
    return bit_cast<T>(v);
  } else if constexpr (sizeof(T) == 8) {
    uint64_t v;
    asm volatile("ld.shared::cluster.b64 %0, [%1];" : "=l"(v) : "r"(from.address) : "memory");
    return bit_cast<T>(v);
  } else {
    uint4 v;
    asm volatile("ld.shared::cluster.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(from.address)
                 : "memory");
    return bit_cast<T>(v);
  }
}

template <class T>
FR_DEVICE void store(Remote<T> to, T value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "4, 8 or 16 bytes");
  if constexpr (sizeof(T) == 4) {
    asm volatile("st.shared::cluster.b32 [%0], %1;" ::"r"(to.address), "r"(bit_cast<uint32_t>(value)) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    asm volatile("st.shared::cluster.b64 [%0], %1;" ::"r"(to.address), "l"(bit_cast<uint64_t>(value)) : "memory");
  } else {
    const uint4 v = bit_cast<uint4>(value);
    asm volatile("st.shared::cluster.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to.address), "r"(v.x), "r"(v.y), "r"(v.z),
                 "r"(v.w)
                 : "memory");
  }
}

// The fence makes the object known to the cluster, whatever barrier follows.
FR_DEVICE void mbarrier_init(Shared<Mbarrier> m, int arrivals) {
  asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], %1;\n\t"
      "fence.mbarrier_init.release.cluster;" ::"r"(shared_address(m)),
      "r"(arrivals)
      : "memory");
}

FR_DEVICE void mbarrier_arrive(Remote<Mbarrier> m) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(m.address) : "memory");
}

FR_DEVICE void mbarrier_arrive_expect(Shared<Mbarrier> m, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(m)), "r"(bytes)
               : "memory");
}

// A wait that no other block ends must not hang the GPU: after this many seconds of it the kernel fails, and says on
// stderr which wait it was. 0 waits for ever, to measure what the limit costs.
#ifndef FUSEDRNN_WAIT_SECONDS
#define FUSEDRNN_WAIT_SECONDS 20
#endif
class WaitLimit {
 public:
  // After a poll in vain. The clock is read now and then only.
  FR_DEVICE void in_vain(const char* wait) {
    if constexpr (FUSEDRNN_WAIT_SECONDS > 0) {
      if (++polls_ % 1024 != 0) return;
      uint64_t now;
      asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
      if (begin_ == 0) begin_ = now;
      constexpr uint64_t kNanoseconds = FUSEDRNN_WAIT_SECONDS * UINT64_C(1000000000);
      if (now - begin_ > kNanoseconds) __assert_fail("the wait ends", __FILE__, __LINE__, wait);
    }
  }

 private:
  uint32_t polls_ = 0;
  uint64_t begin_ = 0;
};

FR_DEVICE void mbarrier_wait(Shared<Mbarrier> m, int parity) {
  WaitLimit limit;
  while (true) {
    uint32_t ended;
    asm volatile(
        "{\n\t"
        ".reg .pred ended;\n\t"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 ended, [%1], %2;\n\t"
        "selp.u32 %0, 1, 0, ended;\n\t"
        "}"
        : "=r"(ended)
        : "r"(shared_address(m)), "r"(parity)
        : "memory");
    if (ended != 0) return;
    limit.in_vain("mbarrier_wait");
  }
}

template <class T>
FR_DEVICE void store_async(Remote<T> to, T value, Remote<Mbarrier> m) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "4, 8 or 16 bytes");
  if constexpr (sizeof(T) == 4) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(to.address),
                 "r"(bit_cast<uint32_t>(value)), "r"(m.address)
                 : "memory");
  } else if constexpr (sizeof(T) == 8) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b64 [%0], %1, [%2];" ::"r"(to.address),
                 "l"(bit_cast<uint64_t>(value)), "r"(m.address)
                 : "memory");
  } else {
    const uint4 v = bit_cast<uint4>(value);
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to.address),
        "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(m.address)
        : "memory");
  }
}

// Released and acquired for the whole GPU: the acquisition is a fence behind the polls, for each poll that acquires
// would empty the L1 cache. The poll takes turns with the other warps of the multiprocessor.
FR_DEVICE void flag_post(uint32_t* flag, uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(flag)), "r"(value) : "memory");
}

FR_DEVICE void flag_poll(const uint32_t* flag, uint32_t value) {
  WaitLimit limit;
  while (true) {
    uint32_t posted;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(posted) : "l"(__cvta_generic_to_global(flag)) : "memory");
    if (static_cast<int32_t>(posted - value) >= 0) break;
    limit.in_vain("flag_poll");
  }
  asm volatile("fence.acq_rel.gpu;" ::: "memory");
}

template <class T>
FR_DEVICE T load(const T* p) {
  return *p;
}

template <class T>
FR_DEVICE T load_constant(const T* p) {
  return bit_cast<T>(__ldg(reinterpret_cast<const typename Word<sizeof(T)>::type*>(p)));
}

template <class T>
FR_DEVICE T load_once(const T* p) {
  return bit_cast<T>(__ldcs(reinterpret_cast<const typename Word<sizeof(T)>::type*>(p)));
}

template <class T>
FR_DEVICE void store(T* p, T value) {
  *p = value;
}

template <class T>
FR_DEVICE void store_once(T* p, T value) {
  using W = typename Word<sizeof(T)>::type;
  __stcs(reinterpret_cast<W*>(p), bit_cast<W>(value));
}

FR_BOTH float reciprocal(float x) {
#if defined(__CUDA_ARCH__)
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
#else
  return 1.0f / x;
#endif
}

FR_DEVICE float to_float(Bf16 value) { return __uint_as_float(static_cast<uint32_t>(value.bits) << 16); }
FR_DEVICE float to_float(Fp16 value) { return __half2float(__ushort_as_half(value.bits)); }
FR_DEVICE Bf16 to_bf16(float value) { return {__bfloat16_as_ushort(__float2bfloat16_rn(value))}; }
FR_DEVICE Fp16 to_fp16(float value) { return {__half_as_ushort(__float2half_rn(value))}; }

FR_DEVICE uint32_t to_tf32(float value) {
#if __CUDA_ARCH__ >= 900
  uint32_t bits;
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
#else
  // sm_80 can round ties only away from zero.
  const uint32_t bits = __float_as_uint(value);
  if (value != value) return 0x7fffffffu;
  return (bits + 0xfffu + (bits >> 13 & 1u)) & ~0x1fffu;
#endif
}

FR_DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

FR_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

FR_DEVICE void mma_fp16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <bool transposed, class T>
FR_DEVICE void load_matrices(Shared<T> row, uint32_t (&words)[4]) {
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(at)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(at)
                 : "memory");
}

}  // namespace fusedrnn::cuda::hw
