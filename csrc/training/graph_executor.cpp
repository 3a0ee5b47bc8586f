#include "training/graph_executor.hpp"

#include <cmath>
#include <stdexcept>
#include <tuple>

#include "backend/scratch.hpp"
#include "backend/traits.hpp"
#include "device/env_flags.hpp"

namespace fusedrnn::training {
namespace {

constexpr size_t kMostGraphs = 64;  // kept at a time: more begin anew

int64_t count_of(const Strided& s) { return s.rows * s.width; }

bool has_classes(const CallShape& shape) { return has_class_targets(shape.loss.spec.kind); }

// `count` elements in a row.
Gather copy_of(const void* from, int64_t count, void* to, int64_t bytes) {
  return {{from, 1, count, 0, {}, {}}, to, bytes};
}

}  // namespace

bool GraphExecutor::Key::operator<(const Key& other) const {
  const auto all = [](const Key& k) {
    return std::tie(k.shape, k.skip, k.clip, k.value, k.plan.direction_groups, k.plan.row_groups, k.plan.unit_groups,
                    k.plan.kind);
  };
  return all(*this) < all(other);
}

GraphExecutor::GraphExecutor(const Backend& backend, DType dtype, std::vector<std::unique_ptr<Layer>> layers,
                             std::vector<Cleared> gradients, std::vector<UpdateGroup> updates)
    : Executor(backend, dtype, std::move(layers), std::move(gradients), std::move(updates)),
      x_(backend),
      target_(backend),
      mask_(backend),
      lengths_(backend),
      resets_(backend),
      report_(backend),
      keys_(backend),
      partials_(backend),
      firsts_(backend) {
  size_t keyed = 0, next = 0;
  ClippedUpdateArgs all = {};
  all.groups = static_cast<int64_t>(updates_.size());
  all.group = updates_.data();
  partials_.reserve(norm_partials(all) * sizeof(double));
  report_.reserve(sizeof(Report));
  for (const auto& layer : chain_.layers()) keyed += layer->has_key();
  keys_.reserve(keyed * sizeof(uint64_t));
  for (const auto& layer : chain_.layers())
    if (layer->has_key()) layer->set_key_at(keys() + next++);
  for (size_t i = 0; i < 2 * chain_.recurrent().size(); ++i)
    for (auto* list : {&states_, &finals_}) list->push_back(std::make_unique<Buffer>(backend));
}

GraphExecutor::~GraphExecutor() { free_graphs(); }

void GraphExecutor::free_graphs() {
  for (const auto& [key, recorded] : graphs_)
    if (recorded.graph) backend_.async->graph_free(recorded.graph);
  graphs_.clear();
}

void GraphExecutor::forget() {
  free_graphs();
  Executor::forget();
}

void GraphExecutor::set_update(size_t i, const OptimizerArgs& update) {
  Executor::set_update(i, update);
  forget();
}

bool GraphExecutor::validates_values(const CallShape& shape) const {
  return chain_.embedding() || shape.lengths || has_classes(shape);
}

// Elements of h (even i) or c of a recurrent layer; 0 where it has none.
int64_t GraphExecutor::states_of(const CallShape& shape, size_t i) const {
  const RecurrentLayer& layer = *chain_.recurrent()[i / 2];
  const bool present = i % 2 == 0 || traits(layer.desc().cell).has_cell_state;
  return present ? layer.stacks() * rows_of(shape) * layer.desc().H : 0;
}

void GraphExecutor::fit(const CallShape& shape, int32_t) {
  const uint64_t before = Buffer::growths();
  const int64_t element = bytes_of(chain_.dtype());
  const auto room = [](Buffer& kept, int64_t count, int64_t bytes) {
    kept.reserve(static_cast<size_t>(count * bytes));
  };
  room(x_, shape.x.shape.count(), chain_.embedding() ? 8 : element);
  room(target_, count_of(shape.loss.target), has_classes(shape) ? 8 : element);
  room(mask_, count_of(shape.loss.mask), 1);
  if (shape.lengths) room(lengths_, rows_of(shape), 8);
  if (validates_values(shape))
    for (const int64_t count : {shape.x.shape.count(), rows_of(shape), shape.loss.rows})
      firsts_.reserve(check_firsts(count) * sizeof(int64_t));
  if (shape.resets) room(resets_, shape.x.shape.size[0] * shape.x.shape.size[1], 1);
  for (size_t i = 0; i < finals_.size(); ++i) {
    room(*states_[i], states_of(shape, i), element);
    room(*finals_[i], states_of(shape, i), element);
  }
  chain_.fit(shape, 1);
  if (Buffer::growths() == before) return;
  for (auto& [key, recorded] : graphs_)
    if (recorded.graph) {
      backend_.async->graph_free(recorded.graph);
      recorded.graph = nullptr;
    }
}

void GraphExecutor::copy_in(Buffer& kept, const Source& from, int64_t bytes, Stream stream) {
  if (!from.elements.data) return;
  const size_t all = static_cast<size_t>(count_of(from.elements) * bytes);
  if (from.host)
    check(backend_, backend_.async->upload(kept.data(), from.elements.data, all, stream), "train_step");
  else
    gathers_.push_back({from.elements, kept.data(), bytes});
}

// A call's arguments, and the dropout keys where they are not those that the device has counted up itself.
void GraphExecutor::load_inputs(const CallShape& shape, const Call& call, Stream stream) {
  const int64_t element = bytes_of(chain_.dtype());
  gathers_.clear();
  copy_in(x_, {call.x}, chain_.embedding() ? 8 : element, stream);
  copy_in(target_, {call.target}, has_classes(shape) ? 8 : element, stream);
  copy_in(mask_, {call.mask}, 1, stream);
  copy_in(lengths_, call.lengths, 8, stream);
  copy_in(resets_, call.resets, 1, stream);
  for (size_t i = 0; i < call.states.size(); ++i) {
    const RecurrentLayer& layer = *chain_.recurrent()[i / 2];
    const int64_t stacks = layer.stacks(), B = rows_of(shape), H = layer.desc().H;
    const Array3& state = call.states[i];
    copy_in(*states_[i], {{state.data, stacks * B, H, 2, {stacks, B}, {state.stride0, state.stride1}}}, element,
            stream);
  }
  check(backend_, backend_.async->gather(gathers_.data(), static_cast<int64_t>(gathers_.size()), stream), "train_step");
  if (call.keys == counted_) return;
  check(backend_, backend_.async->upload(keys(), call.keys.data(), call.keys.size() * sizeof(uint64_t), stream),
        "train_step");
}

void GraphExecutor::check_values(const CallShape& shape, Stream stream) {
  check(backend_, backend_.fill(&report()->fault, 0, sizeof(Fault), stream), "train_step");
  const auto look = [&](Checked what, const Buffer& values, int64_t count, int64_t high) {
    CheckArgs a = {};
    a.what = static_cast<int64_t>(what);
    a.count = count;
    a.values = copy_of(values.data(), count, nullptr, 8).from;
    a.high = high;
    if (what == Checked::classes) {
      if (shape.loss.mask.rows > 0) a.mask = copy_of(mask_.data(), count, nullptr, 1).from;
      a.has_ignore_index = shape.loss.spec.has_ignore_index;
      a.ignore_index = shape.loss.spec.ignore_index;
    }
    a.firsts = static_cast<int64_t*>(firsts_.data());
    a.fault = &report()->fault;
    check(backend_, backend_.async->check_values(&a, stream), "train_step");
  };
  if (chain_.embedding()) look(Checked::ids, x_, shape.x.shape.count(), chain_.embedding()->rows() - 1);
  if (shape.lengths) look(Checked::lengths, lengths_, rows_of(shape), steps_of(shape));
  if (has_classes(shape)) look(Checked::classes, target_, shape.loss.rows, shape.loss.classes - 1);
}

void GraphExecutor::compute(const CallShape& shape, const Call& call, Stream stream) {
  check_values(shape, stream);
  for (const Cleared& block : gradients_)
    check(backend_, backend_.fill(block.data, 0, block.bytes, stream), "train_step");
  const int64_t rows = chain_.recurrent().empty() ? 0 : rows_of(shape);
  for (size_t i = 0; i < chain_.recurrent().size(); ++i) {
    const int64_t H = chain_.recurrent()[i]->desc().H;
    const auto initial = [&](size_t s) {
      return call.states.empty() || !call.states[s].data ? Array3{} : Array3{states_[s]->data(), rows * H, H};
    };
    chain_.recurrent()[i]->set_states(initial(2 * i), initial(2 * i + 1), finals_[2 * i]->data(),
                                      finals_[2 * i + 1]->data());
  }
  for (const auto& layer : chain_.layers())
    if (layer->preparation() > 0) check(backend_, layer->prepare(stream), "train_step");
  const Inputs inputs = {x_.data(),
                         target_.data(),
                         shape.loss.mask.rows > 0 ? mask_.data() : nullptr,
                         {shape.lengths ? static_cast<const int64_t*>(lengths_.data()) : nullptr,
                          shape.resets ? static_cast<const uint8_t*>(resets_.data()) : nullptr}};
  chain_.forward(shape, inputs, &report()->loss, &report()->fault, stream);
  chain_.backward(inputs, stream);
  clamp(call, stream);
  update(call, stream);
  check(backend_, backend_.async->increment(keys(), static_cast<int64_t>(keys_.bytes() / sizeof(uint64_t)), stream),
        "train_step");
}

void GraphExecutor::update(const Call& call, Stream stream) {
  const ClippedUpdateArgs a = {static_cast<int64_t>(updates_.size()),
                               updates_.data(),
                               call.clip < 0 ? INFINITY : call.clip,
                               call.skip,
                               call.measures() ? &report()->norm : nullptr,
                               static_cast<double*>(partials_.data()),
                               &report()->fault};
  check(backend_, backend_.optim->clipped_update(&a, stream), "train_step");
}

void GraphExecutor::store_results(const CallShape& shape, const Results& results, Stream stream) {
  gathers_.clear();
  gathers_.push_back(copy_of(report(), sizeof(Report) / 8, results.report, 8));
  for (size_t i = 0; i < results.finals.size(); ++i)
    if (results.finals[i])
      gathers_.push_back(copy_of(finals_[i]->data(), states_of(shape, i), results.finals[i], bytes_of(chain_.dtype())));
  check(backend_, backend_.async->gather(gathers_.data(), static_cast<int64_t>(gathers_.size()), stream), "train_step");
}

// Made when a shape comes the second time: one that comes once is not worth a graph. Where none can be made, kernels
// are launched one by one from then on; the plugin says so (describe).
Graph GraphExecutor::graph_of(const CallShape& shape, const Call& call) {
  if (!graphs_wanted()) return nullptr;
  const Key key = {&shape, call.skip, call.clip, call.value, plan_override()};
  if (graphs_.size() == kMostGraphs && graphs_.count(key) == 0) free_graphs();
  Recorded& recorded = graphs_[key];
  if (recorded.graph || recorded.refused || !recorded.seen_once) {
    recorded.seen_once = true;
    return recorded.graph;
  }
  Stream stream = nullptr;
  recorded.refused = backend_.async->capture_begin(&stream) != Status::ok;
  if (recorded.refused) return nullptr;
  try {
    compute(shape, call, stream);
  } catch (...) {
    backend_.async->capture_end(stream, nullptr);
    throw;
  }
  recorded.refused = backend_.async->capture_end(stream, &recorded.graph) != Status::ok;
  return recorded.graph;
}

void GraphExecutor::run(const CallShape& shape, const Call& call, const Results& results, Stream stream) {
  if (call.captured && call.keys != counted_)
    throw std::runtime_error(
        "train_step: dropout keys were set since the step before, which a capture cannot take over: make one step of "
        "this kind before the capture");
  if (!chain_.fits(shape, 1)) fit(shape, 1);
  const Graph graph = call.captured ? nullptr : graph_of(shape, call);
  load_inputs(shape, call, stream);
  counted_ = call.keys;
  for (uint64_t& key : counted_) ++key;
  if (graph)
    check(backend_, backend_.async->graph_launch(graph, stream), "train_step");
  else
    compute(shape, call, stream);
  store_results(shape, results, stream);
}

}  // namespace fusedrnn::training
