#include "training/host_executor.hpp"

#include <algorithm>
#include <cmath>

#include "training/tasks.hpp"

namespace fusedrnn::training {
namespace {

// Elements from which on a kernel has its own ways of sharing work out, and up to which one thread does it all.
constexpr int64_t kLarge = 65536;
constexpr int64_t kWorthSharing = 8192;    // elements that take much longer than handing work over
constexpr double kFlopsPerParameter = 10;  // that could be done while one is updated

// Elements [first, last) of all segments, counted through.
std::vector<Segment> cut(const OptimizerArgs& update, int64_t first, int64_t last) {
  const int64_t size = update.dtype == DType::float32 ? 4 : 8;
  const auto at = [&](void* data, int64_t element) {
    return data ? static_cast<void*>(static_cast<char*>(data) + element * size) : nullptr;
  };
  std::vector<Segment> pieces;
  for (int64_t i = 0, start = 0; i < update.segments; start += update.segment[i++].count) {
    const Segment& s = update.segment[i];
    const int64_t begin = std::max<int64_t>(first - start, 0), end = std::min(last - start, s.count);
    if (begin < end)
      pieces.push_back({at(s.param, begin),
                        at(s.grad, begin),
                        {at(s.state[0], begin), at(s.state[1], begin), at(s.state[2], begin)},
                        end - begin});
  }
  return pieces;
}

}  // namespace

void TrainStep::add_update(const OptimizerArgs& update) {
  updates_.push_back(update);
  for (int64_t i = 0; i < update.segments; ++i) measured_.add(update.segment[i], update.dtype);
}

// Stages in order, as updates are: a thread has in its cache much of what it packs.
void TrainStep::plan_preparation() {
  large_.clear();
  small_.clear();
  for (const auto& stage : chain_.stages())
    if (stage->preparation() > 0) (stage->preparation() >= kLarge ? large_ : small_).push_back(stage.get());
}

// An element's update depends on that element alone, so they may be shared out in any way.
void TrainStep::plan_updates(int32_t threads) {
  shared_by_ = threads;
  pieces_.clear();
  for (size_t u = 0; u < updates_.size(); ++u) {
    int64_t count = 0;
    for (int64_t i = 0; i < updates_[u].segments; ++i) count += updates_[u].segment[i].count;
    if (count < kWorthSharing || count >= kLarge * threads) {
      pieces_.clear();
      return;
    }
    constexpr int64_t kLine = 16;  // no two threads write to one cache line
    const int64_t each = (count / threads + kLine - 1) / kLine * kLine;
    for (int64_t first = 0; first < count; first += each)
      pieces_.push_back({u, cut(updates_[u], first, std::min(first + each, count))});
  }
}

void TrainStep::fit(const Form& form, int32_t threads) {
  if (threads > 1 && threads != shared_by_) plan_updates(threads);
  partials_.reserve(measured_.partials() * sizeof(double));
  chain_.fit(form, threads);
  flops_ = chain_.flops() + kFlopsPerParameter * static_cast<double>(measured_.count());
  plan_preparation();
}

void TrainStep::prepare(Team* team) {
  for (Stage* stage : large_) check(backend_, stage->prepare(team), "train_step");
  const int32_t blocks = static_cast<int32_t>(gradients_.size()), stages = static_cast<int32_t>(small_.size());
  const Status status = side_by_side(team, stages + blocks, [&](int32_t i) {
    if (i < stages) return small_[static_cast<size_t>(i)]->prepare(solo_team());
    const Cleared& block = gradients_[static_cast<size_t>(i - stages)];
    return backend_.fill(block.data, 0, block.bytes, solo_team());
  });
  check(backend_, status, "train_step");
}

void TrainStep::update(const double* factor, Team* team) {
  const bool shared = team->size > 1 && !pieces_.empty();
  for (OptimizerArgs& update : updates_) {
    update.clip_factor = factor;
    if (!shared) check(backend_, backend_.optim->optimizer(&update, team), "train_step");
  }
  if (!shared) return;
  const Status status = side_by_side(team, static_cast<int32_t>(pieces_.size()), [&](int32_t i) {
    const Piece& piece = pieces_[static_cast<size_t>(i)];
    OptimizerArgs a = updates_[piece.update];
    a.segments = static_cast<int64_t>(piece.segments.size());
    a.segment = piece.segments.data();
    return backend_.optim->optimizer(&a, solo_team());
  });
  check(backend_, status, "train_step");
}

Outcome TrainStep::run(const Form& form, const Call& call, Team* team) {
  if (!chain_.fits(form, team->size)) fit(form, team->size);
  prepare(team);
  Outcome outcome = {0, 0, false};
  chain_.forward(form, call.inputs, &outcome.loss, nullptr, team);
  chain_.backward(call.inputs, team);
  const bool clips = call.clip >= 0;
  double factor = 1;
  if (call.measure) {
    const Norm norm =
        norm_of(backend_, measured_, clips ? call.clip : INFINITY, static_cast<double*>(partials_.data()), team);
    outcome.norm = norm.norm;
    factor = norm.factor;
    if (call.skip && !std::isfinite(norm.norm)) return outcome;
  }
  update(clips ? &factor : nullptr, team);
  outcome.updated = true;
  return outcome;
}

}  // namespace fusedrnn::training
