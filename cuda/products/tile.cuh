// One block's tile of a product C = A B^T: how operands travel through shared memory and how sums are put together.
//
// Warps form WM x WN x KS: a warp computes Engine::kRows x Engine::kColumns sums (fma.cuh, mma.cuh) of the block's
// tile, over its group's share of k. Groups along k stream their own operands, 64 bytes of k at a time, through four
// buffers of their own, asynchronously; they do not wait for each other until their sums meet in shared memory, where
// they are added in the order of k. What k a group gets depends on K alone: results repeat bit for bit.
//
//       k ->                     group 0   group 1 ...
//   A   [ BM rows  | 64 bytes ]  four of each, then the sums in the same memory:  [KS][BM][kSumPitch]
//   B   [ BN rows  | 64 bytes ]
//
// An operand is given by a source: row(i) is where its i-th row begins, or null where there is none. Where k is
// contiguous (Major::k) rows are those of the tile, and what stands in the sums of one that is not there is anything;
// else (Major::outer) row(k) holds all of the tile's rows side by side, and k ends with the source or after whole
// buffers.
#pragma once

#include "products/element.cuh"

namespace fusedrnn::cuda {

enum class Major { k, outer };

template <class E>
constexpr int kDepth = 64 / sizeof(E);  // values of k in a buffer

// Where 16 bytes of k, the `vector`-th of a row's four, begin in a buffer whose rows have k side by side. Every other
// row has them in another order: so copies of whole rows and reads of one vector of 8 rows both meet no bank twice.
template <class E>
FR_DEVICE int place_of(int row, int vector) {
  return row * kDepth<E> + (vector ^ (row >> 1 & 3)) * static_cast<int>(16 / sizeof(E));
}

// A matrix in memory, `rows` rows of `columns`: the plain source.
template <class E>
struct Matrix {
  const E* data;
  int64_t ld, rows, columns;
  bool aligned;  // every row begins at 16 bytes

  FR_DEVICE const E* row(int64_t i) const { return i < rows ? data + i * ld : nullptr; }
};

template <class Engine, int WM, int WN, int KS, Major MA = Major::k, Major MB = Major::k>
struct Tile {
  using E = typename Engine::Storage;
  using C = typename Engine::C;
  static_assert(KS == 1 || WM * WN == 1, "a group along k is one warp, or there is one group");

  static constexpr int BM = WM * Engine::kRows, BN = WN * Engine::kColumns;
  static constexpr int kGroupThreads = 32 * WM * WN, kThreads = kGroupThreads * KS;
  static constexpr int kStages = 4;
  static constexpr int V = 16 / sizeof(E);  // elements of a copy

  // Elements from one line of a buffer to the next: a row's k, or the rows side by side and a few elements more, so
  // that what lanes read together begins in different banks.
  template <Major M>
  static constexpr int pitch(int rows) {
    return M == Major::k ? kDepth<E> : rows + (sizeof(E) == 4 ? 2 : 1) * V;
  }
  template <Major M>
  static constexpr int elements(int rows) {
    return M == Major::k ? rows * pitch<M>(rows) : kDepth<E> * pitch<M>(rows);
  }
  static constexpr int kPitchA = pitch<MA>(BM), kPitchB = pitch<MB>(BN);
  static constexpr int kElementsA = elements<MA>(BM), kElementsB = elements<MB>(BN);
  static constexpr int kStage = kElementsA + kElementsB;
  static constexpr int kSumPitch = BN % 16 == 0 ? BN + 8 : BN;  // lanes store to, and read from, different banks
  static_assert(kSumPitch % 16 == 8, "for any number of columns");

  static constexpr size_t kBuffersBytes = sizeof(E) * kStage * kStages * KS;
  static constexpr size_t kSumsBytes = sizeof(C) * KS * BM * kSumPitch;
  static constexpr size_t kSharedBytes = kBuffersBytes > kSumsBytes ? kBuffersBytes : kSumsBytes;

  // The finished tile in shared memory.
  struct Sums {
    hw::Shared<C> all;

    FR_DEVICE C at(int m, int n) const {
      C sum = all[m * kSumPitch + n];
      FR_UNROLL
      for (int group = 1; group < KS; ++group) {
        const C part = all[(group * BM + m) * kSumPitch + n];
        sum = sum + part;
      }
      return sum;
    }

    // Of columns 2 n and 2 n + 1.
    FR_DEVICE hw::Vec<C, 2> pair(int m, int n) const {
      using Pair = hw::Vec<C, 2>;
      const hw::Shared<Pair> pairs = hw::recast<Pair>(all);
      Pair sum = pairs[m * (kSumPitch / 2) + n];
      FR_UNROLL
      for (int group = 1; group < KS; ++group) {
        const Pair part = pairs[(group * BM + m) * (kSumPitch / 2) + n];
        sum.v[0] = sum.v[0] + part.v[0];
        sum.v[1] = sum.v[1] + part.v[1];
      }
      return sum;
    }
  };

  // A B^T over k in [first, last), rows of A and B from m0 and n0 on. All threads of the block take part. `a_is_there`
  // is called once the first buffers of B are on their way and before anything of A is read, `beside` once the first
  // of A are; asynchronous copies that they, or the caller, have begun have ended when the sums are there.
  template <class SourceA, class SourceB, class AIsThere, class Beside>
  FR_DEVICE static Sums multiply(const SourceA& a, int64_t m0, const SourceB& b, int64_t n0, int64_t first,
                                 int64_t last, const AIsThere& a_is_there, const Beside& beside) {
    const int group = hw::thread() / kGroupThreads, member = hw::thread() % kGroupThreads;
    const int64_t buffers = (last - first + kDepth<E> - 1) / kDepth<E>, share = (buffers + KS - 1) / KS;
    const int64_t begin = first + share * group * kDepth<E>;
    const int64_t end = begin + share * kDepth<E> < last ? begin + share * kDepth<E> : last;
    const int steps = end > begin ? static_cast<int>((end - begin + kDepth<E> - 1) / kDepth<E>) : 0;
    const int whole = end > begin ? static_cast<int>((end - begin) / kDepth<E>) : 0;
    const auto place = [&](int step) {
      const int buffer = group * kStages + static_cast<int>(static_cast<uint32_t>(step) % kStages);
      return hw::shared<E>(static_cast<int64_t>(sizeof(E)) * kStage * buffer, kStage);
    };
    const auto k_of = [&](int step) { return begin + static_cast<int64_t>(step) * kDepth<E>; };
    const Share<MA, BM, kPitchA, SourceA> of_a(a, m0, member);
    const Share<MB, BN, kPitchB, SourceB> of_b(b, n0, member);
    const auto fetch_a = [&](int step) {
      if (step < steps) of_a.load(place(step), k_of(step), end, step < whole);
    };
    const auto fetch_b = [&](int step) {
      if (step < steps) of_b.load(place(step) + kElementsA, k_of(step), end, step < whole);
    };

    const int warp = member / 32, m = warp / WN * Engine::kRows, n = warp % WN * Engine::kColumns;
    Engine engine;
    engine.clear();
    FR_UNROLL
    for (int step = 0; step < kStages; ++step) fetch_b(step);
    a_is_there();
    FR_UNROLL
    for (int step = 0; step < kStages - 1; ++step) {
      fetch_a(step);
      if (step == kStages - 2) beside();
      hw::commit_copies();
    }
    for (int step = 0; step < steps; ++step) {
      hw::wait_copies<kStages - 2>();
      group_barrier();
      // Into the buffer that the group has read in the step before; the first kStages of B are there already.
      fetch_a(step + kStages - 1);
      if (step > 0) fetch_b(step + kStages - 1);
      hw::commit_copies();
      const hw::Shared<E> from = place(step);
      engine.template accumulate<MA, MB, kPitchA, kPitchB>(from + (MA == Major::k ? m * kPitchA : m),
                                                           from + kElementsA + (MB == Major::k ? n * kPitchB : n));
    }
    hw::wait_copies<0>();
    hw::barrier();
    const hw::Shared<C> sums = hw::shared<C>(0, KS * BM * kSumPitch);
    engine.template store<MA, MB, kSumPitch>(sums + (group * BM + m) * kSumPitch + n);
    hw::barrier();
    return {sums};
  }

  template <class SourceA, class SourceB>
  FR_DEVICE static Sums multiply(const SourceA& a, int64_t m0, const SourceB& b, int64_t n0, int64_t first,
                                 int64_t last) {
    return multiply(a, m0, b, n0, first, last, [] {}, [] {});
  }

 private:
  FR_DEVICE static void group_barrier() {
    if constexpr (WM * WN == 1)
      hw::warp_barrier();
    else
      hw::barrier();
  }

  // What a thread copies into every buffer of an operand of `Rows` rows: the same columns of some lines. Where k is
  // contiguous these are the same rows all the time, and where registers are left it keeps where they begin: finding
  // that again for each buffer took more instructions than the product.
  template <Major M, int Rows, int Pitch, class Source>
  class Share {
    static constexpr int kLines = M == Major::k ? Rows : kDepth<E>, kVectors = M == Major::k ? kDepth<E> / V : Rows / V;
    static constexpr int kApart = kGroupThreads / kVectors, kCopies = kLines / kApart;
    static_assert(Rows % V == 0 && kGroupThreads % kVectors == 0 && kLines % kApart == 0, "threads copy as much");
    static constexpr bool kKept = M == Major::k && (KS > 1 || Engine::kRegistersLeft);
    static_assert(M == Major::outer || kApart % 8 == 0, "a thread's rows have their vectors in the same order");

   public:
    FR_DEVICE Share(const Source& source, int64_t first, int member)
        : source_(source),
          first_(first),
          line_(member / kVectors),
          at_(member % kVectors * V),
          to_(M == Major::k ? place_of<E>(line_, member % kVectors) : line_ * Pitch + at_) {
      if constexpr (kKept) {
        FR_UNROLL
        for (int i = 0; i < kCopies; ++i) {
          const E* const row = source.row(first + line_ + i * kApart);
          rows_[i] = row ? row : source.data;
        }
      }
    }

    // kDepth values of k, from k to at most `end`; `whole`: all of them are there.
    FR_DEVICE void load(hw::Shared<E> to, int64_t k, int64_t end, bool whole) const {
      const int64_t column = (M == Major::k ? k : first_) + at_;
      if constexpr (kKept) {
        if (whole && source_.aligned) {
          FR_UNROLL
          for (int i = 0; i < kCopies; ++i) hw::copy_async16(to + place(i), rows_[i] + column);
          return;
        }
        const int count = valid(end - column);
        FR_UNROLL
        for (int i = 0; i < kCopies; ++i) copy(to + place(i), rows_[i], column, count);
      } else {
        const int count = valid((M == Major::k ? end : source_.columns) - column);
        FR_UNROLL
        for (int i = 0; i < kCopies; ++i) {
          const E* const row = source_.row((M == Major::k ? first_ : k) + line_ + i * kApart);
          copy(to + place(i), row, column, row ? count : 0);
        }
      }
    }

   private:
    FR_DEVICE int place(int i) const { return to_ + i * kApart * Pitch; }
    FR_DEVICE static int valid(int64_t left) { return left <= 0 ? 0 : left < V ? static_cast<int>(left) : V; }

    // V elements from a column of a row on, those from `count` on zero.
    FR_DEVICE void copy(hw::Shared<E> to, const E* row, int64_t column, int count) const {
      const E* const from = count > 0 ? row + column : source_.data;
      if (source_.aligned) {
        hw::copy_async16(to, from, count * static_cast<int>(sizeof(E)));
      } else {
        using Vector = hw::Vec<E, V>;
        Vector values;
        FR_UNROLL
        for (int e = 0; e < V; ++e) values.v[e] = e < count ? from[e] : E{};
        hw::recast<Vector>(to)[0] = values;
      }
    }

    const Source& source_;
    const int64_t first_;
    const int line_, at_, to_;
    const E* rows_[kKept ? kCopies : 1];  // some other row's beginning for one that is not there
  };
};

}  // namespace fusedrnn::cuda
