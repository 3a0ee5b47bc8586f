// A recurrent stack with everything on, run forward and backward through the entries of a backend's table.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/traits.hpp"
#include "check.hpp"
#include "isa/detect.hpp"
#include "random.hpp"
#include "runtime/team.hpp"
#include "runtime/threads.hpp"

namespace {

using namespace fusedrnn;

struct Problem {
  int64_t T, B, I, H;
  int32_t layers, directions;
};

// A grid asked of the plan; zeros leave it the choice among `threads`.
struct Grid {
  int32_t threads, directions, rows, units;
};

constexpr Grid kAlone = {1, 1, 1, 1};
// A block of a backend's memory.
class Block {
 public:
  Block(const Backend& backend, size_t bytes) : backend_(backend) {
    check::require(backend.alloc(bytes, &data_) == Status::ok, "%zu bytes", bytes);
  }
  ~Block() { backend_.free(data_); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  void* data() const { return data_; }

 private:
  const Backend& backend_;
  void* data_ = nullptr;
};

// Integers: small ones, few weights that are not zero, dropout that doubles: all results are exact.
enum class Data { reals, integers };

template <class T>
class Run {
 public:
  Run(const Backend& backend, const CellTraits& cell, const Problem& p, bool lengths, Data data = Data::reals,
      Precision precision = Precision::ieee)
      : backend_(backend),
        problem_(p),
        cell_(cell),
        stacks_(p.layers * p.directions),
        units_(cell.projection >= 0 ? std::max<int64_t>(1, p.H / 2) : p.H),
        data_(data),
        precision_(precision) {
    x_ = normal(p.T * p.B * p.I);
    h0_ = normal(stacks_ * p.B * units_);
    c0_ = normal(stacks_ * p.B * p.H);
    dy_ = normal(p.T * p.B * p.directions * units_);
    for (int64_t i = 0; i < stacks_; ++i)
      for (int32_t w = 0; w < cell.weights.count; ++w) {
        weights_.push_back(normal(size(i, w).count()));
        if (size(i, w).matrix)
          for (T& value : weights_.back())
            value = data == Data::reals ? value * T(0.2) : random_.below(8) == 0 ? value : T(0);
      }
    if (lengths) {
      for (int64_t b = 0; b < p.B; ++b) lengths_.push_back((b * 5 + 3) % (p.T + 1));
      resets_.resize(static_cast<size_t>(p.T * p.B));
      for (size_t i = 0; i < resets_.size(); i += 11) resets_[i] = 1;
    }
  }

  // All results of a forward and a backward on a grid of threads, one after another.
  std::vector<T> results(const Grid& grid) {
    const Problem& p = problem_;
    set_num_threads(grid.threads);
    TeamLease lease;
    check::require(lease.size() == grid.threads, "a team of %d", grid.threads);
    SequenceDesc desc{};
    desc.cell = cell_.kind;
    desc.dtype = sizeof(T) == 4 ? DType::float32 : DType::float64;
    desc.precision = precision_;
    desc.layers = p.layers;
    desc.directions = p.directions;
    desc.threads = grid.threads;
    desc.barrier_flops = barrier_flops();
    desc.direction_groups = grid.directions;
    desc.row_groups = grid.rows;
    desc.unit_groups = grid.units;
    desc.has_bias = 1;
    desc.train = 1;
    desc.has_lengths = desc.has_resets = lengths_.empty() ? 0 : 1;
    desc.T = p.T;
    desc.B = p.B;
    desc.I = p.I;
    desc.H = p.H;
    desc.P = cell_.projection >= 0 ? units_ : 0;
    desc.dropout = data_ == Data::reals ? 0.25 : 0.5;
    static const uint64_t key = 42;  // by value or from memory
    desc.dropout_key = grid.threads > 1 ? 0 : key;
    desc.dropout_key_at = grid.threads > 1 ? &key : nullptr;
    Plan plan;
    must(backend_.sequence->plan(&desc, &plan), "plan");
    if (grid.rows > 0)
      check::require(plan.row_groups == grid.rows && plan.unit_groups == grid.units &&
                         plan.direction_groups == (grid.directions < p.directions ? grid.directions : p.directions),
                     "the plan is %d x %d x %d, asked were %d x %d x %d", plan.direction_groups, plan.row_groups,
                     plan.unit_groups, grid.directions, grid.rows, grid.units);

    SequenceSizes sizes;
    must(backend_.sequence->sizes(&desc, &sizes), "sizes");
    const Block packed(backend_, sizes.packed), tape(backend_, sizes.tape), forward(backend_, sizes.forward),
        backward(backend_, sizes.backward);
    std::vector<LayerWeights> layers(static_cast<size_t>(stacks_));
    for (int64_t i = 0; i < stacks_; ++i)
      for (int32_t w = 0; w < cell_.weights.count; ++w)
        layers[static_cast<size_t>(i)].weight[w] = {weights_[index(i, w)].data(), size(i, w).columns};
    must(backend_.sequence->pack(&desc, layers.data(), packed.data(), lease.team()), "pack");

    const auto rows = [&](std::vector<T>& v, int64_t width) { return Array3{v.data(), p.B * width, width}; };
    const auto state = [&](std::vector<T>& v) { return rows(v, units_); };
    const auto cells = [&](std::vector<T>& v) { return rows(v, p.H); };
    const bool carry = cell_.has_cell_state;
    std::vector<T> y(dy_.size()), hn(h0_.size()), cn(c0_.size());
    ForwardArgs f{};
    f.x = {x_.data(), p.B * p.I, p.I};
    f.h0 = state(h0_);
    f.packed = packed.data();
    f.lengths = lengths_.empty() ? nullptr : lengths_.data();
    f.resets = resets_.empty() ? nullptr : resets_.data();
    f.resets_stride0 = p.B;
    f.resets_stride1 = 1;
    f.y = rows(y, p.directions * units_);
    f.hn = state(hn);
    if (carry) f.c0 = cells(c0_), f.cn = cells(cn);
    f.tape = tape.data();
    must(backend_.sequence->forward(&desc, &f, forward.data(), lease.team()), "forward");

    std::vector<T> dx(x_.size()), dh0(h0_.size()), dc0(c0_.size());
    std::vector<std::vector<T>> grads;
    for (const auto& w : weights_) grads.emplace_back(w.size());
    std::vector<LayerGrads> dweights(layers.size());
    for (int64_t i = 0; i < stacks_; ++i)
      for (int32_t w = 0; w < cell_.weights.count; ++w)
        dweights[static_cast<size_t>(i)].weight[w] = grads[index(i, w)].data();
    BackwardArgs b{};
    b.x = f.x;
    b.h0 = f.h0;
    b.c0 = f.c0;
    b.packed = packed.data();
    b.lengths = f.lengths;
    b.resets = f.resets;
    b.resets_stride0 = f.resets_stride0;
    b.resets_stride1 = f.resets_stride1;
    b.tape = tape.data();
    b.dy = rows(dy_, p.directions * units_);
    b.dhn = state(h0_);
    if (carry) b.dcn = cells(c0_);
    b.dx = {dx.data(), p.B * p.I, p.I};
    b.dh0 = state(dh0);
    if (carry) b.dc0 = cells(dc0);
    b.dweights = dweights.data();
    must(backend_.sequence->backward(&desc, &b, backward.data(), lease.team()), "backward");

    std::vector<T> all;
    for (const auto* part : {&y, &hn, &cn, &dx, &dh0, &dc0}) all.insert(all.end(), part->begin(), part->end());
    for (const auto& part : grads) all.insert(all.end(), part.begin(), part.end());
    return all;
  }

 private:
  // Weight w of layer and direction i.
  size_t index(int64_t i, int32_t w) const { return static_cast<size_t>(i * cell_.weights.count + w); }
  WeightSize size(int64_t i, int32_t w) const {
    const Problem& p = problem_;
    return weight_size(cell_.weights.spec[w], i < p.directions ? p.I : p.directions * units_, p.H, units_);
  }

  void must(Status status, const char* call) {
    check::require(status == Status::ok, "%s of %s: %s", call, backend_.name, backend_.status_text());
  }

  std::vector<T> normal(int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    for (T& value : values)
      value = data_ == Data::reals ? static_cast<T>(random_.uniform(-1, 1)) : static_cast<T>(random_.below(3) - 1);
    return values;
  }

  const Backend& backend_;
  const Problem& problem_;
  const CellTraits& cell_;
  int64_t stacks_, units_;  // of h: half of H where the cell projects it
  Data data_;
  Precision precision_;
  Random random_{7};
  std::vector<T> x_, h0_, c0_, dy_;
  std::vector<std::vector<T>> weights_;
  std::vector<int64_t> lengths_;
  std::vector<uint8_t> resets_;
};

}  // namespace
