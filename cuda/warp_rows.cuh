// One warp per row: who has which.
#pragma once

#include "device.cuh"

namespace fusedrnn::cuda {

constexpr int kRowWarps = 4;  // of a block

inline door::Grid warp_per_row(int64_t rows) { return {{(rows + kRowWarps - 1) / kRowWarps}, kRowWarps * door::kWarp}; }

FR_DEVICE int64_t warp_row() { return door::block_x() * kRowWarps + door::warp(); }

}  // namespace fusedrnn::cuda
