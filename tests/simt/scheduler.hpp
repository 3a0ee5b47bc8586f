// A launch under way: its blocks, its CUDA threads and who runs. Everything belongs to the one host thread that
// launches.
//
// A fiber is a stack on which CUDA threads run. A thread that ends without having waited leaves its fiber to the next
// one, so a kernel that never synchronises costs a call per thread. A thread that waits keeps the fiber, and any
// runnable one goes on: drawn by the seed, or in order of index with seed 0.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "context.hpp"
#include "runtime.hpp"

namespace fusedrnn::cuda::simt {

struct Block;
struct CudaThread;

// Threads that wait for each other. All of them must come for the same `purpose`.
struct Meeting {
  const char* purpose = nullptr;
  int size = 0, arrived = 0;
  unsigned turn = 0;
  char tag[2];  // addresses for ThreadSanitizer, taken in turn
  std::vector<CudaThread*> waiting;
};

// An asynchronous copy between its issue and the wait for its group.
struct Copy {
  unsigned char* to;
  const unsigned char* from;
  int bytes, bytes_valid;
  int64_t group;
};

struct Fiber {
  Context context;
};

struct CudaThread {
  View view;
  Block* block;
  Fiber* fiber = nullptr;  // while it waits or runs
  void* race_fiber = nullptr;
  bool ended = false;
  const Meeting* at = nullptr;
  int64_t groups = 0;  // committed so far
  std::vector<Copy> copies;
};

// The operands of a matrix product as lanes left them: A by rows, B by columns.
struct Tiles {
  float a[16][16], b[8][16];
};

struct Warp {
  Meeting meeting;
  uint64_t shuffled[2][32];  // a half for the meeting to come, one for the meeting that some have yet to leave
  Tiles tiles[2];
};

struct Block {
  std::vector<CudaThread> threads;
  std::vector<Warp> warps;
  Meeting meeting;
  unsigned char* shared;  // kStateDistance bytes and as many states
  int alive = 0;

  Block();
  Block(const Block&) = delete;
  ~Block();
  void reset(const LaunchShape& shape, const int64_t (&index)[3]);
};

class Launch {
 public:
  Status run(const LaunchShape& shape, void (*kernel)(const void*), const void* args, const std::string& name,
             Place place);

  CudaThread* current = nullptr;

  // Waits for the others. `orders_memory`: what they wrote before is seen after.
  void meet(Meeting& meeting, const char* purpose, bool orders_memory);
  // Ends the launch with a text. What lives on the stacks of CUDA threads is never destroyed.
  [[noreturn]] void stop(const char* text);
  bool on_guard_of_stack(const void* address) const;

 private:
  static void fiber_main();
  void loop();
  CudaThread* pick();
  void become(CudaThread* next);
  void* idle_race_fiber();
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
  std::vector<Fiber*> idle_;
  size_t used_fibers_ = 0;
  std::vector<std::unique_ptr<Block>> blocks_;
  size_t used_blocks_ = 0;
  std::vector<Block*> free_blocks_;
  std::vector<CudaThread*> runnable_;
  int64_t blocks_to_start_ = 0, block_count_ = 0, next_block_ = 0, block_step_ = 1, blocks_alive_ = 0;
  size_t window_ = 1;  // blocks under way at once
  uint64_t seed_ = 0, random_ = 0, launches_ = 0;
  Context host_;
  void* host_race_fiber_ = nullptr;
  std::vector<void*> race_fibers_;      // ThreadSanitizer's, of the CUDA threads of a launch and of the next ones
  std::deque<void*> idle_race_fibers_;  // in the order in which threads left them
  char begin_, end_;                    // addresses for ThreadSanitizer
  std::string failure_;
};

Launch& current_launch();

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
