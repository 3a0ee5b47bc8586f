// What a running CUDA thread asks of the emulator.
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "number.hpp"
#include "races.hpp"
#include "scheduler.hpp"
#include "streams.hpp"

namespace fusedrnn::cuda::simt {
namespace {

constexpr int kWarp = 32;

// Memory for a kernel's arguments, whatever they are.
struct alignas(64) Aligned {
  unsigned char bytes[64];
};

constexpr const char* kBarrier = "barrier()";
constexpr const char* kWarpBarrier = "warp_barrier()";
constexpr const char* kShuffle = "shuffle()";
constexpr uint32_t kTf32Mask = ~0x1fffu;  // what the hardware reads of a register
constexpr const char* kBallot = "ballot()";
constexpr const char* kLoadMatrices = "load_matrices()";
constexpr const char* kMma[] = {"mma_tf32()", "mma_bf16()", "mma_fp16()"};

unsigned char* state_of(const void* p) {
  return const_cast<unsigned char*>(static_cast<const unsigned char*>(p)) + kStateDistance;
}

int64_t offset_in_block(const void* p) { return static_cast<const unsigned char*>(p) - here->shared; }

Warp& my_warp() {
  CudaThread* self = current_launch().current;
  return self->block->warps[self->view.thread / kWarp];
}

// Waits for the other lanes. What a lane left in a half of `warp` before stays there until the warp's next meeting but
// one. Orders no memory, as the hardware promises none.
void exchange(Warp& warp, const char* purpose) { current_launch().meet(warp.meeting, purpose, false); }

float number_of(Operand operand, uint32_t bits) {
  const uint16_t low = static_cast<uint16_t>(bits);
  return operand == Operand::bf16 ? float_of_bf16(low) : float_of_fp16(low);
}

// Puts what this lane holds of A and B (cuda/hw/device.cuh has the layouts) in its place.
void unpack(Operand operand, Tiles& tiles, const uint32_t* a, const uint32_t* b) {
  const int lane = here->thread % kWarp, g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) {
    float* row = tiles.a[g + i % 2 * 8];
    if (operand == Operand::tf32) {
      row[t + i / 2 * 4] = float_of(a[i] & kTf32Mask);
    } else {
      row[2 * t + i / 2 * 8] = number_of(operand, a[i]);
      row[2 * t + i / 2 * 8 + 1] = number_of(operand, a[i] >> 16);
    }
  }
  float* column = tiles.b[g];
  for (int i = 0; i < 2; ++i) {
    if (operand == Operand::tf32) {
      column[t + i * 4] = float_of(b[i] & kTf32Mask);
    } else {
      column[2 * t + i * 8] = number_of(operand, b[i]);
      column[2 * t + i * 8 + 1] = number_of(operand, b[i] >> 16);
    }
  }
}

}  // namespace

void fault(const char* format, ...) {
  char text[600];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  current_launch().stop(text);
  __builtin_unreachable();
}

// --------------------------------------------------------------------------------------------------- shared memory
void require_written(const void* p, size_t bytes) {
  const unsigned char* state = state_of(p);
  for (size_t i = 0; i < bytes; ++i) {
    if (state[i] != kWritten) not_written(p, bytes);
  }
}

void note_written(void* p, size_t bytes) { std::memset(state_of(p), kWritten, bytes); }

void not_written(const void* p, size_t bytes) {
  const auto holds = [&](ByteState state) { return std::memchr(state_of(p), state, bytes) != nullptr; };
  fault("reads %zu bytes of shared memory at byte %lld, %s", bytes, static_cast<long long>(offset_in_block(p)),
        holds(kInFlight)
            ? "where an asynchronous copy is under way: no wait_copies() came in between, nor mbarrier_wait()"
        : holds(kMbarrier) ? "where an mbarrier is"
                           : "which nobody has written");
}

void note_banks(const void* p, size_t bytes) {
  const auto offset = static_cast<uint32_t>(static_cast<const unsigned char*>(p) - here->shared);
  current_launch().current->block->banks.note(here->thread, __builtin_return_address(0), offset, bytes);
}

void outside_shared(const void* p, size_t bytes, const void* first, const void* last) {
  fault("accesses %zu bytes of shared memory at byte %lld, outside its array of bytes %lld to %lld (the block has %zu)",
        bytes, static_cast<long long>(offset_in_block(p)), static_cast<long long>(offset_in_block(first)),
        static_cast<long long>(offset_in_block(last)), here->shared_bytes);
}

void* shared_array(int64_t byte_offset, int64_t bytes, size_t alignment, unsigned char** last) {
  const int64_t have = static_cast<int64_t>(here->shared_bytes);
  const int64_t end = bytes < 0 ? have : byte_offset + bytes;
  if (byte_offset < 0 || end > have || byte_offset > end) {
    fault("asks for bytes %lld to %lld of shared memory: the block has %lld", static_cast<long long>(byte_offset),
          static_cast<long long>(end), static_cast<long long>(have));
  }
  if (byte_offset % static_cast<int64_t>(alignment) != 0) {
    fault("asks for shared memory at byte %lld, not a multiple of %zu", static_cast<long long>(byte_offset), alignment);
  }
  *last = here->shared + end;
  return here->shared + byte_offset;
}

// ------------------------------------------------------------------------------------------------------ asynchronous
void copy_async(void* to, const void* from, int bytes, int bytes_valid) {
  if (bytes_valid < 0 || bytes_valid > bytes) fault("copies %d of %d bytes to shared memory", bytes_valid, bytes);
  if (offset_in_block(to) % bytes != 0) {
    fault("copies %d bytes to shared memory at byte %lld, not aligned", bytes,
          static_cast<long long>(offset_in_block(to)));
  }
  if (bytes_valid > 0) {
    if (reinterpret_cast<uintptr_t>(from) % bytes != 0) fault("copies %d bytes from %p, not aligned", bytes, from);
    for (const int last : {0, bytes_valid - 1}) {
      require_global(static_cast<const unsigned char*>(from) + last, 1, false);
    }
  }
  CudaThread* self = current_launch().current;
  std::memset(to, 0xff, bytes);
  std::memset(state_of(to), kInFlight, bytes);
  races::read(from, bytes_valid);
  races::write(to, bytes);
  Copy copy = {static_cast<unsigned char*>(to),
               static_cast<const unsigned char*>(from),
               bytes,
               bytes_valid,
               self->groups,
               current_launch().before_previous(),
               {}};
  if (copy.taken) std::memcpy(copy.value, from, bytes_valid);
  self->copies.push_back(copy);
}

void commit_copies() { ++current_launch().current->groups; }

// As late as can be: the bytes arrive here. Where the previous kernel may still write them they were read early.
void wait_copies(int groups) {
  CudaThread* self = current_launch().current;
  size_t done = 0;
  for (const Copy& copy : self->copies) {
    if (copy.group >= self->groups - groups) break;
    if (!copy.taken) races::read(copy.from, copy.bytes_valid);
    races::write(copy.to, copy.bytes);
    std::memset(copy.to, 0, copy.bytes);
    std::memcpy(copy.to, copy.taken ? copy.value : copy.from, copy.bytes_valid);
    note_written(copy.to, copy.bytes);
    ++done;
  }
  self->copies.erase(self->copies.begin(), self->copies.begin() + done);
}

// ---------------------------------------------------------------------------------------------- kernels that overlap
void wait_on_dependency() { current_launch().wait_on_dependency(); }

void launch_dependents() {
  if (current_launch().before_previous()) fault("is at launch_dependents() before wait_on_dependency()");
}

// ---------------------------------------------------------------------------------------------------------- meetings
void barrier() {
  Launch& launch = current_launch();
  launch.meet(launch.current->block->meeting, kBarrier, true);
}

void warp_barrier() {
  Launch& launch = current_launch();
  const CudaThread* self = launch.current;
  launch.meet(self->block->warps[self->view.thread / kWarp].meeting, kWarpBarrier, true);
}

uint64_t shuffle(uint64_t bits, int from) {
  if (from < 0 || from >= kWarp) fault("shuffles with lane %d", from);
  Warp& warp = my_warp();
  const int half = warp.meeting.turn & 1;
  warp.shuffled[half][here->thread % kWarp] = bits;
  exchange(warp, kShuffle);
  return warp.shuffled[half][from];
}

uint32_t ballot(bool yes) {
  Warp& warp = my_warp();
  const uint64_t* const said = warp.shuffled[warp.meeting.turn & 1];
  warp.shuffled[warp.meeting.turn & 1][here->thread % kWarp] = yes;
  exchange(warp, kBallot);
  uint32_t bits = 0;
  for (int lane = 0; lane < kWarp; ++lane) bits |= static_cast<uint32_t>(said[lane]) << lane;
  return bits;
}

void mma(Operand operand, float* d, const uint32_t* a, const uint32_t* b) {
  Warp& warp = my_warp();
  const Tiles& tiles = warp.tiles[warp.meeting.turn & 1];
  unpack(operand, warp.tiles[warp.meeting.turn & 1], a, b);
  exchange(warp, kMma[static_cast<int>(operand)]);
  const int lane = here->thread % kWarp, g = lane / 4, t = lane % 4;
  const int depth = operand == Operand::tf32 ? 8 : 16;
  for (int k = 0; k < depth; ++k) {
    for (int i = 0; i < 4; ++i) d[i] += tiles.a[g + i / 2 * 8][k] * tiles.b[2 * t + i % 2][k];
  }
}

void load_matrices(const void* row, bool transposed, uint32_t* words) {
  constexpr int kBytes = 16, kHalf = 2;  // of a row, of a value
  if (offset_in_block(row) % kBytes != 0) {
    fault("loads a matrix whose row is at byte %lld of shared memory, not aligned",
          static_cast<long long>(offset_in_block(row)));
  }
  if (here->metered) {
    const auto offset = static_cast<uint32_t>(offset_in_block(row));
    current_launch().current->block->banks.note(here->thread, __builtin_return_address(0), offset, kBytes);
  }
  Warp& warp = my_warp();
  uint64_t* const rows = warp.shuffled[warp.meeting.turn & 1];
  rows[here->thread % kWarp] = reinterpret_cast<uintptr_t>(row);
  exchange(warp, kLoadMatrices);
  const int g = here->thread % kWarp / 4, t = here->thread % 4;
  const auto part = [&](int of, int at, int bytes, void* to) {
    const auto* const from = reinterpret_cast<const unsigned char*>(static_cast<uintptr_t>(rows[of])) + at;
    races::read(from, bytes);
    require_written(from, bytes);
    std::memcpy(to, from, bytes);
  };
  for (int m = 0; m < 4; ++m) {
    if (!transposed) {
      part(8 * m + g, 4 * t, 4, words + m);
      continue;
    }
    uint16_t values[2];
    for (int i = 0; i < 2; ++i) part(8 * m + 2 * t + i, kHalf * g, kHalf, values + i);
    words[m] = values[0] | static_cast<uint32_t>(values[1]) << 16;
  }
}

// -------------------------------------------------------------------------------------------------------------- host
namespace {

// "lstm_step<float>" from "... [with auto kernel = fusedrnn::cuda::lstm_step<float>; ...]" (g++) or
// "... [kernel = &fusedrnn::cuda::lstm_step<float>]" (Clang).
std::string kernel_name(const char* signature) {
  const char* start = std::strstr(signature, "kernel = ");
  if (start == nullptr) return signature;
  start += std::strlen("kernel = ");
  start += *start == '&';
  const std::string name(start, std::strcspn(start, ";]"));
  const std::string ours = "fusedrnn::cuda::";
  return name.rfind(ours, 0) == 0 ? name.substr(ours.size()) : name;
}

}  // namespace

Status launch(const LaunchShape& shape, Stream stream, void (*run)(const void* args), const void* args, size_t bytes,
              const char* signature, SourceLocation location) {
  const std::string name = kernel_name(signature);
  for (const int64_t n : shape.blocks) {
    if (n == 0) return Status::ok;
  }
  const Status status = require_possible(shape, name, location);
  if (status != Status::ok) return status;
  const auto kept = std::make_shared<std::vector<Aligned>>((bytes + sizeof(Aligned) - 1) / sizeof(Aligned));
  std::memcpy(static_cast<void*>(kept->data()), args, bytes);
  const std::shared_ptr<const void> at(kept, kept->data());
  return enqueue_kernel(stream, std::make_shared<const KernelCall>(KernelCall{shape, run, at, name, location}));
}

}  // namespace fusedrnn::cuda::simt
