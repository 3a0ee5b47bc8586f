// A second engine, for the tests of gemm/engine.hpp: as unlike gemm/engine_fma.hpp as the interface allows, with the
// same sums. k is padded to 32 and kept in pairs, rows of A are packed, tiles are five rows high and handed over a row
// at a time, each between the sums of the next one. An operand may be of a narrower type than what is stored. Slow.
#pragma once

#include "gemm/engine.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Stored and summed in double, multiplied in float.
struct Rounded {
  using Storage = double;
  using Accumulator = double;
};
template <class E>
struct BlockedOperand {
  using Type = typename E::Storage;
};
template <>
struct BlockedOperand<Rounded> {
  using Type = float;
};

inline thread_local int regions = 0;      // of this thread
inline int32_t sums_outside_regions = 0;  // of all threads

template <class E>
struct Blocked {
  using Storage = typename E::Storage;
  using Operand = typename BlockedOperand<E>::Type;
  using Accumulator = typename E::Accumulator;

  explicit constexpr Blocked(int /*parts*/) {}

  struct Region {
    Region() { ++regions; }
    ~Region() { --regions; }
  };

  static constexpr int N = Lanes<Accumulator>::N, MR = 5, vectors = 4;
  static constexpr bool same = sizeof(Operand) == sizeof(Storage);
  template <int NV>
  static constexpr int rows() {
    return MR;
  }
  static constexpr int64_t padded(int64_t K) { return (K + 31) / 32 * 32; }
  static constexpr int64_t rows_alone = 4, rows_apart = 24;
  static constexpr int64_t chunk_rows(int64_t gradient) { return same || gradient < 1000 ? kChunk : 2 * kChunk; }

  // ---- B: [32 steps of k][vector][pair of k][lane][2]
  static constexpr int64_t panel_elements(int64_t vectors, int64_t K) { return vectors * N * padded(K); }
  static int64_t at(int64_t wide, int64_t k, int64_t n) {
    return ((k / 32 * wide + n / N) * 16 + k % 32 / 2) * N * 2 + n % N * 2 + k % 2;
  }
  template <class ColumnOf>
  static void pack_columns(Operand* panel, int wide, int64_t vector, int64_t K, const ColumnOf& column_of) {
    for (int lane = 0; lane < N; ++lane) {
      const Storage* const from = column_of(lane);
      for (int64_t k = 0; k < padded(K); ++k)
        panel[at(wide, k, vector * N + lane)] = from && k < K ? static_cast<Operand>(from[k]) : Operand(0);
    }
  }
  static constexpr int64_t pack_strip = 32;
  template <class RowOf>
  static void pack_rows(Operand* panel, int wide, int64_t K, int64_t first, int64_t last, int64_t columns,
                        const RowOf& row_of) {
    for (int64_t k = first; k < (last == K ? padded(K) : last); ++k)
      for (int64_t n = 0; n < wide * N; ++n)
        panel[at(wide, k, n)] = k < K && n < columns ? static_cast<Operand>(row_of(k)[n]) : Operand(0);
  }

  // ---- A: [row][k]
  using A = const Operand*;
  static constexpr int64_t a_elements(int64_t rows, int64_t K) { return rows * padded(K); }
  static A pack_a(const Storage* const* table, int64_t rows, int64_t K, Operand* memory) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < padded(K); ++k)
        memory[r * padded(K) + k] = k < K ? static_cast<Operand>(table[r][k]) : Operand(0);
    return memory;
  }

  // ---- products: rows outside, panels inside
  template <int NV, class Prepare, class Epilogue>
  static void multiply(A a, int64_t rows, const Operand* packed, const Panels& panels, int64_t K, int64_t first,
                       int64_t last, const Prepare& prepare, const Epilogue& epilogue) {
    Accumulator tile[2][MR * NV * N];
    int64_t tiles = 0, waiting_begin = 0, waiting_row = 0;
    int waiting = 0, waiting_wide = 0;
    const auto hand_over = [&](int r) {
      if (r < waiting)
        epilogue(waiting_begin, waiting_row + r, 1, waiting_wide,
                 static_cast<const Accumulator*>(tile[tiles % 2 ? 0 : 1] + r * waiting_wide * N));
    };
    for (int64_t row = 0; row < rows; row += MR)
      for (int64_t p = first; p < last; ++p, ++tiles) {
        const int tall = static_cast<int>(rows - row < MR ? rows - row : MR), wide = panels.wide(p);
        const Operand* const panel = packed + panel_elements(panels.begin(p), K);
        prepare(panels.begin(p), row, tall, wide, 0, 1);
        for (int r = 0; r < MR; ++r) {
          for (int n = 0; r < tall && n < wide * N; ++n)
            tile[tiles % 2][r * wide * N + n] =
                sum(K, [&](int64_t k) { return a[(row + r) * padded(K) + k]; }, panel, wide, n);
          hand_over(r);
        }
        waiting_begin = panels.begin(p), waiting_row = row, waiting = tall, waiting_wide = wide;
      }
    for (int r = 0; r < MR; ++r) hand_over(r);
  }

  // ---- weight gradients
  static constexpr int64_t outer_block = same ? kChunk : 2 * kChunk;
  static constexpr int64_t outer_columns(int64_t, int64_t) { return same ? 7 : kAllColumns; }
  struct OuterA {
    void pack(const Storage* const* a, int64_t K, int64_t /*width*/) const {
      for (int64_t m = first; m < last; ++m)
        for (int64_t k = 0; k < K; ++k) memory[(m - first) * outer_block + k] = static_cast<Operand>(a[k][m]);
    }
    void multiply(int64_t K, const Operand* panel, int wide, int64_t columns, Storage* c, int64_t ldc,
                  bool replace) const {
      for (int64_t m = 0; m < last - first; ++m)
        for (int64_t n = 0; n < wide * N && n < columns; ++n) {
          const Accumulator total = sum(K, [&](int64_t k) { return memory[m * outer_block + k]; }, panel, wide, n);
          c[m * ldc + n] = replace ? total : c[m * ldc + n] + total;
        }
    }
    int64_t first, last;
    Operand* memory;
  };
  static int64_t outer_elements(int64_t columns) { return columns * outer_block; }
  static OuterA outer(int64_t first, int64_t last, Operand* memory) { return {first, last, memory}; }

 private:
  // The sum that gemm/microkernel_fma.hpp promises.
  template <class Left>
  static Accumulator sum(int64_t K, const Left& left, const Operand* panel, int64_t wide, int64_t n) {
    if (regions == 0) __atomic_add_fetch(&sums_outside_regions, 1, __ATOMIC_RELAXED);
    Accumulator total = 0;
    for (int64_t first = 0; first < K; first += kChunk) {
      Accumulator chunk = 0;
      for (int64_t k = first; k < K && k < first + kChunk; ++k)
        chunk = fma(static_cast<Accumulator>(left(k)), static_cast<Accumulator>(panel[at(wide, k, n)]), chunk);
      total = first == 0 ? chunk : total + chunk;
    }
    return total;
  }
  static float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
  static double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
};

// Its lines in the list, here in place of the package's own.
template <>
struct EngineList<Ieee<float>> {
  using Engine = Blocked<Ieee<float>>;
};
template <>
struct EngineList<Ieee<double>> {
  using Engine = Blocked<Ieee<double>>;
};
template <>
struct EngineList<Rounded> {
  using Engine = Blocked<Rounded>;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
