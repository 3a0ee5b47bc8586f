// One warp per row: who has which.
#pragma once

#include "hw/device.cuh"

namespace fusedrnn::cuda {

constexpr int kRowWarps = 4;  // of a block

inline hw::Grid warp_per_row(int64_t rows) { return {{(rows + kRowWarps - 1) / kRowWarps}, kRowWarps * hw::kWarp}; }

FR_DEVICE int64_t warp_row() { return hw::block_x() * kRowWarps + hw::warp(); }

}  // namespace fusedrnn::cuda
