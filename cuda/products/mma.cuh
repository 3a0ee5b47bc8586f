// A warp's share of a product on the tensor cores: MT x NT tiles of 16 x 8, operands tf32, tf32x3, bf16 or fp16, sums
// float32.
//
// Words of 32 bits, one tf32 or two 16-bit values of neighbouring k, come from shared memory four a lane at a time, as
// matrices of 8 rows by 16 bytes; where 16-bit operands have rows side by side, transposed on the way. tf32 that lies
// so is read word by word. No such read meets a bank twice (tile.cuh).
#pragma once

#include "products/tile.cuh"

namespace fusedrnn::cuda {

// N words of an operand as instructions take them: as they are stored, of tf32x3 both halves.
template <class E, int N>
struct Words {
  uint32_t v[N];
  FR_DEVICE void set(int i, uint32_t word) { v[i] = word; }
};
template <int N>
struct Words<Tf32x3, N> {
  uint32_t big[N], small[N];
  FR_DEVICE void set(int i, uint32_t word) {
    const Halves halves = split(word);
    big[i] = halves.big;
    small[i] = halves.small;
  }
};

// d += A B of a tile by one instruction, of tf32x3 by three.
FR_DEVICE void mma(float (&d)[4], const Words<Tf32, 4>& a, const Words<Tf32, 2>& b) { hw::mma_tf32(d, a.v, b.v); }
FR_DEVICE void mma(float (&d)[4], const Words<Bf16, 4>& a, const Words<Bf16, 2>& b) { hw::mma_bf16(d, a.v, b.v); }
FR_DEVICE void mma(float (&d)[4], const Words<Fp16, 4>& a, const Words<Fp16, 2>& b) { hw::mma_fp16(d, a.v, b.v); }

// A sum of its own for each tile, added to d by the ordinary units: tensor cores cut off what does not fit a sum
// instead of rounding it, and over many steps of k in one direction that would cost digits which are wanted here.
FR_DEVICE void mma(float (&d)[4], const Words<Tf32x3, 4>& a, const Words<Tf32x3, 2>& b) {
  float sum[4] = {0, 0, 0, 0};
  hw::mma_tf32(sum, a.small, b.big);
  hw::mma_tf32(sum, a.big, b.small);
  hw::mma_tf32(sum, a.big, b.big);
  FR_UNROLL
  for (int e = 0; e < 4; ++e) d[e] = d[e] + sum[e];
}

template <class E, int MT, int NT>
struct Mma {
  using Storage = E;
  using C = float;
  static constexpr int kRows = 16 * MT, kColumns = 8 * NT;  // of a warp
  static constexpr int kPerWord = 4 / sizeof(E);
  static constexpr int kStep = 8 * kPerWord;  // k of one instruction

  static constexpr int kUnrolled = std::is_same_v<E, Tf32x3> ? 1 : kDepth<E> / kStep;  // what registers have room for

  static constexpr bool kRegistersLeft = !std::is_same_v<E, Tf32x3>;  // with one group along k

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

  static_assert(NT % 2 == 0, "two tiles of B are read at a time");

  // What this lane has of 16 rows by kStep values of k: words[2 h + p] is of row lane / 4 of half `h` of the rows and
  // part `p` of k, 16 bytes of it (of B, whose rows are columns of the product), or with HalvesFirst words[h + 2 p] (of
  // A).
  template <Major M, int Pitch, bool HalvesFirst>
  FR_DEVICE static void fetch(hw::Shared<E> tile, int row, int k, uint32_t (&words)[4]) {
    const int lane = hw::lane(), eighth = lane % 8, fast = lane / 8 % 2, slow = lane / 16;
    const int half = HalvesFirst ? fast : slow, part = HalvesFirst ? slow : fast;
    if constexpr (M == Major::k) {
      const hw::Shared<E> rows = tile + row * Pitch;
      hw::load_matrices<false>(rows + place_of<E>(half * 8 + eighth, k / kPerWord / 4 + part), words);
    } else if constexpr (kPerWord == 2) {
      hw::load_matrices<true>(tile + ((k + part * 8 + eighth) * Pitch + row + half * 8), words);
    } else {
      FR_UNROLL
      for (int w = 0; w < 4; ++w) {
        const int high = w / 2, low = w % 2;
        const int at = (k + lane % 4 + (HalvesFirst ? high : low) * 4) * Pitch + row + (HalvesFirst ? low : high) * 8;
        words[w] = hw::recast<uint32_t>(tile)[at + lane / 4];
      }
    }
  }

  // acc += A B over the kDepth values of k that two tiles hold; both begin at the warp's first row.
  template <Major MA, Major MB, int PitchA, int PitchB>
  FR_DEVICE void accumulate(hw::Shared<E> a, hw::Shared<E> b) {
    FR_UNROLL_BY(kUnrolled)
    for (int k = 0; k < kDepth<E>; k += kStep) {
      uint32_t words[4];
      Words<E, 4> x[MT];
      FR_UNROLL
      for (int i = 0; i < MT; ++i) {
        fetch<MA, PitchA, true>(a, 16 * i, k, words);
        FR_UNROLL
        for (int w = 0; w < 4; ++w) x[i].set(w, words[w]);
      }
      FR_UNROLL
      for (int j = 0; j < NT; j += 2) {
        fetch<MB, PitchB, false>(b, 8 * j, k, words);
        FR_UNROLL
        for (int h = 0; h < 2; ++h) {
          Words<E, 2> y;
          FR_UNROLL
          for (int w = 0; w < 2; ++w) y.set(w, words[2 * h + w]);
          FR_UNROLL
          for (int i = 0; i < MT; ++i) mma(acc[i][j + h], x[i], y);
        }
      }
    }
  }

  template <Major MA, Major MB, int Pitch>
  FR_DEVICE void store(hw::Shared<float> sums) const {
    using Pair = hw::Vec<float, 2>;
    const int g = hw::lane() / 4, t = hw::lane() % 4;
    const hw::Shared<Pair> pairs = hw::recast<Pair>(sums);
    FR_UNROLL
    for (int i = 0; i < MT; ++i) {
      FR_UNROLL
      for (int j = 0; j < NT; ++j) {
        FR_UNROLL
        for (int e = 0; e < 4; e += 2)
          pairs[(16 * i + g + e / 2 * 8) * (Pitch / 2) + 4 * j + t] = Pair{{acc[i][j][e], acc[i][j][e + 1]}};
      }
    }
  }
};

}  // namespace fusedrnn::cuda
