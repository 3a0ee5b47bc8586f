// Device memory of the emulator: host pages with an inaccessible page on either side, the block up against the one
// behind it. Fresh memory is NaN in every float type. What page size and alignment leave over beside a block holds a
// pattern that is looked at after every launch and when the block is freed.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "races.hpp"
#include "scheduler.hpp"
#include "streams.hpp"

namespace fusedrnn::cuda::simt {
namespace {

constexpr size_t kPage = 4096, kAlignment = 64;
constexpr size_t kNear = 256;        // bytes before a block that are looked at after every launch
constexpr uint16_t kGuard = 0xfff9;  // NaN in every float type, and no byte pattern of fresh memory

struct Allocation {
  unsigned char* pages;  // accessible from here on
  size_t page_bytes;
  unsigned char* first;
  size_t bytes;
  int device;
  bool freed;  // or will be, where its stream comes to it

  unsigned char* last() const { return first + bytes; }
  unsigned char* end() const { return pages + page_bytes; }
};

struct Registry {
  std::mutex mutex;
  std::map<uintptr_t, Allocation> allocations;  // by the first byte
  size_t total = 0;
  size_t pooled = 0;  // of what was freed in a stream, bytes that a device's pool would have kept
};

Registry& registry() {
  static Registry* r = new Registry;  // never destroyed, as the launch
  return *r;
}

// Where an access was inside an allocation, others nearby will be.
struct Range {
  uintptr_t first = 0, last = 0;
};
constexpr size_t kRanges = 64;
Range ranges[kRanges];

Range& range_of(uintptr_t address) { return ranges[(address >> 12 ^ address >> 18) % kRanges]; }

void forget_ranges() {
  for (Range& range : ranges) range = {};
}

uintptr_t number(const void* p) { return reinterpret_cast<uintptr_t>(p); }
size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

unsigned char guard_byte(const unsigned char* p) {
  return static_cast<unsigned char>(number(p) % 2 == 0 ? kGuard & 0xff : kGuard >> 8);
}

void write_guard(unsigned char* from, unsigned char* to) {
  for (unsigned char* p = from; p < to; ++p) *p = guard_byte(p);
}

// The first byte of [from, to) that is not as written, or `to`.
const unsigned char* damage(const unsigned char* from, const unsigned char* to) {
  while (from < to && *from == guard_byte(from)) ++from;
  return from;
}

// "<deed> 4 bytes behind the end of an allocation of 64 bytes<suffix>"
Words beside(const char* deed, const Allocation& a, uintptr_t address, const char* suffix) {
  const bool before = address < number(a.first);
  Words words;
  std::snprintf(words.text, sizeof words.text, "%s%zu bytes %s an allocation of %zu bytes%s", deed,
                before ? number(a.first) - address : address - number(a.last()),
                before ? "before" : "behind the end of", a.bytes, suffix);
  return words;
}

// Damage around an allocation between `from` and its end, in words; repaired, so that it is told once.
std::string check_guard(const Allocation& a, unsigned char* from) {
  const unsigned char* p = damage(from, a.first);
  if (p == a.first) p = damage(a.last(), a.end());
  if (p == a.end()) return {};
  const std::string text = beside("", a, number(p), " was written to").text;
  write_guard(a.pages, a.first);
  write_guard(a.last(), a.end());
  return text;
}

const Allocation* containing(uintptr_t address) {
  auto& allocations = registry().allocations;
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return nullptr;
  const Allocation& a = std::prev(after)->second;
  return address < number(a.last()) ? &a : nullptr;
}

}  // namespace

Lock::Lock() { registry().mutex.lock(); }
Lock::~Lock() { registry().mutex.unlock(); }

int current_device() {
  const char* text = std::getenv("FUSEDRNN_SIMT_DEVICE");
  return text == nullptr ? 0 : std::atoi(text);
}

int device_of(const void* p) {
  const Lock lock;
  const Allocation* a = containing(number(p));
  return a == nullptr ? -1 : a->device;
}

int compute_major() {
  const char* text = std::getenv("FUSEDRNN_SIMT_COMPUTE");
  return text == nullptr ? 9 : std::atoi(text);
}

size_t argument_bytes() {
  const char* text = std::getenv("FUSEDRNN_SIMT_ARGUMENT");
  return text == nullptr ? kMaxArgument : std::strtoull(text, nullptr, 10);
}

int most_cluster_blocks() {
  if (compute_major() < 9) return 1;
  const char* text = std::getenv("FUSEDRNN_SIMT_CLUSTER");
  return text == nullptr ? kMaxCluster : std::atoi(text);
}

int most_blocks() {
  const char* text = std::getenv("FUSEDRNN_SIMT_BLOCKS");
  return text == nullptr ? kMultiprocessors : std::atoi(text);
}

int64_t most_nodes() {
  const char* text = std::getenv("FUSEDRNN_SIMT_NODES");
  return text == nullptr ? INT64_MAX : std::strtoll(text, nullptr, 10);
}

size_t device_bytes() {
  const char* text = std::getenv("FUSEDRNN_SIMT_MEMORY");
  return text == nullptr ? size_t{4} << 30 : std::strtoull(text, nullptr, 10);
}

std::string damaged_guards() {
  for (auto& [first, a] : registry().allocations) {
    unsigned char* from = a.first - std::min<size_t>(kNear, a.first - a.pages);
    std::string text = check_guard(a, from);
    if (!text.empty()) return text;
  }
  return {};
}

Words describe_address(const void* address) {
  const uintptr_t at = number(address);
  for (const auto& [first, a] : registry().allocations) {
    if (at + kPage >= number(a.pages) && at < number(a.end()) + kPage) {
      return beside("accesses global memory ", a, at, "");
    }
  }
  Words words;
  std::snprintf(words.text, sizeof words.text, "accesses address %p, which is no device memory (or is no more)",
                address);
  return words;
}

void require_global(const void* p, size_t bytes, bool write) {
  const uintptr_t at = number(p);
  if (write && current_launch().before_previous()) fault("writes global memory before wait_on_dependency()");
  if (at % bytes != 0) fault("%s %zu bytes of global memory at %p, not aligned", write ? "writes" : "reads", bytes, p);
  Range& range = range_of(at);
  if (at >= range.first && at + bytes <= range.last) return;
  const Allocation* a = containing(at);
  if (a == nullptr || at + bytes > number(a->last())) {
    fault("%s %zu bytes: %s", write ? "writes" : "reads", bytes, describe_address(p).text);
  }
  range = {number(a->first), number(a->last())};
}

namespace {

// Memory that is there at once; nullptr where there is none.
void* allocate(size_t bytes) {
  const Lock lock;
  Registry& r = registry();
  const size_t page_bytes = bytes > device_bytes() ? 0 : round_up(bytes, kPage);
  void* all = MAP_FAILED;
  if (page_bytes > 0 && r.total + bytes <= device_bytes()) {
    all = mmap(nullptr, page_bytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  if (all == MAP_FAILED) return nullptr;
  Allocation a;
  a.pages = static_cast<unsigned char*>(all) + kPage;
  a.page_bytes = page_bytes;
  mprotect(a.pages, page_bytes, PROT_READ | PROT_WRITE);
  a.bytes = bytes;
  a.device = current_device();
  a.first = a.end() - round_up(bytes, kAlignment);
  a.freed = false;
  std::memset(a.first, 0xff, bytes);
  write_guard(a.pages, a.first);
  write_guard(a.last(), a.end());
  r.allocations[number(a.first)] = a;
  r.total += bytes;
  forget_ranges();
  return a.first;
}

// Marks the allocation as one that will be gone, so that it is freed once.
Status give_up(void* memory, const char* call, SourceLocation location) {
  const Lock lock;
  const auto found = registry().allocations.find(number(memory));
  if (found != registry().allocations.end() && !std::exchange(found->second.freed, true)) return Status::ok;
  return fail(Status::device_error, "%s(%p) at %s:%d: not an allocation", call, memory, source_name(location.file),
              location.line);
}

// Gone: who uses it from here on is found out.
Status release(void* memory, const char* call, SourceLocation location) {
  const Lock lock;
  Registry& r = registry();
  const auto found = r.allocations.find(number(memory));
  const Allocation a = found->second;
  const std::string text = check_guard(a, a.pages);
  r.allocations.erase(found);
  r.total -= a.bytes;
  forget_ranges();
  munmap(a.pages - kPage, a.page_bytes + 2 * kPage);
  if (text.empty()) return Status::ok;
  return fail(Status::device_error, "%s(%p) at %s:%d: %s", call, memory, source_name(location.file), location.line,
              text.c_str());
}

// Where [p, p + bytes) is: in one allocation, in none, or a failure.
enum class Side { device, host, astray };
Side side_of(const void* p, size_t bytes) {
  const Allocation* a = containing(number(p));
  if (a == nullptr) return Side::host;
  return number(p) + bytes <= number(a->last()) ? Side::device : Side::astray;
}

}  // namespace

Status alloc(size_t bytes, void** memory, SourceLocation location) {
  *memory = nullptr;
  if (bytes == 0) return Status::ok;
  note(Deed::allocates);
  *memory = allocate(bytes);
  if (*memory != nullptr) return Status::ok;
  run_everything();  // what is to be freed in it
  *memory = allocate(bytes);
  if (*memory != nullptr) return Status::ok;
  const Lock lock;
  return fail(Status::out_of_memory, "alloc(%zu) at %s:%d: out of memory, %zu of %zu bytes are in use", bytes,
              source_name(location.file), location.line, registry().total, device_bytes());
}

Status free(void* memory, SourceLocation location) {
  if (memory == nullptr) return Status::ok;
  run_everything();
  const Status status = give_up(memory, "free", location);
  return status == Status::ok ? release(memory, "free", location) : status;
}

// It is anew NaN where the stream comes to it: what another stream has written there too early is lost.
Status alloc_on(size_t bytes, void** memory, Stream stream, SourceLocation location) {
  *memory = nullptr;
  if (bytes == 0) return Status::ok;
  Status status = require_stream("alloc_on", stream, location);
  if (status == Status::ok) status = require_no_capture("alloc_on", stream, location);
  if (status == Status::ok) status = alloc(bytes, memory, location);
  if (status != Status::ok) return status;
  {
    const Lock lock;
    registry().pooled -= std::min(bytes, registry().pooled);
  }
  return enqueue("alloc_on", stream, location, Work::books, [first = *memory, bytes] {
    const Lock lock;
    if (side_of(first, bytes) == Side::device) std::memset(first, 0xff, bytes);
    return Status::ok;
  });
}

Status free_on(void* memory, Stream stream, SourceLocation location) {
  if (memory == nullptr) return Status::ok;
  Status status = require_stream("free_on", stream, location);
  if (status == Status::ok) status = require_no_capture("free_on", stream, location);
  if (status == Status::ok) status = give_up(memory, "free_on", location);
  if (status != Status::ok) return status;
  return enqueue("free_on", stream, location, Work::books, [=] {
    {
      const Lock lock;
      registry().pooled += registry().allocations.find(number(memory))->second.bytes;
    }
    return release(memory, "free_on", location);
  });
}

void trim() {
  run_everything();
  const Lock lock;
  registry().pooled = 0;
}

size_t pooled_bytes() {
  const Lock lock;
  return registry().pooled;
}

Status copy(void* to, const void* from, size_t bytes, Stream stream, SourceLocation location) {
  if (bytes == 0) return require_stream("copy", stream, location);
  Side target, source;
  {
    const Lock lock;
    target = side_of(to, bytes);
    source = side_of(from, bytes);
  }
  const auto astray = [=](const char* why) {
    return fail(Status::device_error, "copy(%p, %p, %zu) at %s:%d: %s", to, from, bytes, source_name(location.file),
                location.line, why);
  };
  if (target == Side::astray || source == Side::astray) return astray("leaves an allocation");
  const bool of_host = target == Side::host || source == Side::host;
  if (of_host) {
    note(Deed::waits);
    const Status status = require_no_capture("copy of host memory", stream, location);
    if (status != Status::ok) return status;
  }
  // The host's bytes as they are now: they may be written to when this returns.
  std::shared_ptr<std::vector<char>> kept;
  if (source == Side::host) {
    const char* first = static_cast<const char*>(from);
    kept = std::make_shared<std::vector<char>>(first, first + bytes);
  }
  const Status status = enqueue("copy", stream, location, Work::ordinary, [=] {
    const Lock lock;
    if (side_of(to, bytes) != target || (kept == nullptr && side_of(from, bytes) != Side::device))
      return astray("of memory that is no more");
    std::memmove(to, kept != nullptr ? kept->data() : from, bytes);
    return Status::ok;
  });
  return status == Status::ok && target == Side::host ? synchronize(stream, location) : status;
}

Status fill(void* to, int value, size_t bytes, Stream stream, SourceLocation location) {
  if (bytes == 0) return require_stream("fill", stream, location);
  const auto astray = [=] {
    return fail(Status::device_error, "fill(%p, %d, %zu) at %s:%d: not inside an allocation", to, value, bytes,
                source_name(location.file), location.line);
  };
  {
    const Lock lock;
    if (side_of(to, bytes) != Side::device) return astray();
  }
  return enqueue("fill", stream, location, Work::ordinary, [=] {
    const Lock lock;
    if (side_of(to, bytes) != Side::device) return astray();
    std::memset(to, value, bytes);
    return Status::ok;
  });
}

}  // namespace fusedrnn::cuda::simt
