// The loops around a microkernel: all tiles of a product, for engines whose kernels sum a tile chunk by chunk of k.
//
// Such an engine supplies, besides what engine.hpp asks of all,
//
//   kernel<NV, PrefetchNext>(tall, wide)   the microkernel of a tile, called as
//       kernel(count, a, k, b, tile, ahead): chunk [k, k + count) of the sums of rows a[0 .. tall) times b, the panel
//       from k on, count <= kChunk; k = 0 writes the tile, later chunks add. With PrefetchNext it asks for memory from
//       `ahead` on.
#pragma once

#include "gemm/panels.hpp"
#include "gemm/parallel.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr int64_t kOwnCache = 1 << 20;  // second-level cache a thread has to itself, in bytes

// multiply_tiles with panels that do not fit a thread's own cache. A chunk of a panel passes up to kTogether tiles of
// rows before the next one, so that it comes from far away once for all of them, and while their sums run they ask for
// the next, each for one of its vectors. Fewer tiles than a panel has vectors would ask for a part of it, which is
// slower than to leave it to the processor's own prefetching.
template <class Engine, int NV, class Prepare, class Epilogue>
void multiply_l2_blocked(const Engine& engine, typename Engine::A a, int64_t rows,
                         const typename Engine::Operand* packed, const Panels& panels, int64_t K, int64_t first,
                         int64_t last, const Prepare& prepare, const Epilogue& epilogue) {
  using T = typename Engine::Accumulator;
  constexpr int N = Lanes<T>::N, MR = Engine::template rows<NV>(), kTogether = 8;
  alignas(64) T sums[kTogether][MR * NV * N];
  const int64_t tiles = (rows + MR - 1) / MR, chunks = (K + kChunk - 1) / kChunk;
  for (int64_t p = first; p < last; ++p) {
    const int64_t begin = panels.begin(p);
    const int wide = panels.wide(p);
    const auto* const panel = packed + engine.panel_elements(begin, K);
    const auto* const after = packed + engine.panel_elements(panels.begin(p + 1 < last ? p + 1 : first), K);
    for (int64_t tile = 0; tile < tiles; tile += kTogether) {
      const int64_t end = tile + kTogether < tiles ? tile + kTogether : tiles;
      for (int64_t c = 0; c < chunks; ++c) {
        const int64_t k = c * kChunk, count = K - k < kChunk ? K - k : kChunk;
        const auto* const next = c + 1 < chunks ? panel + engine.panel_elements(wide, k + count)
                                 : end < tiles  ? panel
                                                : after;
        for (int64_t i = tile; i < end; ++i) {
          const int64_t row = share(rows, tiles, i), part = i - tile < wide ? i - tile : wide - 1;
          const int tall = static_cast<int>(share(rows, tiles, i + 1) - row);
          T* const to = sums[i - tile];
          prepare(begin, row, tall, wide, c, chunks);
          engine.template kernel<NV, true>(tall, wide)(count, a + row, k, panel + engine.panel_elements(wide, k), to,
                                                       next + engine.panel_elements(part, kChunk));
          if (c + 1 == chunks) epilogue(begin, row, tall, wide, static_cast<const T*>(to));
        }
      }
    }
  }
}

// An engine's `multiply`: panels outside, rows inside, so that a panel stays in the second-level cache while the rows
// pass. Rows are shared out evenly, so 32 rows are 6 6 5 5 5 5 and not 6 6 6 6 6 2. Every tile is handed over whole, as
// soon as its sums are done; `prepare` comes before each of its chunks of k.
//
// There are two loops that call prepare and epilogue, so both want to be inlined by name where they are long.
template <class Engine, int NV, class Prepare, class Epilogue>
void multiply_tiles(const Engine& engine, typename Engine::A a, int64_t rows, const typename Engine::Operand* packed,
                    const Panels& panels, int64_t K, int64_t first, int64_t last, const Prepare& prepare,
                    const Epilogue& epilogue) {
  using T = typename Engine::Accumulator;
  constexpr int N = Lanes<T>::N, MR = Engine::template rows<NV>();
  const int64_t tiles = (rows + MR - 1) / MR;
  const int64_t elements = engine.panel_elements(panels.begin(last) - panels.begin(first), K);
  if (tiles >= NV && elements * static_cast<int64_t>(sizeof *packed) > kOwnCache)
    return multiply_l2_blocked<Engine, NV>(engine, a, rows, packed, panels, K, first, last, prepare, epilogue);
  alignas(64) T tile[MR * NV * N];
  const int64_t chunks = K > 0 ? (K + kChunk - 1) / kChunk : 1;
  for (int64_t p = first; p < last; ++p) {
    const int64_t begin = panels.begin(p);
    const int wide = panels.wide(p);
    const auto* const panel = packed + engine.panel_elements(begin, K);
    int64_t row = 0;
    for (int64_t i = 0; i < tiles; ++i) {
      const int tall = static_cast<int>((rows - row + (tiles - i) - 1) / (tiles - i));
      const auto kernel = engine.template kernel<NV, false>(tall, wide);
      for (int64_t c = 0; c < chunks; ++c) {
        const int64_t k = c * kChunk, count = K - k < kChunk ? K - k : kChunk;
        prepare(begin, row, tall, wide, c, chunks);
        kernel(count, a + row, k, panel + engine.panel_elements(wide, k), tile, nullptr);
      }
      epilogue(begin, row, tall, wide, static_cast<const T*>(tile));
      row += tall;
    }
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
