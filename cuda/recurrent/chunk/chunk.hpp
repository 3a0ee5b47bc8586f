// What the plans `cluster` and `grid` have in common, for the host: what a unit is to a pass, and places in a block's
// shared memory.
#pragma once

#include "backend/traits.hpp"
#include "recurrent/cluster/cluster.hpp"

namespace fusedrnn::cuda {

// Beyond these nothing fits, and what follows need not be counted in more than 64 bits.
constexpr int64_t kMostHidden = 4096, kMostRows = int64_t{1} << 24;

inline int64_t quotient_up(int64_t n, int64_t by) { return (n + by - 1) / by; }
inline int64_t round_up(int64_t n, int64_t to) { return quotient_up(n, to) * to; }

inline UnitShape unit_shape(const CellTraits& cell, bool backward) {
  return backward ? UnitShape{1, cell.gates, cell.tape_blocks + kBackwardInputs} : UnitShape{cell.gates, 1, cell.gates};
}

// Of a multiprocessor, roughly, for a fragment of R by 8 rows of the batch.
constexpr int64_t clocks_of_fragment(Element e) { return e == Element::f32 ? 12 : e == Element::tf32x3 ? 7 : 3; }

// Places in shared memory one behind the other, each at 16 bytes.
class SharedLayout {
 public:
  explicit SharedLayout(int64_t first) : at_(first) {}
  int64_t take(int64_t bytes) {
    const int64_t here = at_;
    at_ += round_up(bytes, 16);
    return here;
  }
  // Those of a block's units and rows; inputs for two steps.
  void take_items(ClusterShape& shape, int32_t inputs) {
    const int64_t items = int64_t{shape.units} * shape.rows;
    shape.lengths_at = take(shape.rows * static_cast<int64_t>(sizeof(int64_t)));
    shape.bias_at = take(shape.gates * shape.units * 4);
    shape.carry_at = take(items * 4);
    shape.input_at = take(2 * inputs * items * 4);
  }
  int64_t end() const { return at_; }

 private:
  int64_t at_;
};

}  // namespace fusedrnn::cuda
