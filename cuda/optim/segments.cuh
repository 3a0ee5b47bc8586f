// Segment tables on a GPU: they travel as a kernel's argument, and pieces of all segments are dealt out to the blocks.
#pragma once

#include "device.cuh"

namespace fusedrnn::cuda {

constexpr int64_t kPiece = kReduceChunk;  // elements that a block takes at once
constexpr int kSegmentsAtOnce = 64;       // an argument has at most 4 KiB

struct SegmentTable {
  Segment segment[kSegmentsAtOnce];
  int64_t pieces_before[kSegmentsAtOnce + 1];
  int32_t segments;

  int64_t pieces() const { return pieces_before[segments]; }
};

// body(segment, begin, end): elements [begin, end) of a segment, at most kPiece of them, each in one call of one block.
template <class Body>
FR_DEVICE void for_pieces(const SegmentTable& table, const Body& body) {
  int s = 0;
  for (int64_t piece = door::block_x(); piece < table.pieces_before[table.segments]; piece += door::blocks_x()) {
    while (piece >= table.pieces_before[s + 1]) ++s;
    const int64_t begin = (piece - table.pieces_before[s]) * kPiece, left = table.segment[s].count - begin;
    body(table.segment[s], begin, begin + (left < kPiece ? left : kPiece));
  }
}

// Does `next` begin where `s` ends, in every array? Then both are one, as the parameters of a module are.
inline bool follows(const Segment& s, const Segment& next, int64_t bytes) {
  const auto behind = [&](const void* a, const void* b) {
    return a ? static_cast<const char*>(a) + s.count * bytes == b : b == nullptr;
  };
  bool all = behind(s.param, next.param) && behind(s.grad, next.grad);
  for (int k = 0; k < 3; ++k) all = all && behind(s.state[k], next.state[k]);
  return all;
}

// launch(table) for all segments, as many at once as a table holds; once if there are none.
template <class Launch>
Status for_tables(const Segment* segment, int64_t segments, int64_t bytes, const Launch& launch) {
  SegmentTable table = {};
  Status status = Status::ok;
  for (int64_t i = 0; i < segments && status == Status::ok; ++i) {
    if (segment[i].count == 0) continue;
    Segment& last = table.segment[table.segments > 0 ? table.segments - 1 : 0];
    if (table.segments > 0 && follows(last, segment[i], bytes)) {
      last.count += segment[i].count;
    } else {
      if (table.segments == kSegmentsAtOnce) {
        status = launch(table);
        table.segments = 0;
      }
      table.segment[table.segments++] = segment[i];
    }
    const int32_t n = table.segments;
    table.pieces_before[n] = table.pieces_before[n - 1] + (table.segment[n - 1].count + kPiece - 1) / kPiece;
  }
  return status == Status::ok ? launch(table) : status;
}

}  // namespace fusedrnn::cuda
