// What comes into a step of training: arrays of any strides, gathered by one kernel; the host's numbers, which travel
// as a kernel's argument; and what the step counts itself.
#include <cstring>

#include "entries.hpp"
#include "products/elements.cuh"

namespace fusedrnn::cuda {
namespace {

constexpr int kThreads = 256, kEach = 4, kPiece = kThreads * kEach;
constexpr int64_t kBlocks = 1056;  // eight for each multiprocessor of an H100
constexpr int kAtOnce = 16;        // an argument has at most 4 KiB

struct GatherTask {
  Gather part[kAtOnce];
  int64_t pieces_before[kAtOnce + 1];
  int32_t parts;
};

template <class T>
FR_DEVICE void gather_piece(const Gather& g, int64_t begin, int64_t end) {
  FR_UNROLL
  for (int j = 0; j < kEach; ++j) {
    const int64_t i = begin + j * kThreads + hw::thread();
    if (i < end) static_cast<T*>(g.to)[i] = element_of<T>(g.from, i);
  }
}

FR_KERNEL void gather_kernel(const FR_CONSTANT GatherTask task) {
  int p = 0;
  for (int64_t piece = hw::block_x(); piece < task.pieces_before[task.parts]; piece += hw::blocks_x()) {
    while (piece >= task.pieces_before[p + 1]) ++p;
    const Gather& g = task.part[p];
    const int64_t begin = (piece - task.pieces_before[p]) * kPiece, count = g.from.rows * g.from.width;
    const int64_t end = begin + kPiece < count ? begin + kPiece : count;
    if (g.bytes == 4)
      gather_piece<uint32_t>(g, begin, end);
    else if (g.bytes == 8)
      gather_piece<uint64_t>(g, begin, end);
    else
      gather_piece<uint8_t>(g, begin, end);
  }
}

constexpr int kWordsAtOnce = 256;

struct UploadTask {
  uint64_t words[kWordsAtOnce];
  void* to;
  int32_t bytes;
};

FR_KERNEL void upload_kernel(const FR_CONSTANT UploadTask task) {
  uint8_t* const to = static_cast<uint8_t*>(task.to);
  for (int i = hw::thread(); i < task.bytes; i += kThreads)
    to[i] = static_cast<uint8_t>(task.words[i / 8] >> i % 8 * 8);
}

struct CountTask {
  uint64_t* numbers;
  int64_t count;
};

FR_KERNEL void count_up_kernel(const FR_CONSTANT CountTask task) {
  for (int64_t i = hw::thread(); i < task.count; i += kThreads) ++task.numbers[i];
}

}  // namespace

Status gather(const Gather* list, int64_t count, Stream stream) {
  Status status = Status::ok;
  for (int64_t first = 0; first < count && status == Status::ok; first += kAtOnce) {
    GatherTask task = {};
    for (; task.parts < kAtOnce && first + task.parts < count; ++task.parts) {
      const Gather& g = task.part[task.parts] = list[first + task.parts];
      task.pieces_before[task.parts + 1] =
          task.pieces_before[task.parts] + (g.from.rows * g.from.width + kPiece - 1) / kPiece;
    }
    const int64_t pieces = task.pieces_before[task.parts];
    status = hw::launch<gather_kernel>({{pieces < kBlocks ? pieces : kBlocks}, kThreads}, stream, task);
  }
  return status;
}

Status upload(void* to, const void* from, size_t bytes, Stream stream) {
  constexpr size_t kMost = kWordsAtOnce * sizeof(uint64_t);
  Status status = Status::ok;
  for (size_t done = 0; done < bytes && status == Status::ok; done += kMost) {
    const size_t n = bytes - done < kMost ? bytes - done : kMost;
    UploadTask task = {};
    std::memcpy(task.words, static_cast<const char*>(from) + done, n);
    task.to = static_cast<char*>(to) + done;
    task.bytes = static_cast<int32_t>(n);
    status = hw::launch<upload_kernel>({{1}, kThreads}, stream, task);
  }
  return status;
}

Status increment(uint64_t* numbers, int64_t count, Stream stream) {
  return count == 0 ? Status::ok : hw::launch<count_up_kernel>({{1}, kThreads}, stream, {numbers, count});
}

}  // namespace fusedrnn::cuda
