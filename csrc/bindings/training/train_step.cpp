// The training step of a model in one call: of arrays in host memory, whose results are there on return, or of a
// device's, where it waits for nothing: only reading its loss does.
#include <atomic>
#include <cmath>
#include <memory>
#include <set>

#include "bindings/arrays/checks.hpp"
#include "bindings/arrays/device_array.hpp"
#include "bindings/ops/optim.hpp"
#include "bindings/ops/sequence.hpp"
#include "bindings/training/call_shapes.hpp"
#include "bindings/training/layer_builder.hpp"
#include "bindings/training/step_loss.hpp"
#include "isa/registry.hpp"
#include "runtime/error.hpp"
#include "runtime/team.hpp"
#include "runtime/wake_policy.hpp"
#include "training/graph_executor.hpp"
#include "training/host_executor.hpp"

namespace fusedrnn {
namespace {

using namespace training;

// Two calls of a step at once would share buffers: the second one is not for it.
struct Busy {
  explicit Busy(std::atomic<bool>& flag) : flag(flag), mine(!flag.exchange(true, std::memory_order_acquire)) {}
  ~Busy() {
    if (mine) flag.store(false, std::memory_order_release);
  }
  std::atomic<bool>& flag;
  const bool mine;
};

constexpr int64_t kReportWords = sizeof(Report) / sizeof(double);

class TrainStep : public std::enable_shared_from_this<TrainStep> {
 public:
  // counters: None for arrays in host memory; on a device for each table the arrays of its learning rate and of its
  // steps, see backend/optim.hpp's UpdateGroup.
  TrainStep(const py::list& layers, const py::list& tables, const py::list& gradients, py::handle dtype,
            py::handle counters)
      : device_(counters.is_none() ? nullptr : &device_backend()),
        gradients_(gradient_blocks(gradients, device_, kept_)),
        executor_(make_executor(dtype_named(dtype), layers, groups(tables, counters))),
        shapes_(executor_->chain(), device_) {}

  // Whether the stream's graph, a caller's, has it: it is that graph's alone then, which may run at any time.
  bool captured() const { return captured_; }

  // Whether later calls may run here: not where another backend of the host was chosen, or once it is captured.
  bool usable() const { return !captured_ && (device_ != nullptr || &current_backend() == &chain().backend()); }

  // The options of table i from the next call on.
  void set_options(size_t i, const py::dict& scalars) {
    executor_->set_update(i, update_of(py::cast<const Segments&>(tables_.at(i)), scalars));
  }

  // A call with such arrays has just succeeded: later ones may run here.
  void register_shape(const py::tuple& given) {
    bool full = false;
    Entry* entry = shapes_.register_shape(Arrays(given), &full);
    if (full) executor_->forget();
    if (!entry) return;
    if (device_ != nullptr) {
      executor_->fit(entry->shape, 1);
      return;
    }
    py::gil_scoped_release release;
    const TeamLease lease;
    executor_->fit(entry->shape, lease.size());
    entry->flops = executor_->flops();
  }

  // (loss, norm or None, whether parameters were updated, final states or None), or None for an unknown call. On a
  // device whether it skips the update may not be known yet: None.
  py::object run(const py::tuple& given, const py::list& keys, const py::list& counts, py::handle clip_norm,
                 bool skip_nonfinite, bool want_states) {
    const Arrays arrays(given);
    const Busy busy(busy_);
    if (!busy.mine || !usable()) return py::none();
    Entry* entry = shapes_.find(arrays);
    if (!entry || in_gradients(gradients_, arrays)) return py::none();
    try {
      if (device_ == nullptr) check_values(*entry, arrays);
      call_.steps.clear();
      for (const py::handle count : counts) call_.steps.push_back(integer("step", count, 1, INT64_MAX));
    } catch (const py::builtin_exception&) {  // the separate calls raise it too, where they come to it
      return py::none();
    }
    load_call(*entry, arrays);
    call_.keys.clear();
    for (const py::handle key : keys) call_.keys.push_back(unsigned_integer("dropout_key", key));
    call_.clip = clip_norm.is_none() ? -1 : py::cast<double>(clip_norm);
    call_.skip = skip_nonfinite;
    py::list finals;
    results_.finals.clear();
    if (want_states)
      for (const RecurrentLayer* layer : chain().recurrent()) {
        const FinalStates final = fresh_finals(device_, *layer, entry->B, finals);
        results_.finals.insert(results_.finals.end(), {final.h, final.c});
      }
    const bool with_norm = !clip_norm.is_none();
    const py::tuple numbers =
        device_ == nullptr ? run_on_host(*entry, with_norm) : run_on_device(*entry, arrays, with_norm);
    return py::make_tuple(numbers[0], numbers[1], numbers[2], want_states ? py::object(finals) : py::none());
  }

 private:
  const LayerChain& chain() const { return executor_->chain(); }

  std::unique_ptr<Executor> make_executor(DType dtype, const py::list& layers, std::vector<UpdateGroup> updates) {
    const Backend& backend = backend_of(device_);
    std::vector<std::unique_ptr<Layer>> made = make_layers(backend, device_, dtype, layers, kept_);
    if (device_ == nullptr)
      return std::make_unique<HostExecutor>(backend, dtype, std::move(made), gradients_, std::move(updates));
    return std::make_unique<GraphExecutor>(backend, dtype, std::move(made), gradients_, std::move(updates));
  }

  std::vector<UpdateGroup> groups(const py::list& tables, py::handle counters) {
    std::vector<UpdateGroup> groups;
    for (size_t i = 0; i < tables.size(); ++i) {
      tables_.push_back(py::reinterpret_borrow<py::object>(tables[i]));
      groups.push_back({update_of(py::cast<const Segments&>(tables[i])), nullptr, nullptr});
      if (device_ == nullptr) continue;
      const py::tuple pair = py::cast<py::tuple>(py::reinterpret_borrow<py::list>(counters)[i]);
      kept_.push_back(input("lr", pair[0], Element::float64, {{"1", 1}}, device_));
      groups.back().lr = kept_.back().as<double>();
      kept_.push_back(output("steps", pair[1], Element::int64, {{"2", 2}}, device_));
      groups.back().steps = kept_.back().as<int64_t>();
    }
    return groups;
  }

  // --------------------------------------------------------------------------------------------- arguments of a call
  // Where the arguments of a call are, of the shapes and strides that its entry has.
  void load_call(const Entry& a, const Arrays& arrays) {
    call_.x = pointing(a.x, arrays.x);
    call_.target = pointing(a.target, arrays.target);
    call_.mask = pointing(a.mask, arrays.mask);
    call_.lengths = source(arrays.lengths, {nullptr, 1, a.B, 0, {}, {}});
    if (a.shape.lengths && device_ == nullptr) {
      const auto* data = static_cast<const int64_t*>(data_of(arrays.lengths));
      lengths_.assign(data, data + a.B);
      call_.lengths.elements.data = lengths_.data();
    }
    if (a.shape.resets && !as_device_array(arrays.resets)) {
      copy_resets(a, data_of(arrays.resets), resets_);
      call_.resets = {{resets_.data(), 1, a.T * a.B, 0, {}, {}}, true};
    } else {
      call_.resets =
          source(arrays.resets, {nullptr, a.T * a.B, 1, 2, {a.T, a.B}, {a.reset_strides[0], a.reset_strides[1]}});
    }
    call_.states.clear();
    for (size_t i = 0; i < a.states.size(); ++i) call_.states.push_back(a.states[i].at(arrays.states[i]));
  }

  static Strided pointing(Strided elements, py::handle array) {
    elements.data = data_of(array);
    return elements;
  }
  static Source source(py::handle array, const Strided& elements) {
    return {pointing(elements, array), as_device_array(array) == nullptr};
  }

  // -------------------------------------------------------------------------------------------------- in host memory
  void check_values(Entry& a, const Arrays& arrays) const {
    if (const EmbeddingLayer* embedding = chain().embedding())
      require_below("ids", pointing(a.x, arrays.x), embedding->rows());
    LossArgs& loss = a.shape.loss;
    loss.target.data = data_of(arrays.target);
    loss.mask.data = data_of(arrays.mask);
    require_classes(loss);
    if (a.shape.lengths) require_lengths(static_cast<const int64_t*>(data_of(arrays.lengths)), a.T, a.B);
  }

  py::tuple run_on_host(const Entry& entry, bool with_norm) {
    Report report = {};
    results_.report = &report;
    {
      py::gil_scoped_release release;
      TeamLease lease;
      Team* team = lease.team();
      if (!lease.awake() && !worth_waking(entry.flops, lease.size())) {
        lease.prewake();
        team = solo_team();
      }
      executor_->run(entry.shape, call_, results_, team);
    }
    const bool updated = !call_.skip || std::isfinite(report.norm);
    return py::make_tuple(report.loss, with_norm ? py::object(py::float_(report.norm)) : py::none(), updated);
  }

  // ----------------------------------------------------------------------------------------------------- on a device
  py::tuple run_on_device(const Entry& entry, const Arrays& arrays, bool with_norm) {
    use(arrays);
    if (entry.weights) entry.weights->on(device_);
    const DeviceArray report(*device_, Element::float64, {kReportWords}, "loss");
    results_.report = static_cast<Report*>(report.data());
    {
      py::gil_scoped_release release;
      CallStream on(device_);
      call_.captured = stream_is_captured(*device_);
      const std::shared_ptr<Block> held = call_.captured ? for_a_graph() : nullptr;
      executor_->run(entry.shape, call_, results_, on.stream());
      captured_ = captured_ || call_.captured;
      on.finish();
    }
    const Limits limits = {chain().embedding() ? chain().embedding()->rows() : 0, entry.T, entry.shape.loss.classes};
    const bool may_skip = call_.skip || executor_->validates_values(entry.shape);
    return py::make_tuple(StepLoss(report, limits),
                          with_norm ? py::cast(report.piece(1, {}, true)) : py::object(py::none()),
                          may_skip ? py::object(py::none()) : py::bool_(true));
  }

  // A use of this object by the call under way: a graph that the call is captured into keeps the step and its memory.
  std::shared_ptr<Block> for_a_graph() {
    const std::shared_ptr<void> keeper(new std::shared_ptr<TrainStep>(shared_from_this()), [](void* p) {
      const py::gil_scoped_acquire acquire;
      delete static_cast<std::shared_ptr<TrainStep>*>(p);
    });
    std::shared_ptr<Block> block = Block::adopt(*device_, this, keeper);
    block->use(Access::write);
    return block;
  }

  // What a step reads and writes, its own memory aside: that is used by steps alone, each behind the one before as they
  // write to the same parameters.
  void use(const Arrays& arrays) {
    for (const py::object& table : tables_) py::cast<const Segments&>(table).use();
    if (blocks_.empty())
      for (const Argument& argument : kept_) blocks_.insert(argument.block());
    for (const std::shared_ptr<Block>& block : blocks_)
      if (block != nullptr) block->use(Access::write);
    const auto read = [](py::handle array) {
      if (const DeviceArray* there = as_device_array(array)) there->block()->use(Access::read);
    };
    for (const py::handle array : {arrays.x, arrays.target, arrays.mask, arrays.lengths, arrays.resets}) read(array);
    for (const py::handle state : arrays.states) read(state);
  }

  const Backend* const device_;  // nullptr for arrays in host memory
  std::vector<Argument> kept_;
  std::set<std::shared_ptr<Block>> blocks_;  // what they lie in
  std::vector<py::object> tables_;
  const std::vector<Cleared> gradients_;
  const std::unique_ptr<Executor> executor_;
  CallShapeCache shapes_;
  Call call_;
  Results results_;
  std::vector<int64_t> lengths_;
  std::vector<uint8_t> resets_;
  std::atomic<bool> busy_{false};
  bool captured_ = false;
};

}  // namespace

void bind_step(py::module_& m) {
  using py::arg;
  m.def("capturing", [] { return stream_is_captured(device_backend()); });
  py::class_<StepLoss, DeviceArray>(m, "StepLoss")
      .def("__float__", &StepLoss::value)
      .def("numpy", [](const StepLoss& loss) { return py::array(py::cast(loss.value())); });
  py::class_<TrainStep, std::shared_ptr<TrainStep>>(m, "TrainStep")
      .def(py::init<const py::list&, const py::list&, const py::list&, py::handle, py::handle>(), arg("layers"),
           arg("tables"), arg("gradients"), arg("dtype"), arg("counters"))
      .def_property_readonly("captured", &TrainStep::captured)
      .def_property_readonly("usable", &TrainStep::usable)
      .def("set_options", &TrainStep::set_options, arg("table"), arg("scalars"))
      .def("register_shape", &TrainStep::register_shape, arg("given"))
      .def("run", &TrainStep::run, arg("given"), arg("keys"), arg("counts"), arg("clip_norm"), arg("skip_nonfinite"),
           arg("want_states"));
}

}  // namespace fusedrnn
