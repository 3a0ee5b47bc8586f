// Conversions between float and the narrow formats, in integers: round to nearest, ties to even; NaN becomes the one
// that the hardware's conversion gives. And the hardware's reciprocal.
#pragma once

#include <cstdint>
#include <cstring>

namespace fusedrnn::cuda::simt {

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// 1 / x of a normal x, off by an ulp at most: which way is drawn from x, for the hardware's errors are its own.
inline float rough_reciprocal(float x) {
  const uint32_t drawn = bits_of(x) * 0x9e3779b1u >> 30;
  return x != x ? x : float_of(bits_of(1.0f / x) + drawn % 3 - 1);
}

// Drops `count` low bits of a float's bits. A carry out of the significand goes to the exponent, as it should.
inline uint32_t round_off(uint32_t bits, int count) {
  const uint32_t odd = bits >> count & 1u;
  return (bits + ((1u << (count - 1)) - 1u + odd)) >> count;
}

inline uint32_t tf32_bits(float value) { return value != value ? 0x7fffffffu : round_off(bits_of(value), 13) << 13; }

inline uint16_t bf16_bits(float value) {
  return static_cast<uint16_t>(value != value ? 0x7fffu : round_off(bits_of(value), 16));
}

inline float float_of_bf16(uint16_t bits) { return float_of(static_cast<uint32_t>(bits) << 16); }

inline uint16_t fp16_bits(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  constexpr uint32_t kOverflow = 0x477ff000u;        // 65520, the tie between the largest number and 2^16
  constexpr uint32_t kSmallestNormal = 0x38800000u;  // 2^-14
  if (value != value) return 0x7fffu;
  if (magnitude >= kOverflow) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < kSmallestNormal) {
    // Floats in [0.5, 1) are 2^-24 apart, as the subnormal numbers are: adding 0.5 rounds to one of them.
    return static_cast<uint16_t>(sign | (bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f)));
  }
  return static_cast<uint16_t>(sign | (round_off(magnitude, 13) - (112u << 10)));
}

inline float float_of_fp16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = bits >> 10 & 0x1fu, significand = bits & 0x3ffu;
  if (exponent == 0) {
    const float value = static_cast<float>(significand) * 0x1p-24f;
    return sign != 0 ? -value : value;
  }
  if (exponent == 31) return float_of(sign | 0x7f800000u | significand << 13);
  return float_of(sign | (exponent + 112u) << 23 | significand << 13);
}

}  // namespace fusedrnn::cuda::simt
