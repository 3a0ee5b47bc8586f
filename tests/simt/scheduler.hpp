// A launch under way: its blocks, its CUDA threads and who runs. Everything belongs to the one host thread that
// launches.
//
// A fiber is a stack on which CUDA threads run. A thread that ends without having waited leaves its fiber to the next
// one, so a kernel that never synchronises costs a call per thread. A thread that waits keeps the fiber, and any
// runnable one goes on: drawn by the seed, or in order of index with seed 0.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "banks.hpp"
#include "context.hpp"
#include "races.hpp"
#include "runtime.hpp"

namespace fusedrnn::cuda::simt {

struct Block;
struct Cluster;
struct CudaThread;

// Threads that wait for each other. All of them must come for the same `purpose`.
struct Barriers {
  const char* purpose = nullptr;
  int size = 0, arrived = 0;
  unsigned turn = 0;
  char tag[2];  // addresses for ThreadSanitizer, taken in turn
  std::vector<CudaThread*> waiting;
};

// An asynchronous copy between its issue and the wait for its group. Of one that was issued before what it reads was
// sure to be there: what it has read.
struct Copy {
  unsigned char* to;
  const unsigned char* from;
  int bytes, bytes_valid;
  int64_t group;
  bool taken;
  unsigned char value[16];
};

// A launch as it was asked for.
struct KernelCall {
  LaunchShape shape;
  void (*run)(const void* args);
  std::shared_ptr<const void> args;
  std::string name;
  SourceLocation location;
};

// Bytes that a thread of the cluster has stored, not to be seen before a wait for the phase that they count for.
struct Message {
  unsigned char* to;
  unsigned char value[16];
  size_t bytes;
  unsigned phase;
  int rank;  // of the sender
};

struct MbarrierState {
  int64_t offset;  // in the block's shared memory
  int arrivals, pending;
  int64_t missing_bytes = 0;  // announced and not come; less than 0: come and not announced
  unsigned phase = 0;
  char tag[2] = {};  // addresses for ThreadSanitizer, taken in turn
  std::vector<CudaThread*> waiting;
  std::vector<Message> messages;
};

// A flag that threads of a cooperative launch have posted or polled.
struct FlagState {
  const uint32_t* at;
  char tag = 0;  // an address for ThreadSanitizer
  std::vector<CudaThread*> waiting;
};

struct Fiber {
  Context context;
  void* race = nullptr;  // what ThreadSanitizer knows it by
};

struct CudaThread {
  View view;
  Block* block;
  Fiber* fiber = nullptr;  // while it waits or runs
  void* race_fiber = nullptr;
  bool ended = false;
  bool waited = false;  // for the previous kernel, if its own overlaps with that
  const Barriers* at = nullptr;
  const MbarrierState* at_mbarrier = nullptr;
  const FlagState* at_flag = nullptr;
  uint32_t polled = 0;              // the value that it waits for there
  bool at_cluster = false;          // waits for the cluster
  bool in_cluster_barrier = false;  // has arrived and not waited
  unsigned cluster_turn = 0;        // of the barrier at which it has arrived
  int64_t groups = 0;               // committed so far
  std::vector<Copy> copies;
};

// The operands of a matrix product as lanes left them: A by rows, B by columns.
struct Tiles {
  float a[16][16], b[8][16];
};

struct Warp {
  Barriers meeting;
  uint64_t shuffled[2][32];  // a half for the meeting to come, one for the meeting that some have yet to leave
  Tiles tiles[2];
};

struct Block {
  std::vector<CudaThread> threads;
  std::vector<Warp> warps;
  Barriers meeting;
  unsigned char* shared;  // kStateDistance bytes and as many states
  int alive = 0;
  Cluster* cluster = nullptr;
  BankMeter banks;                      // of a block that is metered
  std::deque<MbarrierState> mbarriers;  // their addresses stay

  Block();
  Block(const Block&) = delete;
  ~Block();
  void reset(const LaunchShape& shape, const int64_t (&index)[3], bool metered);
};

// Blocks that run together, a single one where a launch has no clusters.
struct Cluster {
  std::vector<Block*> blocks;
  int alive = 0;  // blocks
  int size = 0, arrived = 0;
  unsigned turn = 0;
  char tag[2];
  std::vector<CudaThread*> waiting;
};

class Launch {
 public:
  // Runs threads until all wait for the previous kernel, which has not begun.
  void begin_early(const KernelCall& call);
  // The whole kernel, or what begin_early has left of it.
  Status run(const KernelCall& call);
  // Gives up a kernel that has begun early.
  void abandon();

  CudaThread* current = nullptr;

  // Whether what the previous kernel writes may be missing as yet.
  bool before_previous() const { return shape_.overlaps && !current->waited; }
  void wait_on_dependency();

  // Waits for the others. `orders_memory`: what they wrote before is seen after.
  void meet(Barriers& meeting, const char* purpose, bool orders_memory);
  // Waits in `list` until somebody wakes all that are in it.
  void sleep(std::vector<CudaThread*>& list);
  void wake(std::vector<CudaThread*>& list);
  // Lets another thread go on now and then, as the seed has it.
  void maybe_give_way();
  // What the emulator keeps for several threads is changed on behalf of none of them: ThreadSanitizer sees allocations.
  template <class Change>
  void keep_books(Change change) {
    races::become(host_race_fiber_);
    change();
    races::become(current->race_fiber);
  }
  // What is known of a flag.
  FlagState& flag(const uint32_t* at);
  bool cooperative() const { return shape_.cooperative; }
  // Ends the launch with a text. What lives on the stacks of CUDA threads is never destroyed.
  [[noreturn]] void stop(const char* text);
  bool on_guard_of_stack(const void* address) const;

 private:
  static void fiber_main();
  void prepare(const KernelCall& call);
  void go_on();
  void loop();
  CudaThread* pick();
  void become(CudaThread* next);
  void give_way();
  Fiber* idle_fiber();
  void finish(CudaThread* thread);
  void fill_blocks();
  [[noreturn]] void leave();
  void clean_up();
  uint32_t draw(uint32_t below);
  [[noreturn]] void deadlock();

  LaunchShape shape_;
  void (*kernel_)(const void*);
  const void* args_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::deque<Fiber*> idle_;  // in the order in which threads left them
  std::vector<std::unique_ptr<Block>> blocks_;
  size_t used_blocks_ = 0, used_clusters_ = 0;
  std::vector<Block*> free_blocks_;
  std::vector<std::unique_ptr<Cluster>> clusters_;
  std::vector<Cluster*> free_clusters_;
  std::vector<CudaThread*> runnable_, waiting_for_previous_;
  std::map<const uint32_t*, FlagState> flags_;
  bool metered_ = false;  // whether bank conflicts of the first block are counted
  bool early_ = false;    // the previous kernel has not begun
  int64_t clusters_to_start_ = 0, cluster_count_ = 0, next_cluster_ = 0, cluster_step_ = 1, clusters_alive_ = 0;
  size_t window_ = 1;  // clusters under way at once
  uint64_t seed_ = 0, random_ = 0;
  Context host_;
  void* host_race_fiber_ = nullptr;
  char begin_, end_, previous_;  // addresses for ThreadSanitizer
  std::string failure_;
};

Launch& current_launch();

// Runs a kernel; and before it, as the seed has it, that part of `next` that needs not wait for it, where the two
// overlap. nullptr: nobody knows what comes next.
Status run_kernel(const KernelCall& call, const KernelCall* next);
// The kernel will not be run, whether it has begun or not.
void abandon_kernel(const KernelCall& call);

// A failure where no device runs such a launch.
Status require_possible(const LaunchShape& shape, const std::string& name, SourceLocation location);

// The end of a block: nothing may be on its way to its shared memory.
void require_no_messages(const Block& block);

// Has the kernel of the launch under way touched what lies around allocations? Names the first that it did, or nothing.
std::string damaged_guards();

// An address that faulted, in words: which allocation it misses by how much. A plain array, since whoever asks on the
// stack of a CUDA thread never destroys what it has.
struct Words {
  char text[300];
};
Words describe_address(const void* address);

// One for launches and for allocations: allocations do not come or go under a running kernel.
class Lock {
 public:
  Lock();
  ~Lock();
};

}  // namespace fusedrnn::cuda::simt
