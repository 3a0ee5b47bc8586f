// The engine of bf16, bf16x3 and bf16x6 on tile registers: the sum of bf16_sum.hpp, a block of 32 steps at a time.
// Contract: engine.hpp. Unit is amx_unit.hpp's interface.
//
//   B, packed  [block][part][vector][16 pairs of k][16 columns][2]      a tile: 1 KiB
//   A          rows, each [block][part][32]; of weight gradients tiles [block][part][16 columns][32]
//
// Up to 32 rows meet two vectors of a panel in 2 x 2 tiles of C; up to 16 rows meet all of its vectors in 1 x 4, so
// that a panel is read once. While a tile's sums run, the rows of the one before are handed over, a few after each
// block: cells are computed on vectors while tiles are multiplied.
//
// Tiles are multiplied some ten times as fast as operands come from the third-level cache, so everything here sees to
// it that they come from the second: rows in blocks that fit it, columns of dgates in groups that do, and panels that a
// step reads in the order opposite to the step before, which begins with what is still there.
#pragma once

#include "gemm/bf16_sum.hpp"
#include "gemm/panels.hpp"
#include "gemm/parallel.hpp"
#include "gemm/tiles.hpp"
#include "simd/bf16.hpp"
#include "simd/transpose.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Unit>
struct Amx {
  explicit constexpr Amx(int parts) : parts(parts) {}

  using Operand = uint16_t;
  using Accumulator = float;
  using Region = typename Unit::Region;

 private:
  using L = Lanes<float>;
  using Words = __m512i;
  static constexpr int N = L::N;
  static_assert(N == 16, "a row of a tile is a vector");
  static constexpr int64_t kTile = N * kPairBlock;  // Operands

  // Where tiles of A are: elements between one of rows and the next, between parts, bytes between rows.
  struct Left {
    const Operand* data;
    int64_t of_rows, of_parts, bytes;
  };

  // Tiles of C: sums from zero, and sums that go on from what is there. Rows are `stride` floats apart.
  struct Fresh {
    template <int T>
    FR_INLINE void begin(int64_t, int64_t) const {
      Unit::template zero<T>();
    }
    template <int T>
    FR_INLINE void end(int64_t row, int64_t column) const {
      Unit::template store<T>(data + (row * stride + column) * N, stride * int64_t{sizeof(float)});
    }
    float* data;
    int64_t stride;
  };
  struct Running : Fresh {
    FR_INLINE Running(float* data, int64_t stride) : Fresh{data, stride} {}
    template <int T>
    FR_INLINE void begin(int64_t row, int64_t column) const {
      Unit::template load<T>(Fresh::data + (row * Fresh::stride + column) * N, Fresh::stride * int64_t{sizeof(float)});
    }
  };

  struct Finished {
    // Not inlined, for it is called from many places.
    template <class Epilogue>
    __attribute__((noinline)) void hand_over(int64_t until, const Epilogue& epilogue) {
      if (until <= done) return;
      epilogue(begin, row + done, static_cast<int>(until - done), wide,
               static_cast<const float*>(sums + done * wide * N));
      done = until;
    }
    int64_t begin, row;
    int tall, wide;
    int64_t done;
    const float* sums;
  };

 public:
  static constexpr int vectors = 4;
  template <int NV>
  static constexpr int rows() {
    return 16;
  }
  // A tile of one row takes as long as one of 16. By count, a byte of weights from the third level (20 GB/s) takes as
  // long as the products of 185 rows with it (3,700 GFLOP/s).
  static constexpr int64_t rows_alone = N, rows_apart = 192;
  static constexpr int64_t chunk_rows(int64_t gradient) { return bf16_chunk_rows(gradient); }

  // ---- B
  int64_t panel_elements(int64_t vectors, int64_t K) const { return vectors * N * parts * whole_blocks(K); }

  template <class ColumnOf>
  void pack_columns(Operand* panel, int wide, int64_t vector, int64_t K, const ColumnOf& column_of) const {
    const float* from[N];
    for (int lane = 0; lane < N; ++lane) from[lane] = column_of(lane);
    with_count<kMostParts>(parts, [&](auto count) __attribute__((always_inline)) {
      constexpr int P = decltype(count)::count;
      for (int64_t k = 0; k < whole_blocks(K); k += kPairBlock) {
        Words tile[P][N];
        for (int lane = 0; lane < N; ++lane) {
          Words part[P];
          split<P>(load(from[lane] ? from[lane] + k : nullptr, K - k),
                   load(from[lane] ? from[lane] + k + N : nullptr, K - k - N), part);
          for (int p = 0; p < P; ++p) tile[p][lane] = part[p];
        }
        for (int p = 0; p < P; ++p)
          store_transposed(panel + ((k / kPairBlock * P + p) * wide + vector) * kTile, tile[p]);
      }
    });
  }

  static constexpr int64_t pack_strip = kPairBlock;
  template <class RowOf>
  void pack_rows(Operand* panel, int wide, int64_t K, int64_t first, int64_t last, int64_t columns,
                 const RowOf& row_of) const {
    with_count<kMostParts>(parts, [&](auto count) __attribute__((always_inline)) {
      constexpr int P = decltype(count)::count;
      for (int64_t k = first; k < (last == K ? whole_blocks(K) : last); k += 2) {
        const float* const even = k < K ? row_of(k) : nullptr;
        const float* const odd = k + 1 < K ? row_of(k + 1) : nullptr;
        for (int v = 0; v < wide; ++v) {
          const int64_t left = columns - v * N;
          Words part[P];
          split<P>(load(even ? even + v * N : nullptr, left), load(odd ? odd + v * N : nullptr, left), part);
          for (int p = 0; p < P; ++p)
            store(panel + ((k / kPairBlock * P + p) * wide + v) * kTile + k % kPairBlock / 2 * kPairBlock,
                  paired(part[p]));
        }
      }
    });
  }

  // ---- A: rounded rows, apart by a line more than they are long, so that they do not all meet in one set of a cache.
  // Rows up to whole tiles are read, and give rows of C that nothing reads.
  struct A {
    const Operand* data;
    int64_t pitch;
  };
  int64_t a_pitch(int64_t K) const { return parts * whole_blocks(K) + kPairBlock; }
  int64_t a_elements(int64_t rows, int64_t K) const { return (rows + N - 1) / N * N * a_pitch(K); }
  A pack_a(const float* const* table, int64_t rows, int64_t K, Operand* memory) const {
    with_count<kMostParts>(parts, [&](auto count) __attribute__((always_inline)) {
      constexpr int P = decltype(count)::count;
      for (int64_t r = 0; r < rows; ++r) {
        Operand* const to = memory + r * a_pitch(K);
        for (int64_t k = 0; k < whole_blocks(K); k += kPairBlock) {
          Words part[P];
          split<P>(load(table[r] + k, K - k), load(table[r] + k + N, K - k - N), part);
          for (int p = 0; p < P; ++p) store(to + k * P + p * kPairBlock, part[p]);
        }
      }
    });
    return {memory, a_pitch(K)};
  }

  // ---- products
  template <int NV, class Prepare, class Epilogue>
  void multiply(A a, int64_t rows, const Operand* packed, const Panels& panels, int64_t K, int64_t first, int64_t last,
                const Prepare& prepare, const Epilogue& epilogue) const {
    constexpr int64_t kTall = 2 * N;
    alignas(64) float sums[2][kTall * vectors * N];
    const int64_t blocks = whole_blocks(K) / kPairBlock;
    const bool few = rows > 0 && rows < N;
    if (few) Unit::configure(static_cast<int>(rows), parts);
    Finished before{};  // the tile whose rows are to be handed over
    int turn = 0;
    const int64_t together = rows_together(rows, K, last - first, panels.begin(last) - panels.begin(first));
    const int64_t row_blocks = rows > 0 ? (rows + together - 1) / together : 0;
    for (int64_t each = 0; each < row_blocks * (last - first); ++each) {
      const int64_t top = each / (last - first) * together, bottom = rows - top < together ? rows : top + together;
      if (each % (last - first) == 0) back = !back;
      const int64_t p = back ? last - 1 - each % (last - first) : first + each % (last - first);
      const int64_t begin = panels.begin(p);
      const int wide = panels.wide(p);
      const Operand* const panel = packed + panel_elements(begin, K);
      for (int64_t row = top; row < bottom; row += kTall, turn = 1 - turn) {
        const int tall = static_cast<int>(bottom - row < kTall ? bottom - row : kTall);
        const int64_t passes = tall > N ? (wide + 1) / 2 : 1, steps = passes * blocks;
        int64_t step = 0;
        const auto aside = [&]() __attribute__((always_inline)) {
          prepare(begin, row, tall, wide, step, steps);
          ++step;
          before.hand_over(step < steps ? before.tall * step / steps : before.tall, epilogue);
        };
        const Operand* const from = a.data + row * a.pitch;
        float* const to = sums[turn];
        const Left left{from, N * a.pitch, kPairBlock, a.pitch * int64_t{sizeof(Operand)}};
        const int64_t stride = wide * N;
        with_count<kMostParts>(parts, [&](auto p) __attribute__((always_inline)) {
          constexpr int P = decltype(p)::count;
          if (tall <= N) {
            with_count<vectors>(wide, [&](auto columns) __attribute__((always_inline)) {
              product<P, 1, decltype(columns)::count>(left, panel, wide, blocks, Fresh{to, stride}, aside);
            });
          } else {
            for (int v = 0; v + 1 < wide; v += 2)
              product<P, 2, 2>(left, panel + v * kTile, wide, blocks, Fresh{to + v * N, stride}, aside);
            if (wide % 2 > 0) {
              const int v = wide - 1;
              product<P, 2, 1>(left, panel + v * kTile, wide, blocks, Fresh{to + v * N, stride}, aside);
            }
          }
        });
        before.hand_over(before.tall, epilogue);  // K = 0
        before = {begin, row, tall, wide, 0, to};
      }
    }
    before.hand_over(before.tall, epilogue);
    if (few) Unit::configure(N, 2);
  }

  // ---- weight gradients
  static constexpr int64_t outer_block = 1024;
  int64_t outer_columns(int64_t blocks, int64_t K) const {
    const int64_t whole = 2 * N,
                  columns = kOwnCache / (blocks * parts * (whole_blocks(K) + 1) * int64_t{sizeof(Operand)});
    return columns < whole ? whole : columns / whole * whole;
  }
  struct OuterA {
    static int64_t tiles_of(int64_t columns) { return (columns + N - 1) / N; }

    void pack(const float* const* a, int64_t K, int64_t /*width*/) const {
      with_count<kMostParts>(parts, [&](auto count) __attribute__((always_inline)) {
        constexpr int P = decltype(count)::count;
        for (int64_t m = first; m < last; m += N)
          for (int64_t k = 0; k < whole_blocks(K); k += kPairBlock) {
            Words tile[P][N];
            for (int pair = 0; pair < N; ++pair) {
              const int64_t at = k + 2 * pair;
              Words part[P];
              split<P>(load(at < K ? a[at] + m : nullptr, last - m),
                       load(at + 1 < K ? a[at + 1] + m : nullptr, last - m), part);
              for (int p = 0; p < P; ++p) tile[p][pair] = paired(part[p]);
            }
            for (int p = 0; p < P; ++p)
              store_transposed(tile_at((m - first) / N, K) + (k / kPairBlock * P + p) * kTile, tile[p]);
          }
      });
    }

    void multiply(int64_t K, const Operand* panel, int wide, int64_t columns, float* c, int64_t ldc,
                  bool replace) const {
      with_count<kMostParts>(parts, [&](auto p) __attribute__((always_inline)) {
        multiply_parts<decltype(p)::count>(K, panel, wide, columns, c, ldc, replace);
      });
    }

    int parts;
    int64_t first, last;
    Operand* memory;

   private:
    static void nothing() {}

    // Asks for the lines of 2 x 2 tiles of C before their sums go on from there, a few after each of the blocks of the
    // tiles before: C comes from further away than A and B.
    struct Ahead {
      FR_INLINE void operator()() {
        for (int64_t until = lines * ++block / blocks; line < until; ++line)
          __builtin_prefetch(c + line / 2 * ldc + line % 2 * N, 1);
      }
      const float* c;
      int64_t ldc, lines, blocks, line, block;
    };

    Operand* tile_at(int64_t tile, int64_t K) const { return memory + tile * N * parts * whole_blocks(K); }

    template <int P>
    void multiply_parts(int64_t K, const Operand* panel, int wide, int64_t columns, float* c, int64_t ldc,
                        bool replace) const {
      const int64_t blocks = whole_blocks(K) / kPairBlock, tiles = tiles_of(last - first);
      for (int64_t t = 0; t < tiles; t += 2)
        for (int v = 0; v < wide; v += 2) {
          float* const to = c + t * N * ldc + v * N;
          const int64_t m = last - first - t * N, n = columns - v * N;  // left, of C
          const Left left{tile_at(t, K), tile_at(1, K) - tile_at(0, K), kTile, kPairBlock * int64_t{sizeof(Operand)}};
          const Operand* const b = panel + v * kTile;
          if (m >= 2 * N && n >= 2 * N && v + 1 < wide) {
            // The tiles that are next, of this row of tiles or of the one below, where they are whole.
            const bool below = v + 3 >= wide || n < 4 * N;
            const bool whole = below ? m >= 4 * N : true;
            Ahead ahead{below ? to + 2 * N * ldc - v * N : to + 2 * N, ldc, whole ? 4 * N : 0, blocks, 0, 0};
            const auto ask = [&]() __attribute__((always_inline)) { ahead(); };
            replace ? product<P, 2, 2>(left, b, wide, blocks, Fresh{to, ldc}, nothing)
                    : product<P, 2, 2>(left, b, wide, blocks, Running{to, ldc}, ask);
          } else {
            edge<P>(left, b, wide, v + 1 < wide, blocks, to, ldc, m, n, replace);
          }
        }
    }

    // Up to two by two tiles of which C has m x n elements: by way of an array that has them all.
    template <int P>
    static void edge(const Left& left, const Operand* b, int wide, bool two, int64_t blocks, float* c, int64_t ldc,
                     int64_t m, int64_t n, bool replace) {
      alignas(64) float sums[2 * N][2 * N];
      const auto for_elements = [&](const auto& visit) {
        for (int64_t i = 0; i < 2 * N && i < m; ++i)
          for (int64_t j = 0; j < 2 * N && j < n; ++j) visit(c[i * ldc + j], sums[i][j]);
      };
      for (auto& row : sums)
        for (float& sum : row) sum = 0;
      if (!replace) for_elements([](const float& from, float& sum) { sum = from; });
      const Running to{sums[0], 2 * N};
      if (m > N)
        two ? product<P, 2, 2>(left, b, wide, blocks, to, nothing)
            : product<P, 2, 1>(left, b, wide, blocks, to, nothing);
      else
        two ? product<P, 1, 2>(left, b, wide, blocks, to, nothing)
            : product<P, 1, 1>(left, b, wide, blocks, to, nothing);
      for_elements([](float& to, const float& sum) { to = sum; });
    }
  };
  int64_t outer_elements(int64_t columns) const { return OuterA::tiles_of(columns) * N * parts * outer_block; }
  OuterA outer(int64_t first, int64_t last, Operand* memory) const { return {parts, first, last, memory}; }

  int parts;

 private:
  // Into how many rows at a time a product of `count` panels is cut: into so many that the second-level cache holds
  // their operands while all panels pass, unless fewer bytes come from further away where all rows pass each panel.
  int64_t rows_together(int64_t rows, int64_t K, int64_t count, int64_t vectors) const {
    constexpr int64_t tall = 2 * N;
    const int64_t most = kOwnCache / (a_pitch(K) * int64_t{sizeof(Operand)}) / tall * tall;
    const int64_t each = most > 0 ? most : tall, blocks = (rows + each - 1) / each;
    if (blocks <= 1 || rows * a_pitch(K) * (count - 1) <= panel_elements(vectors, K) * (blocks - 1))
      return rows > 0 ? rows : 1;
    return (rows + blocks * tall - 1) / (blocks * tall) * tall;
  }

  // Whether panels were last walked backwards: every thread has an engine of its own.
  mutable bool back = false;

  // body(Constant<I>()) for 0 <= I < Count
  template <int Count, class Body>
  FR_INLINE static void unrolled(const Body& body) {
    if constexpr (Count > 0) {
      unrolled<Count - 1>(body);
      body(Constant<Count - 1>());
    }
  }

  // R x S tiles of C: a tile of A for each of R = 2 rows of tiles, or for each part of one row; the rest are B's. After
  // every block aside() does something else.
  template <int P, int R, int S, class Target, class Aside>
  FR_INLINE static void product(const Left& a, const Operand* b, int64_t wide, int64_t blocks, const Target& c,
                                const Aside& aside) {
    static_assert(R * S <= 4, "tiles of C");
    constexpr int64_t row_of_b = kPairBlock * int64_t{sizeof(Operand)};
    unrolled<R>([&](auto r) __attribute__((always_inline)) {
      unrolled<S>([&](auto s) __attribute__((always_inline)) {
        c.template begin<decltype(r)::count * S + decltype(s)::count>(decltype(r)::count, decltype(s)::count);
      });
    });
    for (int64_t block = 0; block < blocks; ++block) {
      const Operand* const left = a.data + block * P * a.of_parts;
      const Operand* const right = b + block * P * wide * kTile;
      if constexpr (R == 1) {
        unrolled<P>([&](auto i) __attribute__((always_inline)) {
          Unit::template load<4 + decltype(i)::count>(left + decltype(i)::count * a.of_parts, a.bytes);
        });
        unrolled<P>([&](auto j) __attribute__((always_inline)) {
          unrolled<S>([&](auto s) __attribute__((always_inline)) {
            constexpr int J = decltype(j)::count, column = decltype(s)::count, B = 4 + P + column % (4 - P);
            Unit::template load<B>(right + (J * wide + column) * kTile, row_of_b);
            unrolled<P - J>([&](auto i) __attribute__((always_inline)) {
              Unit::template multiply<column, 4 + decltype(i)::count, B>();
            });
          });
        });
      } else {
        unrolled<P>([&](auto j) __attribute__((always_inline)) {
          constexpr int J = decltype(j)::count;
          unrolled<S>([&](auto s) __attribute__((always_inline)) {
            Unit::template load<6 + decltype(s)::count>(right + (J * wide + decltype(s)::count) * kTile, row_of_b);
          });
          unrolled<P - J>([&](auto i) __attribute__((always_inline)) {
            unrolled<R>([&](auto r) __attribute__((always_inline)) {
              constexpr int row = decltype(r)::count;
              Unit::template load<4 + row>(left + row * a.of_rows + decltype(i)::count * a.of_parts, a.bytes);
              unrolled<S>([&](auto s) __attribute__((always_inline)) {
                Unit::template multiply<row * S + decltype(s)::count, 4 + row, 6 + decltype(s)::count>();
              });
            });
          });
        });
      }
      aside();
    }
    unrolled<R>([&](auto r) __attribute__((always_inline)) {
      unrolled<S>([&](auto s) __attribute__((always_inline)) {
        c.template end<decltype(r)::count * S + decltype(s)::count>(decltype(r)::count, decltype(s)::count);
      });
    });
  }

  // ---- operands
  // The first `count` of 16 floats, zeros behind; all zeros from nullptr.
  FR_INLINE static typename L::V load(const float* from, int64_t count) {
    return !from || count <= 0 ? L::zero() : count >= N ? L::load(from) : L::load(from, static_cast<int>(count));
  }
  FR_INLINE static void store(Operand* to, Words words) { __builtin_memcpy(to, &words, sizeof words); }

  // 32 floats as P times 32 Operands, as split_bf16 does.
  template <int P>
  FR_INLINE static void split(typename L::V low, typename L::V high, Words (&part)[P]) {
#pragma GCC unroll 3
    for (int p = 0; p < P; ++p) {
      part[p] = Unit::round(low, high);
      if (p + 1 < P) {
        low = low - widened(_mm512_castsi512_si256(part[p]));
        high = high - widened(_mm512_extracti64x4_epi64(part[p], 1));
      }
    }
  }
  FR_INLINE static typename L::V widened(__m256i bf16) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16));
  }

  // Sixteen of one row, then sixteen of the next, as pairs of both.
  FR_INLINE static Words paired(Words rows) {
    const Words low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(rows));
    const Words high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(rows, 1));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  }

  // A tile of 16 x 16 pairs, its rows and columns exchanged; pairs go through registers of floats, which keep all bits.
  FR_INLINE static void store_transposed(Operand* to, const Words (&tile)[N]) {
    typename L::V row[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) row[i] = _mm512_castsi512_ps(tile[i]);
    transpose<float>(row);
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) store(to + i * kPairBlock, _mm512_castps_si512(row[i]));
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
