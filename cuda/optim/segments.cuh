// Segment tables on a GPU: they travel as a kernel's argument, and pieces of all segments are dealt out to the blocks.
#pragma once

#include "hw/device.cuh"

namespace fusedrnn::cuda {

constexpr int64_t kPiece = kReduceChunk;  // elements that a block takes at once
// Segments of a launch: as many as 4 KiB of arguments hold and, for who has more, 32 KiB.
constexpr int kFewSegments = 64, kManySegments = 512;

template <int N>
struct SegmentTable {
  Segment segment[N];
  int32_t pieces_before[N + 1];  // 2^31 pieces are more than any memory holds
  int32_t segments;

  int64_t pieces() const { return pieces_before[segments]; }
};

// How many segments a table of that type holds.
template <class Table>
constexpr int kMostOf = 0;
template <int N>
constexpr int kMostOf<const SegmentTable<N>&> = N;

// body(segment, begin, end): elements [begin, end) of a segment, at most kPiece of them, each in one call of one block.
template <int N, class Body>
FR_DEVICE void for_pieces(const SegmentTable<N>& table, const Body& body) {
  int s = 0, behind = table.segments;  // the piece's segment is in [s, behind)
  for (int64_t piece = hw::block_x(); piece < table.pieces_before[table.segments]; piece += hw::blocks_x()) {
    while (behind - s > 1) {
      const int middle = (s + behind) / 2;
      (table.pieces_before[middle] <= piece ? s : behind) = middle;
    }
    const int64_t begin = (piece - table.pieces_before[s]) * kPiece, left = table.segment[s].count - begin;
    body(table.segment[s], begin, begin + (left < kPiece ? left : kPiece));
    behind = table.segments;
  }
}

// 16 bytes of elements: what a thread reads or writes at once.
template <class T>
using Elements = hw::Vec<T, 16 / sizeof(T)>;

FR_DEVICE bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

// Elements from `first` on; zeros from `end` on. `whole`: there are as many, at 16 bytes.
template <class T>
FR_DEVICE Elements<T> fetch(const void* data, int64_t first, int64_t end, bool whole) {
  const T* const from = static_cast<const T*>(data) + first;
  if (whole) return hw::load(reinterpret_cast<const Elements<T>*>(from));
  Elements<T> elements;
  FR_UNROLL
  for (int j = 0; j < static_cast<int>(16 / sizeof(T)); ++j) elements.v[j] = first + j < end ? from[j] : T(0);
  return elements;
}

template <class T>
FR_DEVICE void put(void* data, int64_t first, int64_t end, bool whole, const Elements<T>& elements) {
  T* const to = static_cast<T*>(data) + first;
  if (whole) {
    hw::store(reinterpret_cast<Elements<T>*>(to), elements);
    return;
  }
  FR_UNROLL
  for (int j = 0; j < static_cast<int>(16 / sizeof(T)); ++j)
    if (first + j < end) to[j] = elements.v[j];
}

// Does `next` begin where `s` ends, in every array? Then both are one, as the parameters of a module are.
inline bool follows(const Segment& s, const Segment& next, int64_t bytes) {
  const auto behind = [&](const void* a, const void* b) {
    return a ? static_cast<const char*>(a) + s.count * bytes == b : b == nullptr;
  };
  bool all = behind(s.param, next.param) && behind(s.grad, next.grad);
  for (int k = 0; k < kMaxStates; ++k) all = all && behind(s.state[k], next.state[k]);
  return all;
}

// launch(table) for all segments, as many at once as a table of N holds; once if there are none.
template <int N, class Launch>
Status for_tables(const Segment* segment, int64_t segments, int64_t bytes, const Launch& launch) {
  SegmentTable<N> table = {};
  Status status = Status::ok;
  for (int64_t i = 0; i < segments && status == Status::ok; ++i) {
    if (segment[i].count == 0) continue;
    Segment& last = table.segment[table.segments > 0 ? table.segments - 1 : 0];
    if (table.segments > 0 && follows(last, segment[i], bytes)) {
      last.count += segment[i].count;
    } else {
      if (table.segments == N) {
        status = launch(table);
        table.segments = 0;
      }
      table.segment[table.segments++] = segment[i];
    }
    const int32_t n = table.segments;
    table.pieces_before[n] =
        table.pieces_before[n - 1] + static_cast<int32_t>((table.segment[n - 1].count + kPiece - 1) / kPiece);
  }
  return status == Status::ok ? launch(table) : status;
}

// The same with the smallest tables that hold all, where the device takes as long an argument.
template <class Launch>
Status for_few_tables(const Segment* segment, int64_t segments, int64_t bytes, const hw::Limits& limits,
                      const Launch& launch) {
  return segments > kFewSegments && limits.argument_bytes >= hw::kLongArgument
             ? for_tables<kManySegments>(segment, segments, bytes, launch)
             : for_tables<kFewSegments>(segment, segments, bytes, launch);
}

}  // namespace fusedrnn::cuda
