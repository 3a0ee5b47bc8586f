#include "step/train_step.hpp"

#include <algorithm>
#include <cmath>

#include "step/loss.hpp"
#include "step/tasks.hpp"

namespace fusedrnn::step {
namespace {

bool same(const ForcedPlan& a, const ForcedPlan& b) {
  return a.direction_groups == b.direction_groups && a.row_groups == b.row_groups && a.unit_groups == b.unit_groups &&
         a.kind == b.kind;
}

// What stages have to know of lengths and resets to make room: whether there are any.
Sequence promised(const Form& form) {
  static const int64_t some_length = 0;
  static const uint8_t some_reset = 0;
  return {form.lengths ? &some_length : nullptr, form.resets ? &some_reset : nullptr};
}

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

bool TrainStep::fits(const Form& form, int32_t threads) const {
  return fitted_ == &form && threads_ == threads && same(forced_, forced_plan());
}

// Stages in order, as updates are: a thread has in its cache much of what it packs.
void TrainStep::plan_preparation() {
  large_.clear();
  small_.clear();
  for (const auto& stage : stages_)
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
  fitted_ = nullptr;
  if (threads > 1 && threads != shared_by_) plan_updates(threads);
  const size_t element = dtype_ == DType::float32 ? 4 : 8;
  const Sequence sequence = promised(form);
  size_t workspace = 0, widest = 0;
  flops_ = kFlopsPerParameter * static_cast<double>(measured_.count());
  inputs_[0] = form.x;
  for (size_t i = 0; i < stages_.size(); ++i) {
    const Shape shape = stages_[i]->output(inputs_[i].shape);
    const size_t bytes = static_cast<size_t>(shape.count()) * element;
    outputs_[i]->reserve(bytes);
    inputs_[i + 1] = contiguous(shape, outputs_[i]->data());
    workspace = std::max(workspace, stages_[i]->fit(inputs_[i], sequence, threads));
    widest = std::max(widest, bytes);
    flops_ += stages_[i]->flops();
  }
  plan_preparation();
  for (auto& way : way_back_) way->reserve(widest);
  workspace_.reserve(workspace);
  partials_.reserve(std::max(static_cast<size_t>(loss_chunks(form.loss)), measured_.partials()) * sizeof(double));
  fitted_ = &form;
  threads_ = threads;
  forced_ = forced_plan();
}

void TrainStep::prepare(Team* team) {
  for (Stage* stage : large_) check(backend_, stage->prepare(team), "train_step");
  const int32_t blocks = static_cast<int32_t>(gradients_.size()), stages = static_cast<int32_t>(small_.size());
  const Status status = side_by_side(team, stages + blocks, [&](int32_t i) {
    if (i < stages) return small_[static_cast<size_t>(i)]->prepare(solo_team());
    const Block& block = gradients_[static_cast<size_t>(i - stages)];
    return backend_.fill(block.data, 0, block.bytes, solo_team());
  });
  check(backend_, status, "train_step");
}

double TrainStep::forward(const Form& form, const Call& call, Team* team) {
  inputs_[0].point_to(call.x);
  for (size_t i = 0; i < stages_.size(); ++i)
    check(backend_, stages_[i]->forward(inputs_[i], outputs_[i]->data(), call.sequence, workspace_.data(), team),
          "train_step");
  double loss = 0;
  LossArgs a = form.loss;
  a.pred.data = outputs_.back()->data();
  a.target.data = call.target;
  a.mask.data = call.mask;
  a.loss = &loss;
  a.dpred = way_back_[stages_.size() % 2]->data();
  a.partials = static_cast<double*>(partials_.data());
  check(backend_, backend_.loss(&a, team), "train_step");
  return loss;
}

void TrainStep::backward(const Call& call, Team* team) {
  for (size_t i = stages_.size(); i-- > 0;) {
    const View dy = contiguous(inputs_[i + 1].shape, way_back_[(i + 1) % 2]->data());
    void* dx = i > 0 ? way_back_[i % 2]->data() : nullptr;
    check(backend_, stages_[i]->backward(inputs_[i], dy, dx, call.sequence, workspace_.data(), team), "train_step");
  }
}

void TrainStep::update(const double* factor, Team* team) {
  const bool shared = team->size > 1 && !pieces_.empty();
  for (OptimizerArgs& update : updates_) {
    update.clip_factor = factor;
    if (!shared) check(backend_, backend_.optimizer(&update, team), "train_step");
  }
  if (!shared) return;
  const Status status = side_by_side(team, static_cast<int32_t>(pieces_.size()), [&](int32_t i) {
    const Piece& piece = pieces_[static_cast<size_t>(i)];
    OptimizerArgs a = updates_[piece.update];
    a.segments = static_cast<int64_t>(piece.segments.size());
    a.segment = piece.segments.data();
    return backend_.optimizer(&a, solo_team());
  });
  check(backend_, status, "train_step");
}

Outcome TrainStep::run(const Form& form, const Call& call, Team* team) {
  if (!fits(form, team->size)) fit(form, team->size);
  prepare(team);
  Outcome outcome = {forward(form, call, team), 0, false};
  backward(call, team);
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

}  // namespace fusedrnn::step
