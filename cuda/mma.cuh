// A warp's share of a product on the tensor cores: MT x NT tiles of 16 x 8, operands tf32, bf16 or fp16, sums float32.
//
// Fragments are read from shared memory one 32-bit word at a time, a word being one tf32 or two 16-bit values of
// neighbouring k; pitches (tile.cuh) are such that the 32 words of a read lie in 32 banks. Where k is not contiguous,
// pairs of 16-bit values are put together from two reads.
#pragma once

#include "tile.cuh"

namespace fusedrnn::cuda {

FR_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Tf32) { door::mma_tf32(d, a, b); }
FR_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Bf16) { door::mma_bf16(d, a, b); }
FR_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Fp16) { door::mma_fp16(d, a, b); }

template <class E, int MT, int NT>
struct Mma {
  using Storage = E;
  using C = float;
  static constexpr int kRows = 16 * MT, kColumns = 8 * NT;  // of a warp
  static constexpr int kPerWord = 4 / sizeof(E);
  static constexpr int kStep = 8 * kPerWord;  // k of one instruction

  float acc[MT][NT][4];

  FR_DEVICE void clear() {
    FR_UNROLL
    for (int i = 0; i < MT; ++i) {
      FR_UNROLL
      for (int j = 0; j < NT; ++j) {
        FR_UNROLL
        for (int e = 0; e < 4; ++e) acc[i][j][e] = 0;
      }
    }
  }

  // The word that holds k = kPerWord * word .. of one row.
  template <Major M, int Pitch>
  FR_DEVICE static uint32_t fetch(door::Shared<E> tile, int row, int word) {
    if constexpr (M == Major::k) {
      return door::recast<uint32_t>(tile)[row * (Pitch / kPerWord) + word];
    } else if constexpr (kPerWord == 1) {
      return door::recast<uint32_t>(tile)[word * Pitch + row];
    } else {
      const E low = tile[2 * word * Pitch + row], high = tile[(2 * word + 1) * Pitch + row];
      return door::pair(low, high);
    }
  }

  // acc += A B over the kDepth values of k that two tiles hold; both begin at the warp's first row.
  template <Major MA, Major MB, int PitchA, int PitchB>
  FR_DEVICE void accumulate(door::Shared<E> a, door::Shared<E> b) {
    const int g = door::lane() / 4, t = door::lane() % 4;
    FR_UNROLL
    for (int k = 0; k < kDepth<E>; k += kStep) {
      const int word = k / kPerWord + t;
      uint32_t x[MT][4];
      FR_UNROLL
      for (int i = 0; i < MT; ++i) {
        x[i][0] = fetch<MA, PitchA>(a, 16 * i + g, word);
        x[i][1] = fetch<MA, PitchA>(a, 16 * i + g + 8, word);
        x[i][2] = fetch<MA, PitchA>(a, 16 * i + g, word + 4);
        x[i][3] = fetch<MA, PitchA>(a, 16 * i + g + 8, word + 4);
      }
      FR_UNROLL
      for (int j = 0; j < NT; ++j) {
        const uint32_t y[2] = {fetch<MB, PitchB>(b, 8 * j + g, word), fetch<MB, PitchB>(b, 8 * j + g, word + 4)};
        FR_UNROLL
        for (int i = 0; i < MT; ++i) mma(acc[i][j], x[i], y, E());
      }
    }
  }

  template <Major MA, Major MB, int Pitch>
  FR_DEVICE void store(door::Shared<float> sums) const {
    const int g = door::lane() / 4, t = door::lane() % 4;
    FR_UNROLL
    for (int i = 0; i < MT; ++i) {
      FR_UNROLL
      for (int j = 0; j < NT; ++j) {
        FR_UNROLL
        for (int e = 0; e < 4; ++e) sums[(16 * i + g + e / 2 * 8) * Pitch + 8 * j + 2 * t + e % 2] = acc[i][j][e];
      }
    }
  }
};

}  // namespace fusedrnn::cuda
