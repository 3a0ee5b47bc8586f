// A block of the plan `grid`: its part of R, resident; the product with the state of its group; and the exchange of
// that state through global memory. grid.hpp has the plan.
//
// A warp takes a run of k and all of the block's gates over it, so that the block reads the state once: in fragments as
// they are used, by asynchronous copies into a ring of its own. It waits for those blocks alone whose units the run
// has.
//
// The exchange (tests/simt/handing.hpp is the bare protocol): the state is in global memory twice, for turns of even
// and odd number, with a flag for each block. A block writes its slice of state s + 1 and posts s + 1; who reads it
// polls for that. Why two are enough: a block writes state s + 1, where state s - 1 was, after all its warps have read
// state s, for which they have polled everybody's flag between them; and a block posts s after all its warps have read
// state s - 1. So a block that overwrites state s - 1 has heard of every block that it has read it.
#pragma once

#include "recurrent/chunk/unit_block.cuh"
#include "recurrent/grid/grid.hpp"
#include "recurrent/grid/product.cuh"

namespace fusedrnn::cuda {

template <class E, int NT, int TILES>
class GridBlock : public UnitBlock<GridBlock<E, NT, TILES>, NT, GridEngine<E, NT>::type::kRows> {
 public:
  using Engine = typename GridEngine<E, NT>::type;
  using Base = UnitBlock<GridBlock, NT, Engine::kRows>;
  using Base::each_item, Base::kBatch;
  // Fragments of a slot of the ring, and how many of each tile are in registers.
  static constexpr int kSlotElements = kGridSlotBytes / sizeof(E), kSlot = kSlotElements / Engine::kStateElements;
  static constexpr int kSlots = grid_slots(ElementTraits<E>::kElement, TILES);
  static constexpr int kHeld = grid_held(ElementTraits<E>::kElement, TILES);
  static_assert(kSlot > 0 && kHeld % kSlot == 0, "slots are read from registers or from shared memory");

  FR_DEVICE GridBlock(const GridShape& shape, const GridExchange& exchange, int lanes)
      : GridBlock(shape, exchange, lanes, exchange.first_group + hw::block_x() / shape.blocks) {}

  FR_DEVICE int lane() const { return lane_; }
  FR_DEVICE int64_t row() const { return row_; }

  // As ClusterBlock's.
  template <class Row>
  FR_DEVICE void load(const Row& row, int64_t H, int64_t part_pitch) {
    const E* rows[TILES][Engine::kLaneRows];
    FR_UNROLL
    for (int t = 0; t < TILES; ++t) {
      FR_UNROLL
      for (int i = 0; i < Engine::kLaneRows; ++i) rows[t][i] = row(t * Engine::kRows + Engine::lane_row(i));
    }
    // Which unit of which value of which block this lane has in the fragment that comes next.
    const int k = first_ * Engine::kDepth + Engine::lane_k(), of_block = shape_.handed * shape_.units;
    int u = k % shape_.units, part = k % of_block / shape_.units;
    int64_t unit = static_cast<int64_t>(k / of_block) * shape_.units;
    const auto next = [&](Held(&held)[TILES]) {
      FR_UNROLL
      for (int t = 0; t < TILES; ++t) held[t] = Engine::gather(rows[t], part * part_pitch + unit + u, H - unit - u);
      for (u += Engine::kDepth; u >= shape_.units; u -= shape_.units) {
        if (++part < shape_.handed) continue;
        part = 0;
        unit += shape_.units;
      }
    };
    FR_UNROLL
    for (int f = 0; f < kHeld; ++f) {
      if (f >= count_) break;
      Held held[TILES];
      next(held);
      FR_UNROLL
      for (int t = 0; t < TILES; ++t) held_[f][t] = Engine::operand(held[t]);
    }
    const hw::Shared<Held> rest = resident();
    for (int f = kHeld; f < count_; ++f) {
      Held held[TILES];
      next(held);
      FR_UNROLL
      for (int t = 0; t < TILES; ++t) rest[((f - kHeld) * TILES + t) * hw::kWarp + hw::lane()] = held[t];
    }
  }

  // The state of turn 0: value(n, part, unit) of row n < B and unit < H. What lies past them is zero.
  template <class Value>
  FR_DEVICE void first_state(int64_t B, int64_t H, const Value& value) const {
    each_item(B, H, [&](int, int n, int u, int64_t, int64_t unit) {
      for (int part = 0; part < shape_.handed; ++part) put(0, n, part, u, value(n, part, unit));
    });
  }

  FR_DEVICE void begin() const { send(0); }

  // The sums of all rows of R by the state of a turn, behind a barrier for all threads.
  FR_DEVICE void multiply(uint32_t turn) {
    Engine engines[TILES];
    FR_UNROLL
    for (int t = 0; t < TILES; ++t) engines[t].clear();
    if (count_ > 0) add_state(turn, engines);
    hw::warp_barrier();  // the sums come where the ring was
    if (hw::warp() < shape_.splits) {
      const hw::Shared<float> to = Base::sums() + hw::warp() * shape_.sums_pitch;
      FR_UNROLL
      for (int t = 0; t < TILES; ++t) engines[t].store(to + t * Engine::kRows * kBatch, Base::sum_place);
    }
    hw::barrier();
  }

  // Value `part` of unit u, which is this block's, in the state of a turn.
  FR_DEVICE void put(uint32_t turn, int n, int part, int u, E value) const {
    const int k = (rank_ * shape_.handed + part) * shape_.units + u;
    hw::store(state(turn) + Engine::place(n, k), value);
  }

  // Tells the others that this block's slice of the state of a turn is there. All threads have written theirs.
  FR_DEVICE void send(uint32_t turn) const {
    hw::barrier();
    if (hw::thread() == 0) hw::flag_post(flags_ + rank_, epoch_ + turn);
  }

 private:
  FR_DEVICE GridBlock(const GridShape& shape, const GridExchange& exchange, int lanes, int64_t group)
      : Base(shape, static_cast<int>(hw::block_x() % shape.blocks)),
        lane_(static_cast<int>(group % lanes)),
        row_(group / lanes * shape.rows),
        shape_(shape),
        flags_(reinterpret_cast<uint32_t*>(static_cast<char*>(exchange.memory) + group * shape.group_bytes)),
        epoch_(exchange.epoch),
        // Of a lane: so a compiler knows that the warp has one, and that it stays together.
        first_(hw::shuffle(hw::warp(), 0) * shape.job_depth),
        count_(first_ + shape.job_depth < shape.depth ? shape.job_depth : shape.depth - first_) {}

  FR_DEVICE E* state(uint32_t turn) const {
    return reinterpret_cast<E*>(reinterpret_cast<char*>(flags_) + shape_.flag_bytes + turn % 2 * shape_.state_bytes);
  }

  FR_DEVICE hw::Shared<Held> resident() const {
    const int fragments = hw::warp() * (shape_.job_depth - shape_.held) * TILES;
    return hw::shared<Held>(shape_.r_at, (shape_.bytes - shape_.r_at) / sizeof(Held)) + fragments * hw::kWarp;
  }

  // This warp's run of k, once those who make it have posted it.
  FR_DEVICE void add_state(uint32_t turn, Engine (&engines)[TILES]) const {
    const int of_block = shape_.handed * shape_.units, end = (first_ + count_) * Engine::kDepth;
    for (int q = first_ * Engine::kDepth / of_block + hw::lane(); q < shape_.blocks && q * of_block < end;
         q += hw::kWarp)
      hw::flag_poll(flags_ + q, epoch_ + turn);
    hw::warp_barrier();

    // A lane has the same 16 bytes of every 512, and so addresses that are constants beyond its first.
    constexpr int kVector = 16 / sizeof(E), kRound = hw::kWarp * kVector;
    static_assert(kSlotElements % kRound == 0, "a slot is whole rounds of the warp");
    const int own = hw::lane() * kVector, left = count_ * Engine::kStateElements - own;
    const E* const from = state(turn) + static_cast<int64_t>(first_) * Engine::kStateElements + own;
    const hw::Shared<E> ring = hw::recast<E>(Base::sums() + hw::warp() * shape_.sums_pitch);
    const auto fetch = [&](int slot) {
      FR_UNROLL
      for (int i = 0; i < kSlotElements; i += kRound) {
        const int at = slot * kSlotElements + i;
        if (at < left) hw::copy_async16(ring + (slot % kSlots * kSlotElements + i + own), from + at);
      }
      hw::commit_copies();
    };
    // The next slot, all others of the ring but the one before it being on their way.
    const auto arrive = [&](int slot) {
      hw::wait_copies<kSlots - 2>();
      hw::warp_barrier();
      fetch(slot + kSlots - 1);
      return ring + slot % kSlots * kSlotElements;
    };
    FR_UNROLL
    for (int slot = 0; slot < kSlots - 1; ++slot) fetch(slot);
    FR_UNROLL
    for (int slot = 0; slot < kHeld / kSlot; ++slot) {
      if (slot * kSlot >= count_) break;
      const hw::Shared<E> values = arrive(slot);
      FR_UNROLL
      for (int i = 0; i < kSlot; ++i) {
        if (slot * kSlot + i >= count_) break;
        FR_UNROLL
        for (int t = 0; t < TILES; ++t)
          engines[t].add(held_[slot * kSlot + i][t], values + i * Engine::kStateElements, i);
      }
    }
    const hw::Shared<Held> rest = resident() + hw::lane();
    for (int slot = kHeld / kSlot; slot * kSlot < count_; ++slot) {
      const hw::Shared<E> values = arrive(slot);
      FR_UNROLL
      for (int i = 0; i < kSlot; ++i) {
        const int f = slot * kSlot + i;
        if (f >= count_) break;
        FR_UNROLL
        for (int t = 0; t < TILES; ++t) {
          const Held held = rest[((f - kHeld) * TILES + t) * hw::kWarp];
          engines[t].add(Engine::operand(held), values + i * Engine::kStateElements, i);
        }
      }
    }
  }

  using Base::rank_;
  const int lane_;
  const int64_t row_;
  const GridShape& shape_;
  uint32_t* const flags_;
  const uint32_t epoch_;
  const int first_, count_;  // fragments of k of this warp
  typename Engine::Operand held_[kHeld][TILES];
};

}  // namespace fusedrnn::cuda
