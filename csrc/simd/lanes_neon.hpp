// Lanes of NEON (AArch64): 4 floats or 2 doubles.
#pragma once

#include <arm_neon.h>

namespace fusedrnn::FUSEDRNN_ISA {

template <>
struct Lanes<float> {
  using V = float32x4_t;
  using M = uint32x4_t;  // all bits of an element set or clear
  static constexpr int N = 4;

  FR_INLINE static V set(float s) { return vdupq_n_f32(s); }
  FR_INLINE static V zero() { return vdupq_n_f32(0.0f); }
  FR_INLINE static V load(const float* p) { return vld1q_f32(p); }
  FR_INLINE static void store(float* p, V v) { vst1q_f32(p, v); }
  FR_INLINE static V load(const float* p, int n) {
    if (n >= N) return load(p);
    V v = zero();
    if (n > 0) v = vld1q_lane_f32(p, v, 0);
    if (n > 1) v = vld1q_lane_f32(p + 1, v, 1);
    if (n > 2) v = vld1q_lane_f32(p + 2, v, 2);
    return v;
  }
  FR_INLINE static void store(float* p, V v, int n) {
    if (n >= N) return store(p, v);
    if (n > 0) vst1q_lane_f32(p, v, 0);
    if (n > 1) vst1q_lane_f32(p + 1, v, 1);
    if (n > 2) vst1q_lane_f32(p + 2, v, 2);
  }
  FR_INLINE static V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
  FR_INLINE static V min(V a, V b) { return vbslq_f32(vcltq_f32(a, b), a, b); }  // vmin's rule for NaN is another
  FR_INLINE static V max(V a, V b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  FR_INLINE static M lt(V a, V b) { return vcltq_f32(a, b); }
  FR_INLINE static M gt(V a, V b) { return vcgtq_f32(a, b); }
  FR_INLINE static M eq(V a, V b) { return vceqq_f32(a, b); }
  FR_INLINE static V select(M m, V a, V b) { return vbslq_f32(m, a, b); }
  FR_INLINE static V abs(V v) { return vabsq_f32(v); }
  FR_INLINE static V copysign(V v, V s) { return vbslq_f32(vdupq_n_u32(0x80000000u), s, v); }
  FR_INLINE static V round(V v) { return vrndnq_f32(v); }
  static constexpr float kShift = 0x1.8p23f + 127;
  FR_INLINE static V pow2(V t) { return from_bits(vshlq_n_u32(bits(t), 23)); }
  FR_INLINE static V split(V v, V& e) {
    const uint32x4_t sqrt_half = vdupq_n_u32(0x3f3504f3u);
    const uint32x4_t j = vaddq_u32(bits(v), vsubq_u32(vdupq_n_u32(0x3f800000u), sqrt_half));
    // An integer below 2^23 may be or-ed into the bits of 2^23.
    e = from_bits(vorrq_u32(vshrq_n_u32(j, 23), vdupq_n_u32(0x4b000000u))) - set(0x1p23f + 127);
    return from_bits(vaddq_u32(vandq_u32(j, vdupq_n_u32(0x007fffffu)), sqrt_half));
  }
  FR_INLINE static V sqrt(V v) { return vsqrtq_f32(v); }
  template <int S>
  FR_INLINE static void exchange(V& a, V& b) {
    if constexpr (S == 1) {
      const V low = vtrn1q_f32(a, b);
      b = vtrn2q_f32(a, b);
      a = low;
    } else {
      const float64x2_t wide_a = vreinterpretq_f64_f32(a), wide_b = vreinterpretq_f64_f32(b);
      a = vreinterpretq_f32_f64(vtrn1q_f64(wide_a, wide_b));
      b = vreinterpretq_f32_f64(vtrn2q_f64(wide_a, wide_b));
    }
  }

 private:
  FR_INLINE static uint32x4_t bits(V v) { return vreinterpretq_u32_f32(v); }
  FR_INLINE static V from_bits(uint32x4_t b) { return vreinterpretq_f32_u32(b); }
};

template <>
struct Lanes<double> {
  using V = float64x2_t;
  using M = uint64x2_t;
  static constexpr int N = 2;

  FR_INLINE static V set(double s) { return vdupq_n_f64(s); }
  FR_INLINE static V zero() { return vdupq_n_f64(0.0); }
  FR_INLINE static V load(const double* p) { return vld1q_f64(p); }
  FR_INLINE static void store(double* p, V v) { vst1q_f64(p, v); }
  FR_INLINE static V load(const double* p, int n) {
    if (n >= N) return load(p);
    return n > 0 ? vld1q_lane_f64(p, zero(), 0) : zero();
  }
  FR_INLINE static void store(double* p, V v, int n) {
    if (n >= N) return store(p, v);
    if (n > 0) vst1q_lane_f64(p, v, 0);
  }
  FR_INLINE static V fma(V a, V b, V c) { return vfmaq_f64(c, a, b); }
  FR_INLINE static V min(V a, V b) { return vbslq_f64(vcltq_f64(a, b), a, b); }
  FR_INLINE static V max(V a, V b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }
  FR_INLINE static M lt(V a, V b) { return vcltq_f64(a, b); }
  FR_INLINE static M gt(V a, V b) { return vcgtq_f64(a, b); }
  FR_INLINE static M eq(V a, V b) { return vceqq_f64(a, b); }
  FR_INLINE static V select(M m, V a, V b) { return vbslq_f64(m, a, b); }
  FR_INLINE static V abs(V v) { return vabsq_f64(v); }
  FR_INLINE static V copysign(V v, V s) { return vbslq_f64(vdupq_n_u64(0x8000000000000000u), s, v); }
  FR_INLINE static V round(V v) { return vrndnq_f64(v); }
  static constexpr double kShift = 0x1.8p52 + 1023;
  FR_INLINE static V pow2(V t) { return from_bits(vshlq_n_u64(bits(t), 52)); }
  FR_INLINE static V split(V v, V& e) {
    const uint64x2_t sqrt_half = vdupq_n_u64(0x3fe6a09e667f3bcdu);
    const uint64x2_t j = vaddq_u64(bits(v), vsubq_u64(vdupq_n_u64(0x3ff0000000000000u), sqrt_half));
    // An integer below 2^52 may be or-ed into the bits of 2^52.
    e = from_bits(vorrq_u64(vshrq_n_u64(j, 52), vdupq_n_u64(0x4330000000000000u))) - set(0x1p52 + 1023);
    return from_bits(vaddq_u64(vandq_u64(j, vdupq_n_u64(0x000fffffffffffffu)), sqrt_half));
  }
  FR_INLINE static V sqrt(V v) { return vsqrtq_f64(v); }
  template <int S>
  FR_INLINE static void exchange(V& a, V& b) {
    const V low = vtrn1q_f64(a, b);
    b = vtrn2q_f64(a, b);
    a = low;
  }

 private:
  FR_INLINE static uint64x2_t bits(V v) { return vreinterpretq_u64_f64(v); }
  FR_INLINE static V from_bits(uint64x2_t b) { return vreinterpretq_f64_u64(b); }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
