// Clusters of blocks: their barrier, each other's shared memory, and mbarriers.
#include <cstring>

#include "races.hpp"
#include "scheduler.hpp"

namespace fusedrnn::cuda::simt {
namespace {

unsigned char* state_of(unsigned char* p) { return p + kStateDistance; }

Block& my_block() { return *current_launch().current->block; }

int64_t offset_in(const Block& block, const unsigned char* p) { return p - block.shared; }

// The block of the cluster whose shared memory it is.
Block& block_of(const unsigned char* p) {
  for (Block* block : my_block().cluster->blocks) {
    if (p >= block->shared && p < block->shared + kStateDistance) return *block;
  }
  fault("reaches shared memory of no block of its cluster");
}

int rank_of(const Block& block) { return block.threads[0].view.cluster_rank; }

// The block that an access from afar is to; the access must be in order.
Block& require_reachable(const There& there, size_t bytes) {
  Block& block = block_of(there.first);
  const int rank = rank_of(block);
  if (there.at < there.first || there.at + bytes > there.last) {
    fault(
        "accesses %zu bytes of shared memory of block %d of its cluster at byte %lld, "
        "outside its array of bytes %lld to %lld",
        bytes, rank, static_cast<long long>(offset_in(block, there.at)),
        static_cast<long long>(offset_in(block, there.first)), static_cast<long long>(offset_in(block, there.last)));
  }
  if (offset_in(block, there.at) % static_cast<int64_t>(bytes) != 0) {
    fault("accesses %zu bytes of shared memory of block %d of its cluster at byte %lld, not aligned", bytes, rank,
          static_cast<long long>(offset_in(block, there.at)));
  }
  if (my_block().cluster->turn == 0) {
    fault("accesses shared memory of block %d of its cluster before the cluster has met: it may not have begun", rank);
  }
  if (block.alive == 0) fault("accesses shared memory of block %d of its cluster, which has returned", rank);
  return block;
}

MbarrierState& mbarrier_at(Block& block, unsigned char* p) {
  const int64_t offset = offset_in(block, p);
  unsigned char whole[8];
  std::memset(whole, kMbarrier, sizeof whole);
  if (std::memcmp(state_of(p), whole, sizeof whole) == 0) {
    for (MbarrierState& m : block.mbarriers) {
      if (m.offset == offset) return m;
    }
  }
  fault(
      "uses byte %lld of shared memory of block %d of its cluster as an mbarrier: "
      "none was made there, or it was written over",
      static_cast<long long>(offset), rank_of(block));
}

void end_phase_if_complete(MbarrierState& m) {
  if (m.pending > 0 || m.missing_bytes != 0) return;
  m.pending = m.arrivals;
  ++m.phase;
  current_launch().wake(m.waiting);
}

void arrive(MbarrierState& m, int bytes) {
  if (m.pending == 0) {
    fault("arrives at the mbarrier at byte %lld, at which all %d have arrived in phase %u",
          static_cast<long long>(m.offset), m.arrivals, m.phase);
  }
  races::release(&m.tag[m.phase & 1]);
  --m.pending;
  m.missing_bytes += bytes;
  end_phase_if_complete(m);
  current_launch().maybe_give_way();
}

// Of 4, 8 or 16 bytes, without a call: ThreadSanitizer sees calls.
void move_bytes(unsigned char* to, const unsigned char* from, size_t bytes) {
  if (bytes == 4) {
    std::memcpy(to, from, 4);
  } else if (bytes == 8) {
    std::memcpy(to, from, 8);
  } else {
    std::memcpy(to, from, 16);
  }
}

void set_bytes(unsigned char* to, unsigned char value, size_t bytes) {
  unsigned char values[16];
  std::memset(values, value, sizeof values);
  move_bytes(to, values, bytes);
}

// Puts what came in phases that have ended where it belongs.
void deliver(MbarrierState& m) {
  size_t left = 0;
  for (Message& message : m.messages) {
    if (message.phase == m.phase) {
      m.messages[left++] = message;
      continue;
    }
    move_bytes(message.to, message.value, message.bytes);
    set_bytes(state_of(message.to), kWritten, message.bytes);
  }
  m.messages.resize(left);
}

}  // namespace

// ----------------------------------------------------------------------------------------------------------- barrier
void cluster_arrive() {
  Launch& launch = current_launch();
  CudaThread* self = launch.current;
  Cluster& cluster = *self->block->cluster;
  if (self->in_cluster_barrier) fault("arrives at the cluster's barrier twice: no cluster_wait() came in between");
  self->in_cluster_barrier = true;
  self->cluster_turn = cluster.turn;
  races::release(&cluster.tag[cluster.turn & 1]);
  if (++cluster.arrived < cluster.size) return;
  cluster.arrived = 0;
  ++cluster.turn;
  launch.wake(cluster.waiting);
}

void cluster_wait() {
  Launch& launch = current_launch();
  CudaThread* self = launch.current;
  Cluster& cluster = *self->block->cluster;
  if (!self->in_cluster_barrier) fault("waits at the cluster's barrier without having arrived");
  self->at_cluster = true;
  if (cluster.turn == self->cluster_turn)
    launch.sleep(cluster.waiting);
  else
    launch.maybe_give_way();
  self->at_cluster = self->in_cluster_barrier = false;
  races::acquire(&cluster.tag[self->cluster_turn & 1]);
}

// ---------------------------------------------------------------------------------------------- each other's memory
There remote(void* p, void* first, void* last, int rank) {
  if (rank < 0 || rank >= here->cluster_blocks)
    fault("reaches for block %d of a cluster of %d", rank, here->cluster_blocks);
  const auto there = [&](void* mine) {
    return my_block().cluster->blocks[rank]->shared + (static_cast<unsigned char*>(mine) - here->shared);
  };
  return {there(p), there(first), there(last)};
}

void remote_load(const There& from, void* value, size_t bytes) {
  require_reachable(from, bytes);
  require_written(from.at, bytes);
  races::read(from.at, bytes);
  std::memcpy(value, from.at, bytes);
}

void remote_store(const There& to, const void* value, size_t bytes) {
  require_reachable(to, bytes);
  races::write(to.at, bytes);
  std::memcpy(to.at, value, bytes);
  note_written(to.at, bytes);
}

// --------------------------------------------------------------------------------------------------------- mbarriers
void mbarrier_init(void* at, int arrivals) {
  unsigned char* p = static_cast<unsigned char*>(at);
  Block& block = my_block();
  const int64_t offset = offset_in(block, p);
  if (arrivals < 1) fault("makes an mbarrier for %d arrivals", arrivals);
  for (const MbarrierState& m : block.mbarriers) {
    if (m.offset == offset) fault("makes a second mbarrier at byte %lld", static_cast<long long>(offset));
  }
  races::write(p, sizeof(uint64_t));
  std::memset(state_of(p), kMbarrier, sizeof(uint64_t));
  MbarrierState m{};
  m.offset = offset;
  m.arrivals = m.pending = arrivals;
  current_launch().keep_books([&] {
    m.waiting.reserve(block.threads.size());
    block.mbarriers.push_back(std::move(m));
  });
}

void mbarrier_arrive(const There& there) {
  Block& block = require_reachable(there, sizeof(uint64_t));
  races::read(there.at, sizeof(uint64_t));
  arrive(mbarrier_at(block, there.at), 0);
}

void mbarrier_arrive_expect(void* at, int bytes) {
  races::read(at, sizeof(uint64_t));
  arrive(mbarrier_at(my_block(), static_cast<unsigned char*>(at)), bytes);
}

void mbarrier_wait(void* at, int parity) {
  Launch& launch = current_launch();
  CudaThread* self = launch.current;
  races::read(at, sizeof(uint64_t));
  MbarrierState& m = mbarrier_at(*self->block, static_cast<unsigned char*>(at));
  if (parity != 0 && parity != 1) fault("waits at an mbarrier for parity %d", parity);
  self->at_mbarrier = &m;
  if (static_cast<int>(m.phase & 1) == parity)
    launch.sleep(m.waiting);
  else
    launch.maybe_give_way();
  self->at_mbarrier = nullptr;
  if (static_cast<int>(m.phase & 1) == parity) {
    fault("waits at the mbarrier at byte %lld, and sees too late that phase %u has ended: phase %u has as well",
          static_cast<long long>(m.offset), m.phase - 2, m.phase - 1);
  }
  races::acquire(&m.tag[parity]);
  deliver(m);
}

// The bytes count at once, and are there when somebody has waited for them.
void store_async(const There& to, const void* value, size_t bytes, const There& at) {
  Block& block = require_reachable(to, bytes);
  if (&require_reachable(at, sizeof(uint64_t)) != &block) {
    fault("stores to block %d of its cluster and counts at an mbarrier of block %d", rank_of(block),
          rank_of(block_of(at.first)));
  }
  races::read(at.at, sizeof(uint64_t));
  MbarrierState& m = mbarrier_at(block, at.at);
  for (size_t i = 0; i < bytes; ++i) {
    if (state_of(to.at)[i] != kInFlight) continue;
    fault("stores to byte %lld of shared memory of block %d of its cluster, where something is on its way already",
          static_cast<long long>(offset_in(block, to.at)), rank_of(block));
  }
  Message message;
  message.to = to.at;
  move_bytes(message.value, static_cast<const unsigned char*>(value), bytes);
  message.bytes = bytes;
  message.phase = m.phase;
  message.rank = here->cluster_rank;
  races::write(to.at, bytes);
  races::release(&m.tag[m.phase & 1]);
  set_bytes(to.at, 0xff, bytes);
  set_bytes(state_of(to.at), kInFlight, bytes);
  current_launch().keep_books([&] { m.messages.push_back(message); });
  m.missing_bytes -= static_cast<int64_t>(bytes);
  end_phase_if_complete(m);
  current_launch().maybe_give_way();
}

void require_no_messages(const Block& block) {
  for (const MbarrierState& m : block.mbarriers) {
    if (m.messages.empty()) continue;
    fault("is the last of its block to return, and %zu bytes of block %d of its cluster are on their way to it",
          m.messages[0].bytes, m.messages[0].rank);
  }
}

}  // namespace fusedrnn::cuda::simt
