// What all losses share: which entries count, how many, and what becomes of the sum.
#pragma once

#include "gemm/parallel.hpp"
#include "simd/strided.hpp"
#include "simd/wide.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr int64_t kLossBlock = 512;  // entries looked at together; divides kReduceChunk

template <class Target>
constexpr bool kIsClass = false;
template <>
inline constexpr bool kIsClass<int64_t> = true;

// Which of the entries [first, first + n), n <= kLossBlock, count. Target holds an entry's target as it is compared
// with ignore_index (char: never); `wide` entries in a row share one mask value.
template <class Target>
void find_counting(const LossArgs& a, int64_t wide, int64_t first, int64_t n, uint8_t* counts) {
  if (a.mask.data) {
    uint8_t buffer[kLossBlock];
    const int64_t row = first / wide;
    const uint8_t* mask = elements_of(a.mask, row, (first + n - 1) / wide - row + 1, buffer);
    for (int64_t i = 0, column = first % wide; i < n; ++i) {
      counts[i] = *mask != 0;
      if (++column == wide) {
        column = 0;
        ++mask;
      }
    }
  } else {
    for (int64_t i = 0; i < n; ++i) counts[i] = 1;
  }
  if constexpr (sizeof(Target) > 1) {
    if (!a.spec.has_ignore_index) return;
    Target buffer[kLossBlock];
    const Target* target = elements_of(a.target, first, n, buffer);
    for (int64_t i = 0; i < n; ++i) counts[i] &= target[i] != static_cast<Target>(a.spec.ignore_index);
  }
}

// Of entries [first, first + n), n <= kLossBlock, what those that count add to the divisor of a mean: 1 each, or where
// the target is a class with a weight, that.
template <class Target>
double counted(const LossArgs& a, int64_t wide, int64_t first, int64_t n) {
  uint8_t counts[kLossBlock];
  find_counting<Target>(a, wide, first, n, counts);
  double found = 0;
  if constexpr (kIsClass<Target>) {
    if (a.weight) {
      int64_t buffer[kLossBlock];
      const int64_t* target = elements_of(a.target, first, n, buffer);
      for (int64_t i = 0; i < n; ++i)
        if (counts[i]) found += a.weight[target[i]];
      return found;
    }
  }
  for (int64_t i = 0; i < n; ++i) found += counts[i];
  return found;
}

// One loss over `count` entries in chunks of `chunk`: finds out what a mean divides by, then adds what
// sum_chunk(first, n, scale) returns for each chunk. `scale` is what the gradient of the plain sum is multiplied by;
// `work` elements, all in all.
template <class Target, class SumChunk>
void run_chunks(const LossArgs& a, int64_t count, int64_t chunk, int64_t wide, int64_t work, Team* team,
                const SumChunk& sum_chunk) {
  const int64_t chunks = (count + chunk - 1) / chunk;
  const int32_t threads = useful_threads(team, work, chunks);
  const auto for_chunks = [&](const auto& body) {
    parallel(team, threads, [&](int32_t t) {
      for (int64_t c = share(chunks, threads, t); c < share(chunks, threads, t + 1); ++c) {
        const int64_t first = c * chunk;
        a.partials[c] = body(first, count - first < chunk ? count - first : chunk);
      }
    });
    double total = 0;
    for (int64_t c = 0; c < chunks; ++c) total += a.partials[c];
    return total;
  };

  double divisor = 1;
  if (a.spec.reduction == Reduction::mean) {
    divisor = static_cast<double>(count);
    if (a.mask.data || a.spec.has_ignore_index || (kIsClass<Target> && a.weight))
      divisor = for_chunks([&](int64_t first, int64_t n) {
        double found = 0;
        for (int64_t at = 0; at < n; at += kLossBlock)
          found += counted<Target>(a, wide, first + at, n - at < kLossBlock ? n - at : kLossBlock);
        return found;
      });
    if (divisor == 0) divisor = 1;
  }
  const double total = for_chunks([&](int64_t first, int64_t n) { return sum_chunk(first, n, 1 / divisor); });
  if (a.spec.reduction != Reduction::none) *static_cast<double*>(a.loss) = total / divisor;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
