// The tile instructions of AMX by trap, on x86-64 Linux processors that have none: an instruction that is unknown ends
// in a handler, which decodes it, does what it does with the tiles of tile_emulation.hpp, and goes on behind it. So the
// kernels of `amx` themselves run, to the last byte of their machine code.
#pragma once

struct TileTraps {
  bool (*install)();    // whether the processor can run all else that those kernels are compiled for
  void (*admit)();      // traps on this thread, whose creator may have blocked signals
  int (*misuses)();     // what a processor would have punished by a signal, or computed otherwise
  long (*trapped)();    // instructions so far
  int (*unreleased)();  // threads whose tiles are configured now
};

#if defined(__linux__) && (defined(FUSEDRNN_HAS_AVX512) || defined(FUSEDRNN_ISA_AVX512))
extern "C" {
extern const TileTraps fusedrnn_tile_traps;
}
#else  // a build whose kernels never meet a tile
inline constexpr TileTraps fusedrnn_tile_traps = {[] { return false; }, [] {}, [] { return 0; }, [] { return 0L; },
                                                  [] { return 0; }};
#endif
