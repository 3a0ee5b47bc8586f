// A block of a cluster: its part of R, resident; the product with the state that all blocks hold; and the exchange of
// that state. cluster.hpp has the plan.
//
// R is cut into fragments, 16 bytes a lane, in the order in which lanes use them: a warp keeps the first of its own in
// registers, the others lie in shared memory and are read without a bank conflict. The state lies there twice, for
// turns of even and odd number, as fragments too. Block q's slice of it is contiguous, so that it travels as it lies.
//
// The exchange (tests/simt/exchange.hpp is the bare protocol): a block stores its slice into the others' next state;
// the bytes count at an mbarrier there, on which the block that reads the state waits. A block sends only after it has
// read the state before, so it overwrites nothing that is still read, and the last turn sends nothing, so nothing comes
// after a block has returned.
#pragma once

#include "recurrent/chunk/unit_block.cuh"
#include "recurrent/cluster/product.cuh"

namespace fusedrnn::cuda {

// The part of R that a block holds, and the states of its cluster.
template <class E, int NT>
class ClusterBlock : public UnitBlock<ClusterBlock<E, NT>, NT, ClusterEngine<E, NT>::type::kDepth> {
 public:
  using Engine = typename ClusterEngine<E, NT>::type;
  using Base = UnitBlock<ClusterBlock, NT, Engine::kDepth>;
  using Base::kBatch, Base::items, Base::sums;
  static constexpr int kTurn = 4;  // fragments of k in a turn of the loop
  static constexpr int kHeld = held_fragments(ElementTraits<E>::kElement, kBatch);

  FR_DEVICE explicit ClusterBlock(const ClusterShape& shape)
      : Base(shape, hw::cluster_rank()),
        row_(hw::keep(hw::block_x() / shape.blocks * kBatch)),
        by_tiles_(shape.tiles),
        by_vectors_(shape.handed * shape.units * kBatch * static_cast<int>(sizeof(E)) / 16) {}

  FR_DEVICE static int lane() { return hw::block_y(); }
  FR_DEVICE int64_t row() const { return row_; }

  // Takes in this block's rows of R: row(m) is where row m begins, null for one of zeros, and the columns of value
  // `part` of the units follow each other from part * part_pitch on. Makes states of zeros and mbarriers. The first
  // state may be written behind it, until `begin`.
  template <class Row>
  FR_DEVICE void load(const Row& row, int64_t H, int64_t part_pitch) {
    const int fragments = shape_.units / Engine::kDepth;  // of one value of one block
    for (int pass = 0, job = hw::warp(); job < shape_.jobs; ++pass, job += kClusterWarps) {
      const E* rows[Engine::kLaneRows];
      FR_UNROLL
      for (int i = 0; i < Engine::kLaneRows; ++i) {
        const int m = job % shape_.tiles * Engine::kRows + Engine::lane_row(i);
        rows[i] = m < shape_.gates * shape_.units ? row(m) : nullptr;
      }
      // Which fragment of which value of which block comes next.
      const int first = job / shape_.tiles * shape_.job_depth;
      int fragment = first % fragments, part = first / fragments % shape_.handed;
      int64_t unit = static_cast<int64_t>(first / fragments / shape_.handed) * shape_.units;
      const auto next = [&] {
        const int64_t u = unit + fragment * Engine::kDepth;
        const Held held = Engine::gather(rows, part * part_pitch + u, H - u);
        if (++fragment == fragments) {
          fragment = 0;
          if (++part == shape_.handed) {
            part = 0;
            unit += shape_.units;
          }
        }
        return held;
      };
      if (pass == 0) {
        FR_UNROLL
        for (int f = 0; f < kHeld; ++f)
          if (f < shape_.job_depth) held_[f] = Engine::operand(next());
      }
      const hw::Shared<Held> rest = resident(job);
      for (int f = held(job); f < shape_.job_depth; ++f) rest[(f - held(job)) * hw::kWarp + hw::lane()] = next();
    }
    const hw::Shared<hw::Vec<uint32_t, 4>> states =
        hw::shared<hw::Vec<uint32_t, 4>>(shape_.state_at, 2 * shape_.state_bytes / 16);
    for (int i = hw::thread(); i < 2 * shape_.state_bytes / 16; i += kClusterThreads) states[i] = {{0, 0, 0, 0}};
    if (hw::thread() == 0) {
      hw::mbarrier_init(arrivals(0), 1);
      hw::mbarrier_init(arrivals(1), 1);
    }
    hw::barrier();
  }

  // The state of turn 0: value(n, part, unit) of row n < B and unit < H of every block, zeros elsewhere.
  template <class Value>
  FR_DEVICE void first_state(int64_t B, int64_t H, const Value& value) const {
    const int of_block = shape_.handed * items();
    for (int i = hw::thread(); i < shape_.blocks * of_block; i += kClusterThreads) {
      const int q = i / of_block, part = i % of_block / items();
      const int n = Base::row_of_item(i % items()), u = Base::unit_of_item(i % items());
      const int64_t unit = static_cast<int64_t>(q) * shape_.units + u;
      E first{};
      if (unit < H && row() + n < B) first = value(n, part, unit);
      state(0)[place(n, q, part, u)] = first;
    }
  }

  // Between the first state and the first product.
  FR_DEVICE void begin() const {
    if (shape_.blocks > 1) {
      hw::cluster_arrive();
      hw::cluster_wait();
    } else {
      hw::barrier();
    }
  }

  // The sums of all rows of R by the state of a turn, behind a barrier for all threads.
  FR_DEVICE void multiply(uint32_t turn) const {
    if (turn > 0 && shape_.blocks > 1) hw::mbarrier_wait(arrivals(turn), static_cast<int>((turn - 1) / 2 % 2));
    for (int pass = 0, job = hw::warp(); job < shape_.jobs; ++pass, job += kClusterWarps) {
      const int split = by_tiles_.quotient(job);
      const hw::Shared<E> from = state(turn) + static_cast<int64_t>(split) * shape_.job_depth * Engine::kStateElements;
      Engine engine;
      engine.clear();
      if (pass == 0) {
        FR_UNROLL
        for (int f = 0; f < kHeld; f += kTurn) {
          if (f >= shape_.job_depth) break;
          FR_UNROLL
          for (int i = 0; i < kTurn; ++i) engine.add(held_[f + i], from + (f + i) * Engine::kStateElements, i);
        }
      }
      const hw::Shared<Held> rest = resident(job) + hw::lane();
      for (int f = held(job); f < shape_.job_depth; f += kTurn) {
        Held r[kTurn];
        FR_UNROLL
        for (int i = 0; i < kTurn; ++i) r[i] = rest[(f - held(job) + i) * hw::kWarp];
        FR_UNROLL
        for (int i = 0; i < kTurn; ++i) engine.add(Engine::operand(r[i]), from + (f + i) * Engine::kStateElements, i);
      }
      engine.store(sums() + job * Engine::kRows * kBatch, Base::sum_place);
    }
    hw::barrier();
  }

  // Value `part` of unit u, which is this block's, in the state of a turn.
  FR_DEVICE void put(uint32_t turn, int n, int part, int u, E value) const {
    state(turn)[place(n, rank_, part, u)] = value;
  }

  // Sends this block's slice of the state of a turn to the others. All threads have written theirs.
  FR_DEVICE void send(uint32_t turn) const {
    hw::barrier();
    if (shape_.blocks == 1) return;
    using Vector = hw::Vec<uint32_t, 4>;
    const int bytes = shape_.handed * shape_.units * kBatch * static_cast<int>(sizeof(E)), vectors = bytes / 16;
    const hw::Shared<Vector> slice = hw::recast<Vector>(state(turn)) + rank_ * vectors;
    if (hw::thread() == 0) hw::mbarrier_arrive_expect(arrivals(turn), (shape_.blocks - 1) * bytes);
    for (int i = hw::thread(); i < (shape_.blocks - 1) * vectors; i += kClusterThreads) {
      const int hops = by_vectors_.quotient(i), v = i - hops * vectors;
      const int hop = rank_ + 1 + hops, to = hop < shape_.blocks ? hop : hop - shape_.blocks;
      const Vector value = slice[v];
      hw::store_async(hw::remote(slice + v, to), value, hw::remote(arrivals(turn), to));
    }
  }

 private:
  FR_DEVICE hw::Shared<hw::Mbarrier> arrivals(uint32_t turn) const { return hw::shared<hw::Mbarrier>(0, 2) + turn % 2; }

  FR_DEVICE hw::Shared<E> state(uint32_t turn) const {
    return hw::shared<E>(shape_.state_at + turn % 2 * shape_.state_bytes, shape_.state_bytes / sizeof(E));
  }

  // Where value `part` of unit u of block q lies in the state of row n.
  FR_DEVICE uint32_t place(int n, int q, int part, int u) const {
    return Engine::place(n, (q * shape_.handed + part) * shape_.units + u);
  }

  // How many fragments of a job are in registers, and where the others begin.
  FR_DEVICE int held(int job) const { return job < kClusterWarps ? shape_.held : 0; }
  FR_DEVICE hw::Shared<Held> resident(int job) const {
    const int first = job < kClusterWarps ? job : kClusterWarps;
    const int fragments = first * (shape_.job_depth - shape_.held) + (job - first) * shape_.job_depth;
    return hw::shared<Held>(shape_.r_at, (shape_.bytes - shape_.r_at) / sizeof(Held)) + fragments * hw::kWarp;
  }

  using Base::shape_, Base::rank_;
  const int64_t row_;
  const Divider by_tiles_, by_vectors_;
  typename Engine::Operand held_[kHeld];
};

}  // namespace fusedrnn::cuda
