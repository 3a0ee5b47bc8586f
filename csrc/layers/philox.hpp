// Which elements dropout keeps: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), a
// counter-based generator, so that the mask of any element can be made anywhere, in any order, and is never stored.
//
// Element i (flat, 64 bits) of stream s under a 64-bit key takes word i mod 4 of the block with
//
//   counter = (low 32 bits of i / 4, high 32 bits of i / 4, s, step),  key = (low half, high half)
//
// step being 0 but for masks that are drawn anew at each step of a sequence, and is kept where that word >= floor(p
// 2^32); a kept element is multiplied by 1 / (1 - p), computed in double and rounded to its type.
#pragma once

#include <stdint.h>

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

struct Dropout {
  uint64_t key;
  const uint64_t* key_at;  // if not nullptr, where the key is instead
  uint32_t stream;
  uint64_t threshold;  // 2^32 drops everything
  double scale;
  uint32_t step = 0;

  Dropout(double p, uint64_t key, const uint64_t* key_at, uint32_t stream)
      : key(key),
        key_at(key_at),
        stream(stream),
        threshold(static_cast<uint64_t>(p * 4294967296.0)),
        scale(p < 1 ? 1 / (1 - p) : 0) {}

  // With the key at hand: for kernels, which may read key_at.
  FR_INLINE Dropout read() const {
    Dropout d = *this;
    if (key_at) d.key = *key_at;
    return d;
  }
};

constexpr uint32_t kPhiloxFactor0 = 0xD2511F53u, kPhiloxFactor2 = 0xCD9E8D57u;

// One of the ten rounds, on one block's counter c under the key of that round.
FR_INLINE void philox_round(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3, uint32_t k0, uint32_t k1) {
  const uint64_t a = static_cast<uint64_t>(c0) * kPhiloxFactor0, b = static_cast<uint64_t>(c2) * kPhiloxFactor2;
  c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
  c1 = static_cast<uint32_t>(b);
  c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
  c3 = static_cast<uint32_t>(a);
}
constexpr int kPhiloxRounds = 10;
constexpr uint32_t kPhiloxKey0 = 0x9E3779B9u, kPhiloxKey1 = 0xBB67AE85u;  // added to the key from round to round

// The words of elements 4 block to 4 block + 3.
FR_INLINE void philox_block(const Dropout& d, uint64_t block, uint32_t (&words)[4]) {
  words[0] = static_cast<uint32_t>(block);
  words[1] = static_cast<uint32_t>(block >> 32);
  words[2] = d.stream;
  words[3] = d.step;
  uint32_t k0 = static_cast<uint32_t>(d.key), k1 = static_cast<uint32_t>(d.key >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round, k0 += kPhiloxKey0, k1 += kPhiloxKey1)
    philox_round(words[0], words[1], words[2], words[3], k0, k1);
}

// The word of one element.
FR_INLINE uint32_t philox_word(const Dropout& d, uint64_t element) {
  uint32_t words[4];
  philox_block(d, element >> 2, words);
  const uint32_t low = element & 1 ? words[1] : words[0], high = element & 1 ? words[3] : words[2];
  return element & 2 ? high : low;
}

constexpr int kPhiloxWords = 128;  // made at a time

// The words of elements [4 block, 4 block + count), in the order of the elements, and some more up to kPhiloxWords.
#if defined(FUSEDRNN_ISA_AVX512) || defined(FUSEDRNN_ISA_AVX2)
// A product of 32-bit values is one instruction on lanes of 64 bits, whose high halves it does not read: so these hold
// anything until the end. The same loop over 32-bit words, which compilers must unpack for it, takes 2 to 4 times as
// long. Two vectors side by side stay in registers; a processor begins the next two while it waits for these.
inline void philox_words(const Dropout& d, uint64_t block, int64_t count, uint32_t* words) {
  constexpr int N = sizeof(WordPairs) / sizeof(uint64_t);
  WordPairs lane;
  for (int i = 0; i < N; ++i) lane[i] = static_cast<uint64_t>(i);
  const WordPairs factor0 = WordPairs{} + kPhiloxFactor0, factor2 = WordPairs{} + kPhiloxFactor2;
  const WordPairs low = WordPairs{} + 0xffffffffu;
  for (int64_t j = 0; j < count; j += 8 * N, block += 2 * N, words += 8 * N) {
    WordPairs c0[] = {lane + block, lane + (block + N)}, c1[] = {c0[0] >> 32, c0[1] >> 32};
    WordPairs c2[] = {WordPairs{} + d.stream, WordPairs{} + d.stream},
              c3[] = {WordPairs{} + d.step, WordPairs{} + d.step};
    uint32_t k0 = static_cast<uint32_t>(d.key), k1 = static_cast<uint32_t>(d.key >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < kPhiloxRounds; ++round, k0 += kPhiloxKey0, k1 += kPhiloxKey1)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        const WordPairs a = multiply_low_words(c0[v], factor0), b = multiply_low_words(c2[v], factor2);
        c0[v] = (b >> 32) ^ c1[v] ^ (WordPairs{} + k0);
        c1[v] = b;
        c2[v] = (a >> 32) ^ c3[v] ^ (WordPairs{} + k1);
        c3[v] = a;
      }
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v)
      store_in_turn(words + 4 * v * N, (c0[v] & low) | (c1[v] << 32), (c2[v] & low) | (c3[v] << 32));
  }
}
#else
inline void philox_words(const Dropout& d, uint64_t block, int64_t count, uint32_t* words) {
  constexpr int kBlocks = 16;  // side by side
  uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
  for (int64_t i = 0; i < count; i += 4 * kBlocks, block += kBlocks, words += 4 * kBlocks) {
    for (int j = 0; j < kBlocks; ++j) {
      c0[j] = static_cast<uint32_t>(block + j);
      c1[j] = static_cast<uint32_t>((block + j) >> 32);
      c2[j] = d.stream;
      c3[j] = d.step;
    }
    uint32_t k0 = static_cast<uint32_t>(d.key), k1 = static_cast<uint32_t>(d.key >> 32);
    for (int round = 0; round < kPhiloxRounds; ++round, k0 += kPhiloxKey0, k1 += kPhiloxKey1)
      for (int j = 0; j < kBlocks; ++j) philox_round(c0[j], c1[j], c2[j], c3[j], k0, k1);
    for (int j = 0; j < kBlocks; ++j) {
      words[4 * j] = c0[j];
      words[4 * j + 1] = c1[j];
      words[4 * j + 2] = c2[j];
      words[4 * j + 3] = c3[j];
    }
  }
}
#endif

// visit(j, whether element first + j is kept) for j in [0, n). What `visit` needs it must hold by value: compilers make
// vectors of the loop only where they see that what it writes is not what it reads.
template <class Visit>
__attribute__((noinline)) void for_elements(const Dropout& d, int64_t n, uint64_t first, Visit visit) {
  alignas(64) uint32_t words[kPhiloxWords];
  const bool keeps = d.threshold >> 32 == 0;  // or drops all: words are compared in 32 bits
  const uint32_t least = static_cast<uint32_t>(d.threshold);
  for (int64_t j = 0; j < n;) {
    const uint64_t at = first + static_cast<uint64_t>(j);
    const int skip = static_cast<int>(at & 3);
    const int64_t left = n - j, count = left < kPhiloxWords - skip ? left : kPhiloxWords - skip;
    philox_words(d, at >> 2, skip + count, words);
    for (int64_t i = 0; i < count; ++i) visit(j + i, keeps && words[skip + i] >= least);
    j += count;
  }
}

// y[j] = dropout of x[j], which is element first + j, for j in [0, n). y may be x. A dropped element is exactly 0,
// whatever x holds there.
template <class T>
void dropout_elements(const Dropout& d, const T* x, T* y, int64_t n, uint64_t first) {
  const T scale = static_cast<T>(d.scale);
  for_elements(d, n, first, [=](int64_t j, bool kept) { y[j] = kept ? x[j] * scale : T(0); });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
