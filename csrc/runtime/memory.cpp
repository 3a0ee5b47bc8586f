#include "runtime/memory.hpp"

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime/cpu.hpp"
#include "runtime/os.hpp"

namespace fusedrnn {
namespace {

bool poison() {
  static const bool on = [] {
    const char* value = std::getenv("FUSEDRNN_POISON");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  return on;
}

// In front of every block: how many bytes follow.
struct alignas(kAlignment) Header {
  size_t bytes;
};

// Large blocks freed are kept for the next request of their size. A fresh one costs a page fault per page, which would
// be a good part of a training step; a step asks for the same sizes again and again. Slots are taken and filled by
// single atomic operations: nothing to lock, so nothing to find locked after a fork. Threads that free at the same
// moment may pass the bound by a block each.
constexpr size_t kWorthKeeping = 128 << 10;
constexpr size_t kMostKept = size_t{512} << 20;  // all together
constexpr unsigned kSlots = 16;
std::atomic<Header*> kept[kSlots];
std::atomic<size_t> kept_bytes{0};
std::atomic<unsigned> oldest{0};

// What was taken out of a slot counts no more.
Header* taken(Header* block) {
  if (block != nullptr) kept_bytes.fetch_sub(block->bytes, std::memory_order_relaxed);
  return block;
}

// Sizes that callers no longer ask for make room in turn.
std::atomic<Header*>& next_to_go() { return kept[oldest.fetch_add(1, std::memory_order_relaxed) % kSlots]; }

void keep_or_free(Header* block) {
  if (block->bytes < kWorthKeeping || block->bytes > kMostKept) {
    os_free(block);
    return;
  }
  for (unsigned i = 0; i < kSlots && kept_bytes.load(std::memory_order_relaxed) + block->bytes > kMostKept; ++i)
    os_free(taken(next_to_go().exchange(nullptr, std::memory_order_acq_rel)));
  kept_bytes.fetch_add(block->bytes, std::memory_order_relaxed);
  for (auto& slot : kept) {
    Header* empty = nullptr;
    if (slot.compare_exchange_strong(empty, block, std::memory_order_acq_rel)) return;
  }
  os_free(taken(next_to_go().exchange(block, std::memory_order_acq_rel)));
}

// A kept block that holds `bytes` without wasting as many again, or nullptr.
Header* take_kept(size_t bytes) {
  if (bytes < kWorthKeeping) return nullptr;
  for (auto& slot : kept) {
    if (slot.load(std::memory_order_relaxed) == nullptr) continue;
    Header* block = taken(slot.exchange(nullptr, std::memory_order_acq_rel));
    if (block == nullptr) continue;
    if (block->bytes >= bytes && block->bytes / 2 <= bytes) return block;
    keep_or_free(block);
  }
  return nullptr;
}

// From the system. What spans many huge pages asks for them: a fault per 2 MiB instead of one per 4 KiB, and products
// that walk weights of many megabytes miss the translation cache less.
constexpr size_t kHugePage = size_t{2} << 20;

Header* fresh(size_t bytes) {
  const size_t needed = sizeof(Header) + bytes;
  const bool huge = needed >= 2 * kHugePage;
  const size_t alignment = huge ? kHugePage : kAlignment;
  const size_t size = (needed + alignment - 1) / alignment * alignment;  // as os_allocate requires
  auto* block = static_cast<Header*>(os_allocate(alignment, size, huge));
  if (block == nullptr) return nullptr;
  block->bytes = bytes;
  return block;
}

std::atomic<uint64_t> allocations{0};

}  // namespace

uint64_t host_allocations() { return allocations.load(std::memory_order_relaxed); }

Status host_alloc(size_t bytes, void** memory) {
  *memory = nullptr;
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (bytes > PTRDIFF_MAX - 2 * sizeof(Header)) return Status::out_of_memory;
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  Header* block = take_kept(rounded);
  if (block == nullptr) block = fresh(rounded);
  if (block == nullptr) return Status::out_of_memory;
  *memory = block + 1;
  if (poison()) std::memset(*memory, 0xFF, rounded);
  return Status::ok;
}

void host_free(void* memory) {
  if (memory != nullptr) keep_or_free(static_cast<Header*>(memory) - 1);
}

Status host_copy(void* to, const void* from, size_t bytes, Stream) {
  if (bytes != 0) std::memcpy(to, from, bytes);
  return Status::ok;
}

void shared_copy(void* to, const void* from, size_t bytes, Team* team) {
  struct Copy {
    char* to;
    const char* from;
    size_t bytes, each;
  };
  const size_t threads = static_cast<size_t>(team->size), share = (bytes + threads - 1) / threads;
  Copy all{static_cast<char*>(to), static_cast<const char*>(from), bytes,
           (share + kAlignment - 1) / kAlignment * kAlignment};
  team->parallel(
      team, team->size,
      [](void* context, int32_t index) {
        const Copy& copy = *static_cast<const Copy*>(context);
        const size_t first = copy.each * static_cast<size_t>(index);
        const size_t left = first < copy.bytes ? copy.bytes - first : 0;
        if (left > 0) std::memcpy(copy.to + first, copy.from + first, left < copy.each ? left : copy.each);
      },
      &all);
}

Status host_fill(void* to, int value, size_t bytes, Stream) {
  if (bytes != 0) std::memset(to, value, bytes);
  return Status::ok;
}

Status host_synchronize(Stream) { return Status::ok; }

int32_t host_device() { return 0; }

Status host_device_of(const void*, int32_t* device) {
  *device = 0;
  return Status::ok;
}

Status host_describe(char* text, size_t bytes) {
  std::snprintf(text, bytes, "%s", cpu_model().c_str());
  return Status::ok;
}

}  // namespace fusedrnn
