#include "training/graph_executor.hpp"

#include <cmath>
#include <stdexcept>
#include <tuple>

#include "device/env_flags.hpp"

namespace fusedrnn::training {
namespace {

constexpr size_t kMostGraphs = 64;  // kept at a time: more begin anew

int64_t bytes_of(DType dtype) { return dtype == DType::float32 ? 4 : 8; }

int64_t count_of(const Strided& s) { return s.rows * s.width; }

bool has_classes(const Form& form) { return form.loss.kind == LossKind::cross_entropy_classes; }

// `count` elements in a row.
Gather copy_of(const void* from, int64_t count, void* to, int64_t bytes) {
  return {{from, 1, count, 0, {}, {}}, to, bytes};
}

}  // namespace

bool DeviceStep::Key::operator<(const Key& other) const {
  const auto all = [](const Key& k) {
    return std::tie(k.form, k.skip, k.clip, k.ignored, k.plan.direction_groups, k.plan.row_groups, k.plan.unit_groups,
                    k.plan.kind);
  };
  return all(*this) < all(other);
}

DeviceStep::DeviceStep(const Backend& backend, DType dtype, std::vector<std::unique_ptr<Stage>> stages,
                       std::vector<Cleared> gradients, std::vector<UpdateGroup> updates)
    : backend_(backend),
      chain_(backend, dtype, std::move(stages)),
      gradients_(std::move(gradients)),
      updates_(std::move(updates)),
      x_(backend),
      target_(backend),
      mask_(backend),
      lengths_(backend),
      resets_(backend),
      report_(backend),
      keys_(backend),
      partials_(backend) {
  size_t chunks = 0, keyed = 0, next = 0;
  for (const UpdateGroup& group : updates_) {
    ++chunks;
    for (int64_t i = 0; i < group.update.segments; ++i)
      chunks += static_cast<size_t>(group.update.segment[i].count / kReduceChunk) + 1;
  }
  partials_.reserve(chunks * sizeof(double));
  report_.reserve(sizeof(Report));
  for (const auto& stage : chain_.stages()) keyed += stage->has_key();
  keys_.reserve(keyed * sizeof(uint64_t));
  for (const auto& stage : chain_.stages())
    if (stage->has_key()) stage->set_key_at(keys() + next++);
  for (size_t i = 0; i < 2 * chain_.recurrent().size(); ++i)
    for (auto* list : {&states_, &finals_}) list->push_back(std::make_unique<Buffer>(backend));
}

DeviceStep::~DeviceStep() { forget(); }

void DeviceStep::forget() {
  for (const auto& [key, recorded] : graphs_)
    if (recorded.graph) backend_.async->graph_free(recorded.graph);
  graphs_.clear();
  chain_.forget_form();
}

bool DeviceStep::looks(const Form& form) const { return chain_.embedding() || form.lengths || has_classes(form); }

// Elements of h (even i) or c of a recurrent stage; 0 where it has none.
int64_t DeviceStep::states_of(const Form& form, size_t i) const {
  const RecurrentStage& stage = *chain_.recurrent()[i / 2];
  const bool present = i % 2 == 0 || stage.desc().cell == CellKind::lstm;
  return present ? stage.stacks() * rows_of(form) * stage.desc().H : 0;
}

void DeviceStep::fit(const Form& form) {
  const uint64_t before = Buffer::growths();
  const int64_t element = bytes_of(chain_.dtype());
  const auto room = [](Buffer& kept, int64_t count, int64_t bytes) {
    kept.reserve(static_cast<size_t>(count * bytes));
  };
  room(x_, form.x.shape.count(), chain_.embedding() ? 8 : element);
  room(target_, count_of(form.loss.target), has_classes(form) ? 8 : element);
  room(mask_, count_of(form.loss.mask), 1);
  if (form.lengths) room(lengths_, rows_of(form), 8);
  if (form.resets) room(resets_, form.x.shape.size[0] * form.x.shape.size[1], 1);
  for (size_t i = 0; i < finals_.size(); ++i) {
    room(*states_[i], states_of(form, i), element);
    room(*finals_[i], states_of(form, i), element);
  }
  chain_.fit(form, 1);
  if (Buffer::growths() == before) return;
  for (auto& [key, recorded] : graphs_)
    if (recorded.graph) {
      backend_.async->graph_free(recorded.graph);
      recorded.graph = nullptr;
    }
}

void DeviceStep::own(Buffer& kept, const Source& from, int64_t bytes, Stream stream) {
  if (!from.elements.data) return;
  const size_t all = static_cast<size_t>(count_of(from.elements) * bytes);
  if (from.host)
    check(backend_, backend_.async->upload(kept.data(), from.elements.data, all, stream), "train_step");
  else
    gathers_.push_back({from.elements, kept.data(), bytes});
}

// A call's arguments, and the dropout keys where they are not those that the device has counted up itself.
void DeviceStep::take(const Form& form, const DeviceCall& call, Stream stream) {
  const int64_t element = bytes_of(chain_.dtype());
  gathers_.clear();
  own(x_, {call.x}, chain_.embedding() ? 8 : element, stream);
  own(target_, {call.target}, has_classes(form) ? 8 : element, stream);
  own(mask_, {call.mask}, 1, stream);
  own(lengths_, call.lengths, 8, stream);
  own(resets_, call.resets, 1, stream);
  for (size_t i = 0; i < call.states.size(); ++i) own(*states_[i], {call.states[i]}, element, stream);
  check(backend_, backend_.async->gather(gathers_.data(), static_cast<int64_t>(gathers_.size()), stream), "train_step");
  if (*call.keys == counted_) return;
  check(backend_, backend_.async->upload(keys(), call.keys->data(), call.keys->size() * sizeof(uint64_t), stream),
        "train_step");
}

void DeviceStep::check_values(const Form& form, Stream stream) {
  check(backend_, backend_.fill(&report()->fault, 0, sizeof(Fault), stream), "train_step");
  const auto look = [&](Checked what, const Buffer& values, int64_t count, int64_t high) {
    CheckArgs a = {};
    a.what = static_cast<int64_t>(what);
    a.count = count;
    a.values = copy_of(values.data(), count, nullptr, 8).from;
    a.high = high;
    if (what == Checked::classes) {
      if (form.loss.mask.rows > 0) a.mask = copy_of(mask_.data(), count, nullptr, 1).from;
      a.has_ignore_index = form.loss.has_ignore_index;
      a.ignore_index = form.loss.ignore_index;
    }
    a.fault = &report()->fault;
    check(backend_, backend_.async->check_values(&a, stream), "train_step");
  };
  if (chain_.embedding()) look(Checked::ids, x_, form.x.shape.count(), chain_.embedding()->rows() - 1);
  if (form.lengths) look(Checked::lengths, lengths_, rows_of(form), steps_of(form));
  if (has_classes(form)) look(Checked::classes, target_, form.loss.rows, form.loss.classes - 1);
}

void DeviceStep::compute(const Form& form, const DeviceCall& call, Stream stream) {
  check_values(form, stream);
  for (const Cleared& block : gradients_)
    check(backend_, backend_.fill(block.data, 0, block.bytes, stream), "train_step");
  const int64_t rows = chain_.recurrent().empty() ? 0 : rows_of(form);
  for (size_t i = 0; i < chain_.recurrent().size(); ++i) {
    const int64_t H = chain_.recurrent()[i]->desc().H;
    const auto initial = [&](size_t s) {
      return call.states.empty() || !call.states[s].data ? Array3{} : Array3{states_[s]->data(), rows * H, H};
    };
    chain_.recurrent()[i]->set_states(initial(2 * i), initial(2 * i + 1), finals_[2 * i]->data(),
                                      finals_[2 * i + 1]->data());
  }
  for (const auto& stage : chain_.stages())
    if (stage->preparation() > 0) check(backend_, stage->prepare(stream), "train_step");
  const Inputs inputs = {x_.data(),
                         target_.data(),
                         form.loss.mask.rows > 0 ? mask_.data() : nullptr,
                         {form.lengths ? static_cast<const int64_t*>(lengths_.data()) : nullptr,
                          form.resets ? static_cast<const uint8_t*>(resets_.data()) : nullptr}};
  chain_.forward(form, inputs, &report()->loss, &report()->fault, stream);
  chain_.backward(inputs, stream);
  update(call, stream);
  check(backend_, backend_.async->increment(keys(), static_cast<int64_t>(keys_.bytes() / sizeof(uint64_t)), stream),
        "train_step");
}

void DeviceStep::update(const DeviceCall& call, Stream stream) {
  const ClippedUpdateArgs a = {static_cast<int64_t>(updates_.size()),
                               updates_.data(),
                               call.clip < 0 ? INFINITY : call.clip,
                               call.skip,
                               call.clip >= 0 || call.skip ? &report()->norm : nullptr,
                               static_cast<double*>(partials_.data()),
                               &report()->fault};
  check(backend_, backend_.optim->clipped_update(&a, stream), "train_step");
}

void DeviceStep::give(const Form& form, const DeviceResults& results, Stream stream) {
  gathers_.clear();
  gathers_.push_back(copy_of(report(), sizeof(Report) / 8, results.report, 8));
  for (size_t i = 0; i < results.finals.size(); ++i)
    if (results.finals[i])
      gathers_.push_back(copy_of(finals_[i]->data(), states_of(form, i), results.finals[i], bytes_of(chain_.dtype())));
  check(backend_, backend_.async->gather(gathers_.data(), static_cast<int64_t>(gathers_.size()), stream), "train_step");
}

// Made when a form comes the second time: a form that comes once is not worth one.
Graph DeviceStep::graph_of(const Form& form, const DeviceCall& call) {
  if (!graphs_wanted()) return nullptr;
  const Key key = {&form, call.skip, call.clip, form.loss.ignore_index, plan_override()};
  if (graphs_.size() == kMostGraphs && graphs_.count(key) == 0) {
    for (const auto& [other, recorded] : graphs_)
      if (recorded.graph) backend_.async->graph_free(recorded.graph);
    graphs_.clear();
  }
  Recorded& recorded = graphs_[key];
  if (recorded.graph || !recorded.met) {
    recorded.met = true;
    return recorded.graph;
  }
  Stream stream = nullptr;
  check(backend_, backend_.async->capture_begin(&stream), "train_step");
  try {
    compute(form, call, stream);
  } catch (...) {
    backend_.async->capture_end(stream, nullptr);
    throw;
  }
  check(backend_, backend_.async->capture_end(stream, &recorded.graph), "train_step");
  return recorded.graph;
}

void DeviceStep::run(const Form& form, const DeviceCall& call, const DeviceResults& results, bool captured,
                     Stream stream) {
  if (captured && *call.keys != counted_)
    throw std::runtime_error(
        "train_step: dropout keys were set since the step before, which a capture cannot take over: make one step of "
        "this kind before the capture");
  if (!chain_.fits(form, 1)) fit(form);
  const Graph graph = captured ? nullptr : graph_of(form, call);
  take(form, call, stream);
  counted_ = *call.keys;
  for (uint64_t& key : counted_) ++key;
  if (graph)
    check(backend_, backend_.async->graph_launch(graph, stream), "train_step");
  else
    compute(form, call, stream);
  give(form, results, stream);
}

}  // namespace fusedrnn::training
