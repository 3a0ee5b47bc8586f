#include "training/host_executor.hpp"

#include <algorithm>
#include <cmath>

#include "backend/scratch.hpp"
#include "training/tasks.hpp"

namespace fusedrnn::training {
namespace {

// Elements from which on a kernel has its own ways of sharing work out, and up to which one thread does it all.
constexpr int64_t kLarge = 65536;
constexpr int64_t kWorthSharing = 8192;    // elements that take much longer than handing work over
constexpr double kFlopsPerParameter = 10;  // that could be done while one is updated

// Elements [first, last) of all segments, counted through.
std::vector<Segment> cut(const OptimizerArgs& update, int64_t first, int64_t last) {
  const int64_t size = bytes_of(update.dtype);
  const auto at = [&](void* data, int64_t element) {
    return data ? static_cast<void*>(static_cast<char*>(data) + element * size) : nullptr;
  };
  std::vector<Segment> pieces;
  for (int64_t i = 0, start = 0; i < update.segments; start += update.segment[i++].count) {
    const Segment& s = update.segment[i];
    const int64_t begin = std::max<int64_t>(first - start, 0), end = std::min(last - start, s.count);
    if (begin >= end) continue;
    Segment piece = {at(s.param, begin), at(s.grad, begin), {}, end - begin};
    for (int k = 0; k < kMaxStates; ++k) piece.state[k] = at(s.state[k], begin);
    pieces.push_back(piece);
  }
  return pieces;
}

}  // namespace

HostExecutor::HostExecutor(const Backend& backend, DType dtype, std::vector<std::unique_ptr<Layer>> layers,
                           std::vector<Cleared> gradients, std::vector<UpdateGroup> updates)
    : Executor(backend, dtype, std::move(layers), std::move(gradients), std::move(updates)), partials_(backend) {
  for (const UpdateGroup& group : updates_) {
    const OptimizerArgs& update = group.update;
    measured_.push_back({update.dtype, update.segments, update.segment});
    for (int64_t i = 0; i < update.segments; ++i) parameters_ += static_cast<double>(update.segment[i].count);
  }
  partials_.reserve(norm_partials(norm_args()) * sizeof(double));
}

// Layers in order, as updates are: a thread has in its cache much of what it packs.
void HostExecutor::plan_preparation() {
  large_.clear();
  small_.clear();
  for (const auto& layer : chain_.layers())
    if (layer->preparation() > 0) (layer->preparation() >= kLarge ? large_ : small_).push_back(layer.get());
}

// An element's update depends on that element alone, so they may be shared out in any way.
void HostExecutor::plan_updates(int32_t threads) {
  shared_by_ = threads;
  pieces_.clear();
  for (size_t u = 0; u < updates_.size(); ++u) {
    const OptimizerArgs& update = updates_[u].update;
    int64_t count = 0;
    for (int64_t i = 0; i < update.segments; ++i) count += update.segment[i].count;
    if (count < kWorthSharing || count >= kLarge * threads) {
      pieces_.clear();
      return;
    }
    constexpr int64_t kLine = 16;  // no two threads write to one cache line
    const int64_t each = (count / threads + kLine - 1) / kLine * kLine;
    for (int64_t first = 0; first < count; first += each)
      pieces_.push_back({u, cut(update, first, std::min(first + each, count))});
  }
}

void HostExecutor::fit(const CallShape& shape, int32_t threads) {
  if (threads > 1 && threads != shared_by_) plan_updates(threads);
  chain_.fit(shape, threads);
  flops_ = chain_.flops() + kFlopsPerParameter * parameters_;
  plan_preparation();
}

NormArgs HostExecutor::norm_args() const {
  NormArgs a = {};
  a.groups = static_cast<int64_t>(measured_.size());
  a.group = measured_.data();
  a.partials = static_cast<double*>(partials_.data());
  return a;
}

void HostExecutor::prepare(Team* team) {
  for (Layer* layer : large_) check(backend_, layer->prepare(team), "train_step");
  const int32_t blocks = static_cast<int32_t>(gradients_.size()), layers = static_cast<int32_t>(small_.size());
  const Status status = side_by_side(team, layers + blocks, [&](int32_t i) {
    if (i < layers) return small_[static_cast<size_t>(i)]->prepare(solo_team());
    const Cleared& block = gradients_[static_cast<size_t>(i - layers)];
    return backend_.fill(block.data, 0, block.bytes, solo_team());
  });
  check(backend_, status, "train_step");
}

void HostExecutor::update(const double* factor, Team* team) {
  const bool shared = team->size > 1 && !pieces_.empty();
  for (UpdateGroup& group : updates_) {
    group.update.clip_factor = factor;
    if (!shared) check(backend_, backend_.optim->optimizer(&group.update, team), "train_step");
  }
  if (!shared) return;
  const Status status = side_by_side(team, static_cast<int32_t>(pieces_.size()), [&](int32_t i) {
    const Piece& piece = pieces_[static_cast<size_t>(i)];
    OptimizerArgs a = updates_[piece.update].update;
    a.segments = static_cast<int64_t>(piece.segments.size());
    a.segment = piece.segments.data();
    return backend_.optim->optimizer(&a, solo_team());
  });
  check(backend_, status, "train_step");
}

// Keys, states and step numbers go to where they are read; final states are written to where they are wanted.
void HostExecutor::load_inputs(const Call& call, const Results& results) {
  size_t next = 0;
  for (const auto& layer : chain_.layers())
    if (layer->has_key()) layer->set_key(call.keys[next++]);
  for (size_t i = 0; i < chain_.recurrent().size(); ++i) {
    const auto initial = [&](size_t s) { return call.states.empty() ? Array3{} : call.states[s]; };
    const auto final = [&](size_t s) { return results.finals.empty() ? nullptr : results.finals[s]; };
    chain_.recurrent()[i]->set_states(initial(2 * i), initial(2 * i + 1), final(2 * i), final(2 * i + 1));
  }
  for (size_t i = 0; i < call.steps.size(); ++i) updates_[i].update.step = call.steps[i];
}

// Before room is made, of which it takes some.
void HostExecutor::load_flow(const Results& results) {
  for (size_t i = 0; i < chain_.recurrent().size(); ++i) {
    const auto norms = [&](size_t s) { return results.flow.empty() ? nullptr : results.flow[s]; };
    if (chain_.recurrent()[i]->set_flow(norms(2 * i), norms(2 * i + 1))) chain_.forget_shape();
  }
}

void HostExecutor::run(const CallShape& shape, const Call& call, const Results& results, Stream stream) {
  Team* team = static_cast<Team*>(stream);
  load_flow(results);
  if (!chain_.fits(shape, team->size)) fit(shape, team->size);
  load_inputs(call, results);
  prepare(team);
  const Inputs inputs = {call.x.data,
                         call.target.data,
                         call.mask.data,
                         {static_cast<const int64_t*>(call.lengths.elements.data),
                          static_cast<const uint8_t*>(call.resets.elements.data)}};
  chain_.forward(shape, inputs, &results.report->loss, nullptr, team);
  chain_.backward(inputs, team);
  clamp(call, team);
  const bool clips = call.clip >= 0;
  double factor = 1;
  if (call.measures()) {
    NormArgs a = norm_args();
    a.max_norm = clips ? call.clip : INFINITY;
    a.norm = &results.report->norm;
    a.clip_factor = &factor;
    check(backend_, backend_.optim->norm(&a, team), "train_step");
    if (call.skip && !std::isfinite(*a.norm)) return;
  }
  update(clips ? &factor : nullptr, team);
}

}  // namespace fusedrnn::training
