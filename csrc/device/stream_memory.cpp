#include "device/stream_memory.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "runtime/error.hpp"
#include "runtime/os.hpp"

namespace fusedrnn {
namespace {

constexpr uintptr_t kLegacy = 1, kOfThread = 2;

std::atomic<uint64_t> scopes{0};

struct CurrentStream {
  Stream stream = nullptr;
  uint64_t scope = 0;
  const uint64_t thread = ++scopes;
};
thread_local CurrentStream current;

// What the call under way has said it uses. Blocks that are gone by its end have been freed in the order of its stream.
struct Use {
  std::weak_ptr<Block> block;
  Access access;
};
thread_local std::vector<Use> uses;

// 0 and 1 are both the legacy stream.
Stream plain(Stream stream) { return stream == nullptr ? reinterpret_cast<Stream>(kLegacy) : stream; }

bool is_legacy(Stream stream) { return reinterpret_cast<uintptr_t>(plain(stream)) == kLegacy; }

// As the calling thread sees it: of a stream that is neither a default one nor its current one only this once.
StreamId id_of(Stream stream, int32_t device) {
  if (is_legacy(stream)) return {plain(stream), 0, device};
  if (reinterpret_cast<uintptr_t>(stream) == kOfThread) return {stream, current.thread, device};
  return {stream, stream == current.stream ? current.scope : ++scopes, device};
}

StreamId id_of_current(int32_t device) { return id_of(current.stream, device); }

// ----------------------------------------------------------------------------------------------------------------
// forks
std::atomic<bool> in_child{false};

void watch_forks() {
  [[maybe_unused]] static const bool watched = [] {
    os_at_fork([] {}, [] {}, [] { in_child = true; });
    return true;
  }();
}

void require_no_fork() {
  if (in_child)
    throw std::runtime_error(
        "CUDA was used before this process was forked, and does not work in it: start processes by another method "
        "(multiprocessing.set_start_method(\"spawn\")), or fork before CUDA is used");
}

// -------------------------------------------------------------------------------------------------- events and remains
// EventPool that serve again; one stays a device's own. Never destroyed, like what follows: memory may be given up
// while the process ends.
struct EventPool {
  std::mutex mutex;
  std::map<std::pair<const Backend*, int32_t>, std::vector<Event>> idle;
};

EventPool& event_pool() {
  static EventPool* m = new EventPool;
  return *m;
}

std::shared_ptr<const EventRef> event_now(const Backend& backend, Stream stream) {
  require_no_fork();
  const int32_t device = backend.device();
  Event event = nullptr;
  {
    const std::lock_guard<std::mutex> lock(event_pool().mutex);
    std::vector<Event>& idle = event_pool().idle[{&backend, device}];
    if (!idle.empty()) {
      event = idle.back();
      idle.pop_back();
    }
  }
  if (event == nullptr) check(backend, backend.async->event_create(&event), "event_create");
  const auto ref = std::make_shared<const EventRef>(backend, id_of(stream, device), event);
  check(backend, backend.async->event_record(event, stream), "event_record");
  return ref;
}

// What is left of a block whose uses are not all done.
struct Remains {
  const Backend* backend;
  void* data;
  int32_t device;
  bool pooled;
  std::shared_ptr<void> owner;
  std::vector<std::shared_ptr<const EventRef>> events;

  bool done() const {
    return std::all_of(events.begin(), events.end(), [](const auto& event) { return event->done(); });
  }
};

struct Graveyard {
  std::mutex mutex;
  std::vector<Remains> remains;
  std::atomic<size_t> count{0};
};

Graveyard& graveyard() {
  static Graveyard* g = new Graveyard;
  return *g;
}

// Memory of ours; that of others its owner gives back.
void give_back(const Remains& remains) {
  if (remains.owner != nullptr) return;
  if (!remains.pooled || remains.backend->async->free_on(remains.data, current.stream) != Status::ok)
    remains.backend->free(remains.data);  // failures are the device's, and come up where it is used next
}

// Gives back what is no longer used, and says how much of the calling thread's device is left. Not while its stream
// is being captured.
ptrdiff_t clear_graveyard() {
  Graveyard& g = graveyard();
  if (g.count == 0 || in_child) return 0;
  const auto here = [](const Remains& each) { return each.device == each.backend->device(); };
  ptrdiff_t left = 0;
  std::vector<Remains> done;
  {
    const std::lock_guard<std::mutex> lock(g.mutex);
    const auto first = std::partition(g.remains.begin(), g.remains.end(),
                                      [&](const Remains& each) { return !here(each) || !each.done(); });
    done.assign(std::make_move_iterator(first), std::make_move_iterator(g.remains.end()));
    g.remains.erase(first, g.remains.end());
    g.count = g.remains.size();
    left = std::count_if(g.remains.begin(), g.remains.end(), here);
  }
  for (const Remains& each : done) give_back(each);  // owners, who may ask for the GIL, go without the lock
  return left;
}

void bury(Remains remains) {
  const StreamId here = id_of_current(remains.device);
  const bool on_device = remains.backend->device() == remains.device && !stream_is_captured(*remains.backend);
  // In the order of the stream that all of it has happened on the host need not wait.
  const bool pooled = remains.owner == nullptr && remains.pooled;
  const auto behind = [&](const std::shared_ptr<const EventRef>& event) {
    return (pooled && event->on() == here) || event->done();
  };
  if (on_device && std::all_of(remains.events.begin(), remains.events.end(), behind)) return give_back(remains);
  Graveyard& g = graveyard();
  const std::lock_guard<std::mutex> lock(g.mutex);
  g.remains.push_back(std::move(remains));
  g.count = g.remains.size();
}

// Waits until all that was given up is free again.
void drain_graveyard() {
  while (clear_graveyard() > 0) std::this_thread::yield();
}

// A graph's hold on a block.
using Hold = std::shared_ptr<Block>;

// Graphs let go of blocks on threads of the driver's, where nothing of CUDA may be called.
struct Released {
  std::mutex mutex;
  std::vector<Hold*> holds;
  std::atomic<size_t> count{0};
};

Released& released() {
  static Released* r = new Released;
  return *r;
}

void release(void* hold) {
  const std::lock_guard<std::mutex> lock(released().mutex);
  released().holds.push_back(static_cast<Hold*>(hold));
  ++released().count;
}

void clear_released() {
  if (released().count == 0 || in_child) return;
  std::vector<Hold*> holds;
  {
    const std::lock_guard<std::mutex> lock(released().mutex);
    holds.swap(released().holds);
    released().count = 0;
  }
  for (Hold* hold : holds) delete hold;
}

}  // namespace

Stream current_stream() { return current.stream; }

Stream set_current_stream(Stream stream) {
  current.scope = ++scopes;
  return std::exchange(current.stream, stream);
}

bool stream_is_captured(const Backend& backend) {
  if (is_legacy(current.stream)) return false;  // it cannot be
  int32_t yes = 0;
  return backend.async->capturing(current.stream, &yes) == Status::ok && yes != 0;
}

void require_no_capture(const Backend& backend, const char* what) {
  if (!stream_is_captured(backend)) return;
  char stream[32];
  std::snprintf(stream, sizeof stream, "%p", current.stream);
  throw std::runtime_error(std::string(what) + " cannot be captured: the host would have to wait for stream " + stream +
                           ", which is being captured into a graph: do it before or after the capture");
}

EventRef::~EventRef() {
  if (in_child) return;
  const std::lock_guard<std::mutex> lock(event_pool().mutex);
  event_pool().idle[{&backend_, on_.device}].push_back(event_);
}

bool EventRef::done() const {
  int32_t yes = 0;
  return backend_.async->event_query(event_, &yes) != Status::ok || yes != 0;
}

void EventRef::wait_on(Stream stream) const {
  check(backend_, backend_.async->event_wait(stream, event_), "event_wait");
}

// -------------------------------------------------------------------------------------------------------------- blocks
Block::Block(const Backend& backend, void* data, bool pooled, std::shared_ptr<void> owner)
    : backend_(backend), data_(data), device_(backend.device()), pooled_(pooled), owner_(std::move(owner)) {
  watch_forks();
}

std::shared_ptr<Block> Block::allocate(const Backend& backend, size_t bytes, const char* what) {
  require_no_fork();
  // Memory of graphs is made beforehand: the runtime's own would be gone, or in the way, when the graph runs again.
  const bool pooled = !stream_is_captured(backend);
  if (pooled) {
    clear_released();
    clear_graveyard();
  }
  void* data = nullptr;
  const size_t some = bytes > 0 ? bytes : 1;  // an empty array has an address too
  const auto allocate = [&] {
    return pooled ? backend.async->alloc_on(some, &data, current.stream) : backend.alloc(some, &data);
  };
  Status status = allocate();
  if (status == Status::out_of_memory && pooled) {
    drain_graveyard();
    status = allocate();
  }
  check(backend, status, what);
  std::shared_ptr<Block> block(new Block(backend, data, pooled, nullptr));
  block->use(Access::write);
  return block;
}

std::shared_ptr<Block> Block::adopt(const Backend& backend, void* data, std::shared_ptr<void> owner) {
  std::shared_ptr<Block> block(new Block(backend, data, false, std::move(owner)));
  // Ready on this stream means: other streams have to wait for it.
  if (!stream_is_captured(backend)) block->set(event_now(backend, current.stream), Access::write);
  return block;
}

Block::~Block() {
  if (in_child) {
    if (owner_ != nullptr) (void)new std::shared_ptr<void>(std::move(owner_));  // nor does the owner's library work
    return;
  }
  Remains remains{&backend_, data_, device_, pooled_, std::move(owner_), {}};
  if (written_ != nullptr) remains.events.push_back(std::move(written_));
  for (Read& read : reads_) remains.events.push_back(std::move(read.event));
  bury(std::move(remains));
}

void Block::use(Access access) {
  require_no_fork();
  uses.push_back({weak_from_this(), access});
  const std::lock_guard<std::mutex> lock(mutex_);
  if (written_ == nullptr) return;
  const StreamId here = id_of_current(device_);
  const bool others = !(written_->on() == here) || std::any_of(reads_.begin(), reads_.end(), [&](const Read& read) {
    return !(read.event->on() == here);
  });
  // What was before a capture is not for the graph to wait for: who launches it does.
  if (!others || stream_is_captured(backend_)) return;
  if (!(written_->on() == here)) written_->wait_on(current.stream);
  if (access == Access::read) return;
  for (Read& read : reads_) {
    if (!(read.event->on() == here)) read.event->wait_on(current.stream);
    read.waited_for = true;
  }
}

void Block::set(const std::shared_ptr<const EventRef>& event, Access access) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (access == Access::write) {
    written_ = event;
    reads_.erase(std::remove_if(reads_.begin(), reads_.end(), [](const Read& read) { return read.waited_for; }),
                 reads_.end());
    return;
  }
  if (written_ == nullptr) written_ = event;  // of a capture: its graph runs when it does
  for (Read& read : reads_) {
    if (!(read.event->on() == event->on())) continue;
    read = {event, false};
    return;
  }
  reads_.push_back({event, false});
}

StreamId Block::given_to(Stream stream) {
  const StreamId consumer = id_of(stream, device_);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (written_ != nullptr && !(written_->on() == consumer) && !stream_is_captured(backend_)) written_->wait_on(stream);
  return consumer;
}

void Block::left_by(const StreamId& consumer) {
  const bool there = is_legacy(consumer.stream) || consumer == id_of_current(device_);
  if (!there || backend_.device() != device_ || stream_is_captured(backend_)) return;
  set(event_now(backend_, consumer.stream), Access::read);
}

Stream Block::writing_stream() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stream_is_captured(backend_)) return current.stream;
  if (written_ == nullptr || written_->done()) return nullptr;
  const StreamId& on = written_->on();
  const auto legacy = reinterpret_cast<Stream>(kLegacy);
  if (is_legacy(on.stream) || on == id_of_current(device_)) return on.stream;
  written_->wait_on(legacy);  // theirs may be gone
  return legacy;
}

void mark_uses(const Backend& backend) {
  const std::vector<Use> all = std::exchange(uses, {});
  if (stream_is_captured(backend)) {
    for (const Use& use : all) {
      const std::shared_ptr<Block> block = use.block.lock();
      if (block == nullptr) continue;
      auto hold = std::make_unique<Hold>(block);
      check(backend, backend.async->capture_hold(current.stream, hold.get(), release), "capture_hold");
      (void)hold.release();
    }
    return;
  }
  if (!all.empty()) {
    const std::shared_ptr<const EventRef> event = event_now(backend, current.stream);
    for (const Use& use : all)
      if (const std::shared_ptr<Block> block = use.block.lock()) block->set(event, use.access);
  }
  clear_released();
  clear_graveyard();
}

void drop_uses() {
  uses.clear();
  clear_released();
  clear_graveyard();
}

void empty_cache(const Backend& backend) {
  require_no_fork();
  require_no_capture(backend, "empty_cache()");
  clear_released();
  drain_graveyard();
  check(backend, backend.async->trim(), "empty_cache");
}

void wait_for(const Backend& backend, Stream other) {
  const int32_t device = backend.device();
  if (!(id_of(other, device) == id_of_current(device))) event_now(backend, other)->wait_on(current.stream);
}

void copy_to_host(const Backend& backend, void* to, const void* from, size_t bytes, const char* what) {
  require_no_capture(backend, what);
  check(backend, backend.copy(to, from, bytes, current.stream), what);
  check(backend, backend.synchronize(current.stream), what);
}

}  // namespace fusedrnn
