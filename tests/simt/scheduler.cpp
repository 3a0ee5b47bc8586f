#include "scheduler.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>

#include "races.hpp"
#include "segv.hpp"

namespace fusedrnn::cuda::simt {

const View* here = nullptr;

namespace {

uint64_t seed_from_environment() {
  const char* text = std::getenv("FUSEDRNN_SIMT_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

// splitmix64: any seed gives a well-mixed state.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

std::string format(const char* text, ...) __attribute__((format(printf, 1, 2)));
std::string format(const char* text, ...) {
  char out[512];
  std::va_list arguments;
  va_start(arguments, text);
  std::vsnprintf(out, sizeof out, text, arguments);
  va_end(arguments);
  return out;
}

std::string block_name(const View& view) {
  return format("block (%lld, %lld, %lld)", static_cast<long long>(view.block[0]),
                static_cast<long long>(view.block[1]), static_cast<long long>(view.block[2]));
}

// A stack and its guard are two mappings, of which a process may have 65530 on Linux.
constexpr int64_t kMostFibers = 24 * 1024;

// Threads that may wait for one flag, to begin with.
constexpr size_t kReserved = 64;

// ThreadSanitizer's fibers that are made before those of ended threads serve again.
constexpr size_t kRaceFibers = 512;

}  // namespace

namespace {

Launch* active = nullptr;
uint64_t launches = 0;

// Launches that nothing runs on, kernels that have begun early, and call stacks that no launch uses. Never destroyed:
// other threads may be in it when the process ends.
struct Pool {
  std::vector<std::unique_ptr<Launch>> all;
  std::vector<Launch*> idle;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::map<const KernelCall*, Launch*> begun;

  Launch* take() {
    if (idle.empty()) {
      all.push_back(std::make_unique<Launch>());
      return all.back().get();
    }
    Launch* launch = idle.back();
    idle.pop_back();
    return launch;
  }
  // The one that a kernel has begun on, or nullptr.
  Launch* take_begun(const KernelCall& call) {
    const auto found = begun.find(&call);
    if (found == begun.end()) return nullptr;
    Launch* launch = found->second;
    begun.erase(found);
    return launch;
  }
};

Pool& pool() {
  static Pool* p = new Pool;
  return *p;
}

}  // namespace

Launch& current_launch() { return *active; }

Status run_kernel(const KernelCall& call, const KernelCall* next) {
  const Lock lock;
  Launch* launch = pool().take_begun(call);
  if (launch == nullptr) launch = pool().take();
  const uint64_t seed = seed_from_environment();
  if (next != nullptr && next->shape.overlaps && seed != 0 && mix(seed + launches) % 4 != 0) {
    Launch* early = pool().take();
    early->begin_early(*next);
    pool().begun[next] = early;
  }
  const Status status = launch->run(call);
  pool().idle.push_back(launch);
  return status;
}

void abandon_kernel(const KernelCall& call) {
  const Lock lock;
  Launch* launch = pool().take_begun(call);
  if (launch == nullptr) return;
  launch->abandon();
  pool().idle.push_back(launch);
}

Block::~Block() { munmap(shared, 2 * kStateDistance); }

Block::Block() : shared(map_pages(2 * kStateDistance)) {}

void Block::reset(const LaunchShape& shape, const int64_t (&index)[3], bool metered) {
  constexpr int kWarp = 32;
  const int count = shape.threads;
  if (threads.size() != static_cast<size_t>(count)) {
    threads = std::vector<CudaThread>(count);
    warps = std::vector<Warp>(count / kWarp);
  }
  std::memset(shared, 0xff, shape.shared_bytes);
  std::memset(shared + kStateDistance, kNeverWritten, shape.shared_bytes);
  View view = {0,
               count,
               {index[0], index[1], index[2]},
               {shape.blocks[0], shape.blocks[1], shape.blocks[2]},
               shared,
               shape.shared_bytes,
               static_cast<int>(index[0] % shape.cluster),
               shape.cluster,
               metered};
  if (metered) banks.begin(count);
  for (CudaThread& thread : threads) {
    thread.view = view;
    thread.block = this;
    thread.fiber = nullptr;
    thread.ended = thread.waited = false;
    thread.at = nullptr;
    thread.at_mbarrier = nullptr;
    thread.at_flag = nullptr;
    thread.at_cluster = thread.in_cluster_barrier = false;
    thread.groups = 0;
    thread.copies.clear();
    ++view.thread;
  }
  const auto reset_meeting = [](Barriers& m, int size) {
    m.size = size;
    m.arrived = 0;
    m.waiting.clear();
    m.waiting.reserve(size);
  };
  reset_meeting(meeting, count);
  for (Warp& warp : warps) reset_meeting(warp.meeting, kWarp);
  mbarriers.clear();
  alive = count;
}

uint32_t Launch::draw(uint32_t below) {
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  return static_cast<uint32_t>((random_ >> 32) * below >> 32);
}

// Takes one of the runnable threads, or nothing where all wait or have ended.
CudaThread* Launch::pick() {
  if (runnable_.empty()) return nullptr;
  if (seed_ != 0) std::swap(runnable_[draw(static_cast<uint32_t>(runnable_.size()))], runnable_.back());
  CudaThread* thread = runnable_.back();
  runnable_.pop_back();
  return thread;
}

// From here on `next` is the thread that runs, on whatever stack this is.
void Launch::become(CudaThread* next) {
  current = next;
  here = &next->view;
  if (!races::watched()) return;
  const bool starts = next->race_fiber == nullptr;
  if (starts) next->race_fiber = next->fiber->race;
  races::become(next->race_fiber);
  if (starts) races::acquire(&begin_);
}

// ThreadSanitizer takes a thread on the fiber of one that has ended to be ordered behind it, so races between the two
// are not seen. But its fibers are dear (0.8 MB, and every meeting costs time in proportion to their number): beyond
// kRaceFibers the one that was left longest ago serves again.
Fiber* Launch::idle_fiber() {
  races::become(host_race_fiber_);
  if (!idle_.empty() && (!races::watched() || fibers_.size() >= kRaceFibers)) {
    Fiber* fiber = races::watched() ? idle_.front() : idle_.back();
    races::watched() ? idle_.pop_front() : idle_.pop_back();
    return fiber;
  }
  std::vector<std::unique_ptr<Fiber>>& spare = pool().fibers;
  if (spare.empty()) {
    spare.push_back(std::make_unique<Fiber>());
    spare.back()->context.create();
  }
  fibers_.push_back(std::move(spare.back()));
  spare.pop_back();
  Fiber* fiber = fibers_.back().get();
  if (races::watched() && fiber->race == nullptr) fiber->race = races::create();
  fiber->context.start(&fiber_main);
  races::release(&begin_);
  return fiber;
}

void Launch::fiber_main() {
  Context::arrived();
  current_launch().loop();
}

// What a fiber does: one CUDA thread after the other.
void Launch::loop() {
  for (;;) {
    CudaThread* thread = current;
    Fiber* mine = thread->fiber;
    kernel_(args_);
    finish(thread);
    CudaThread* next = pick();
    if (next == nullptr) {
      if (clusters_alive_ > 0) deadlock();
      leave();
    }
    const bool takes_over = next->fiber == nullptr && !races::watched();
    if (takes_over) {
      next->fiber = mine;
    } else {
      if (next->fiber == nullptr) next->fiber = idle_fiber();
      idle_.push_back(mine);
    }
    become(next);
    if (!takes_over) Context::change(mine->context, next->fiber->context);
  }
}

void Launch::finish(CudaThread* thread) {
  if (before_previous())
    fault("returns without wait_on_dependency() from a kernel that overlaps with the previous one");
  thread->ended = true;
  if (races::watched()) {
    races::release(&end_);
    races::become(host_race_fiber_);
    thread->race_fiber = nullptr;
  }
  Block* block = thread->block;
  if (--block->alive > 0) return;
  require_no_messages(*block);
  if (thread->view.metered) {
    const void* site = nullptr;
    const int passes = block->banks.worst(&site);
    note_passes(shape_, passes, site);
  }
  Cluster* cluster = block->cluster;
  if (--cluster->alive > 0) return;
  --clusters_alive_;
  if (!races::watched()) {
    free_blocks_.insert(free_blocks_.end(), cluster->blocks.begin(), cluster->blocks.end());
    free_clusters_.push_back(cluster);
  }
  fill_blocks();
}

void Launch::fill_blocks() {
  const int64_t size = shape_.cluster, across = shape_.blocks[0] / size;
  while (clusters_to_start_ > 0 && static_cast<size_t>(clusters_alive_) < window_) {
    if (free_clusters_.empty()) {
      if (used_clusters_ == clusters_.size()) clusters_.push_back(std::make_unique<Cluster>());
      free_clusters_.push_back(clusters_[used_clusters_++].get());
    }
    Cluster* cluster = free_clusters_.back();
    free_clusters_.pop_back();
    cluster->blocks.clear();
    cluster->waiting.clear();
    cluster->waiting.reserve(size * shape_.threads);
    cluster->alive = static_cast<int>(size);
    cluster->size = static_cast<int>(size) * shape_.threads;
    cluster->arrived = 0;
    cluster->turn = 0;
    const int64_t n = next_cluster_;
    for (int64_t rank = 0; rank < size; ++rank) {
      if (free_blocks_.empty()) {
        if (used_blocks_ == blocks_.size()) blocks_.push_back(std::make_unique<Block>());
        free_blocks_.push_back(blocks_[used_blocks_++].get());
      }
      Block* block = free_blocks_.back();
      free_blocks_.pop_back();
      const int64_t index[3] = {n % across * size + rank, n / across % shape_.blocks[1], n / across / shape_.blocks[1]};
      block->reset(shape_, index, metered_ && n + rank == 0);
      block->cluster = cluster;
      cluster->blocks.push_back(block);
      for (size_t i = block->threads.size(); i-- > 0;) runnable_.push_back(&block->threads[i]);
    }
    next_cluster_ = (next_cluster_ + cluster_step_) % cluster_count_;
    --clusters_to_start_;
    ++clusters_alive_;
  }
  races::release(&begin_);
}

// Another thread goes on; returns when somebody has put this one among the runnable and it was picked.
void Launch::give_way() {
  CudaThread *thread = current, *next = pick();
  if (next == thread) return;
  Fiber* mine = thread->fiber;
  if (next == nullptr) {
    if (!early_) deadlock();
    races::become(host_race_fiber_);
    Context::change(mine->context, host_);
    return;
  }
  if (next->fiber == nullptr) next->fiber = idle_fiber();
  become(next);
  Context::change(mine->context, next->fiber->context);
}

void Launch::maybe_give_way() {
  if (seed_ == 0 || draw(4) != 0) return;
  runnable_.push_back(current);
  give_way();
}

void Launch::wait_on_dependency() {
  if (!shape_.overlaps) return;
  if (early_) sleep(waiting_for_previous_);
  races::acquire(&previous_);
  current->waited = true;
}

void Launch::sleep(std::vector<CudaThread*>& list) {
  list.push_back(current);
  give_way();
}

FlagState& Launch::flag(const uint32_t* at) {
  const auto found = flags_.find(at);
  if (found != flags_.end()) return found->second;
  FlagState* state = nullptr;
  keep_books([&] {
    state = &flags_[at];
    state->at = at;
    state->waiting.reserve(kReserved);
  });
  return *state;
}

void Launch::wake(std::vector<CudaThread*>& list) {
  for (size_t i = list.size(); i-- > 0;) runnable_.push_back(list[i]);
  list.clear();
}

void Launch::meet(Barriers& meeting, const char* purpose, bool orders_memory) {
  CudaThread* thread = current;
  if (thread->view.metered) keep_books([&] { thread->block->banks.met(thread->view.thread); });
  if (meeting.arrived == 0) {
    meeting.purpose = purpose;
  } else if (meeting.purpose != purpose) {
    fault("is at %s while thread %d waits for it at %s", purpose, meeting.waiting[0]->view.thread, meeting.purpose);
  }
  char* tag = &meeting.tag[meeting.turn & 1];
  if (orders_memory) races::release(tag);
  bool waits = true;
  if (++meeting.arrived < meeting.size) {
    meeting.waiting.push_back(thread);
    thread->at = &meeting;
  } else {
    meeting.arrived = 0;
    ++meeting.turn;
    for (size_t i = meeting.waiting.size(); i-- > 0;) {
      meeting.waiting[i]->at = nullptr;
      runnable_.push_back(meeting.waiting[i]);
    }
    meeting.waiting.clear();
    // Who comes last usually goes on at once, but need not.
    waits = seed_ != 0 && draw(4) == 0;
    if (waits) runnable_.push_back(thread);
  }
  if (waits) give_way();
  if (orders_memory) races::acquire(tag);
}

namespace {

// What a thread that does not go on is at.
Words whereabouts(const CudaThread& thread) {
  Words words;
  const char* at = thread.at != nullptr            ? thread.at->purpose
                   : thread.at_mbarrier != nullptr ? "mbarrier_wait()"
                   : thread.at_flag != nullptr     ? "flag_poll()"
                   : thread.at_cluster             ? "cluster_wait()"
                                                   : "nothing";
  std::snprintf(words.text, sizeof words.text, thread.ended ? "has returned" : "waits at %s", at);
  return words;
}

}  // namespace

void Launch::deadlock() {
  // A thread that waits: for bytes or arrivals if any does, then for a flag, else at the smallest meeting; and what it
  // waits for.
  CudaThread* waits = nullptr;
  const auto rank = [](const CudaThread& t) {
    return t.at_mbarrier != nullptr ? (t.at_mbarrier->pending > 0 ? 0 : 1)
           : t.at_flag != nullptr   ? 2
           : t.at != nullptr        ? t.at->size
           : t.at_cluster           ? INT32_MAX - 1
                                    : INT32_MAX;
  };
  for (const auto& block : blocks_) {
    for (CudaThread& thread : block->threads) {
      if (rank(thread) < (waits == nullptr ? INT32_MAX : rank(*waits))) waits = &thread;
    }
  }
  current = waits;
  if (waits->at_mbarrier != nullptr) {
    const MbarrierState& m = *waits->at_mbarrier;
    fault(
        "waits for ever at mbarrier_wait(): phase %u of the mbarrier at byte %lld misses "
        "%d of %d arrivals and %lld bytes",
        m.phase, static_cast<long long>(m.offset), m.pending, m.arrivals, static_cast<long long>(m.missing_bytes));
  }
  if (waits->at_flag != nullptr) {
    fault("waits for ever at flag_poll(): the flag at %p is %u, and has to become %u",
          static_cast<const void*>(waits->at_flag->at), *waits->at_flag->at, waits->polled);
  }
  if (waits->at_cluster) {
    const Cluster& cluster = *waits->block->cluster;
    for (const Block* block : cluster.blocks) {
      for (const CudaThread& other : block->threads) {
        if (other.in_cluster_barrier) continue;
        fault("waits for ever at cluster_wait(): %d of %d have arrived, thread %d of block %d of the cluster %s",
              cluster.arrived, cluster.size, other.view.thread, other.view.cluster_rank, whereabouts(other).text);
      }
    }
  }
  const Barriers& at = *waits->at;
  const int first = waits->view.thread / at.size * at.size;
  int missing = first;
  while (waits->block->threads[missing].at == &at) ++missing;
  fault("waits for ever at %s: %d of %d have come, thread %d %s", at.purpose, at.arrived, at.size, missing,
        whereabouts(waits->block->threads[missing]).text);
}

// Back to run(), for good.
void Launch::leave() {
  Context nowhere;
  races::become(host_race_fiber_);
  Context::change(nowhere, host_);
  __builtin_unreachable();
}

void Launch::stop(const char* text) {
  races::become(host_race_fiber_);
  failure_ = format("%s, thread %d: %s", block_name(current->view).c_str(), current->view.thread, text);
  leave();
}

bool Launch::on_guard_of_stack(const void* address) const {
  return std::any_of(fibers_.begin(), fibers_.end(), [&](const auto& fiber) { return fiber->context.owns(address); });
}

namespace {

std::string launch_text(const std::string& name, SourceLocation location) {
  return format("launch of %s at %s:%d", name.c_str(), source_name(location.file), location.line);
}

}  // namespace

Status require_possible(const LaunchShape& shape, const std::string& name, SourceLocation location) {
  const bool possible = shape.threads % 32 == 0 && shape.threads >= 32 && shape.threads <= 1024 &&
                        shape.shared_bytes <= kMaxShared && shape.cluster >= 1 &&
                        shape.cluster <= most_cluster_blocks() && shape.blocks[0] % shape.cluster == 0 &&
                        shape.argument_bytes <= argument_bytes() && (!shape.overlaps || compute_major() >= 9) &&
                        !(shape.cooperative && (shape.cluster > 1 || shape.overlaps));
  if (!possible)
    return fail(Status::device_error,
                "%s: no device runs %lld x %lld x %lld blocks of %d threads, clusters of %d, with %zu bytes of shared "
                "memory and %zu of arguments%s%s",
                launch_text(name, location).c_str(), static_cast<long long>(shape.blocks[0]),
                static_cast<long long>(shape.blocks[1]), static_cast<long long>(shape.blocks[2]), shape.threads,
                shape.cluster, shape.shared_bytes, shape.argument_bytes, shape.overlaps ? ", that overlaps" : "",
                shape.cooperative ? ", cooperative" : "");
  if (!shape.cooperative) return Status::ok;
  const int64_t blocks = shape.blocks[0] * shape.blocks[1] * shape.blocks[2];
  if (blocks > most_blocks())
    return fail(Status::device_error, "%s: the device has room for %d blocks of a cooperative launch, this has %lld",
                launch_text(name, location).c_str(), most_blocks(), static_cast<long long>(blocks));
  if (blocks * shape.threads <= kMostFibers) return Status::ok;
  return fail(
      Status::device_error,
      "%s: the emulator runs %lld threads at once, this cooperative launch has %lld: use smaller sizes, or make "
      "the device smaller by FUSEDRNN_SIMT_BLOCKS",
      launch_text(name, location).c_str(), static_cast<long long>(kMostFibers),
      static_cast<long long>(blocks * shape.threads));
}

void Launch::prepare(const KernelCall& call) {
  const LaunchShape& shape = call.shape;
  shape_ = shape;
  kernel_ = call.run;
  args_ = call.args.get();
  seed_ = seed_from_environment();
  random_ = mix(seed_ + ++launches) | 1;
  failure_.clear();
  metered_ = !races::watched() && banks_wanted(shape);
  used_blocks_ = used_clusters_ = 0;
  cluster_count_ = clusters_to_start_ = shape.blocks[0] / shape.cluster * shape.blocks[1] * shape.blocks[2];
  next_cluster_ = clusters_alive_ = 0;
  cluster_step_ = 1;
  window_ = 1;
  if (seed_ != 0) {
    const auto drawn = [&] { return draw(static_cast<uint32_t>(std::min<int64_t>(cluster_count_, UINT32_MAX))); };
    window_ += draw(3);
    next_cluster_ = drawn();
    cluster_step_ += drawn();
    while (std::gcd(cluster_step_, cluster_count_) != 1) ++cluster_step_;
    // Every thread under way has a fiber of ThreadSanitizer's: large clusters are alone.
    const size_t most = kRaceFibers / (shape.cluster * shape.threads);
    if (races::watched()) window_ = std::clamp<size_t>(window_, 1, std::max<size_t>(most, 1));
  }
  if (shape.cooperative) window_ = static_cast<size_t>(cluster_count_);
  host_race_fiber_ = races::current();
  runnable_.reserve(window_ * shape.threads * shape.cluster);
  waiting_for_previous_.reserve(window_ * shape.threads * shape.cluster);
  active = this;
  fill_blocks();
}

// Threads run until none can, or all have ended.
void Launch::go_on() {
  active = this;
  host_.adopt_stack();
  const SegvGuard guard;
  CudaThread* next = pick();
  if (next->fiber == nullptr) next->fiber = idle_fiber();
  become(next);
  Context::change(host_, next->fiber->context);
}

void Launch::begin_early(const KernelCall& call) {
  prepare(call);
  early_ = true;
  go_on();
}

Status Launch::run(const KernelCall& call) {
  if (early_) {
    early_ = false;
    host_race_fiber_ = races::current();  // another thread of the host may have begun it
    wake(waiting_for_previous_);
  } else {
    prepare(call);
  }
  races::release(&previous_);
  if (failure_.empty()) go_on();
  races::acquire(&end_);
  clean_up();
  if (failure_.empty()) failure_ = damaged_guards();
  if (failure_.empty()) return Status::ok;
  return fail(Status::device_error, "%s: %s (FUSEDRNN_SIMT_SEED=%llu)", launch_text(call.name, call.location).c_str(),
              failure_.c_str(), static_cast<unsigned long long>(seed_));
}

void Launch::abandon() {
  early_ = false;
  failure_ = "abandoned";
  clean_up();
}

void Launch::clean_up() {
  current = nullptr;
  here = nullptr;
  for (const auto& block : blocks_) {
    for (CudaThread& thread : block->threads) {
      thread.race_fiber = nullptr;
      thread.at = nullptr;
      thread.at_mbarrier = nullptr;
      thread.at_flag = nullptr;
      thread.at_cluster = false;
    }
  }
  if (!failure_.empty()) {  // what threads were in the middle of is still on their call stacks
    for (const auto& fiber : fibers_) {
      if (fiber->race != nullptr) races::destroy(fiber->race);
      fiber->race = nullptr;
    }
  }
  std::move(fibers_.begin(), fibers_.end(), std::back_inserter(pool().fibers));
  fibers_.clear();
  idle_.clear();
  runnable_.clear();
  waiting_for_previous_.clear();
  free_blocks_.clear();
  flags_.clear();
  free_clusters_.clear();
}

}  // namespace fusedrnn::cuda::simt
