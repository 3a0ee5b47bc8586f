// The training step of a model on a device: nobody waits for it but who asks for its loss.
#include "training/graph_executor.hpp"

#include <set>

#include "bindings/arrays/checks.hpp"
#include "bindings/arrays/device_array.hpp"
#include "bindings/ops/optim.hpp"
#include "bindings/ops/sequence.hpp"
#include "bindings/training/call_shapes.hpp"
#include "bindings/training/layer_builder.hpp"
#include "runtime/error.hpp"

namespace fusedrnn {
namespace {

using namespace training;

// What values were to be, of a form.
struct Limits {
  int64_t ids, T, classes;

  void require(const Fault& fault) const {
    switch (static_cast<Checked>(fault.what)) {
      case Checked::ids:
        bad_element("ids", ids, fault);
      case Checked::lengths:
        bad_length(T, fault);
      case Checked::classes:
        bad_class(classes, fault);
    }
  }
};

// The loss of a step, which can be NaN because a value was not what it must be.
class StepLoss : public DeviceArray {
 public:
  StepLoss(const DeviceArray& report, const Limits& limits)
      : DeviceArray(report.piece(0, {}, true)), report_(report), limits_(limits) {}

  // Waits for the step. ValueError, the same that the separate calls raise, where it found a wrong value.
  double value() const {
    const py::array found = report_.numpy();
    const auto* report = static_cast<const Report*>(found.data());
    limits_.require(report->fault);
    return report->loss;
  }

 private:
  DeviceArray report_;
  Limits limits_;
};

constexpr int64_t kReportWords = sizeof(Report) / sizeof(double);

class DeviceTrainStep : public std::enable_shared_from_this<DeviceTrainStep> {
 public:
  // counters: for each table the arrays of its learning rate and of its steps, see backend.hpp's UpdateGroup.
  DeviceTrainStep(const py::list& layers, const std::string& loss, const py::list& tables, const py::list& counters,
                  const py::list& gradients, py::handle dtype)
      : device_(device_backend()),
        gradients_(gradient_blocks(gradients, &device_, kept_)),
        step_(device_, dtype_named(dtype), make_stages(device_, &device_, dtype_named(dtype), layers, kept_),
              gradients_, groups(tables, counters)),
        forms_(step_.chain(), loss, &device_) {}

  // Whether a caller's graph has it: that graph's alone it is then, which may run at any time.
  bool captured() const { return captured_; }

  // The options of table i from the next call on.
  void set_options(size_t i, const py::dict& scalars) {
    step_.update(i).update = update_of(py::cast<const Segments&>(tables_[i]), scalars);
    step_.forget();
  }

  // A call with such arrays has just succeeded: later ones may run here.
  void admit(py::handle x, py::handle target, py::handle mask, py::handle lengths, py::handle resets,
             const py::list& states, py::handle ignore_index) {
    bool full = false;
    const Arrays arrays = {x, target, mask, lengths, resets, states};
    Admitted* admitted = forms_.admit(arrays, ignore_index, &full);
    if (full) step_.forget();
    if (admitted) step_.fit(admitted->form);
  }

  // (loss, norm or None, whether the device may have skipped the update, final states or None), or None for an unknown
  // call.
  py::object run(py::handle x, py::handle target, py::handle mask, py::handle lengths, py::handle resets,
                 const py::list& states, py::handle ignore_index, const py::list& keys, py::handle clip_norm,
                 bool skip_nonfinite, bool want_states) {
    const Arrays arrays = {x, target, mask, lengths, resets, states};
    const Busy busy(busy_);
    if (!busy.mine) return py::none();
    Admitted* form = forms_.find(arrays, !ignore_index.is_none());
    if (!form || in_gradients(gradients_, arrays)) return py::none();
    DeviceCall call = call_of(*form, arrays);
    try {
      if (form->form.loss.has_ignore_index)
        form->form.loss.ignore_index = integer("ignore_index", ignore_index, INT64_MIN, INT64_MAX);
    } catch (const py::builtin_exception&) {  // the separate calls raise it too, where they come to it
      return py::none();
    }
    keys_.clear();
    for (const py::handle key : keys) keys_.push_back(unsigned_integer("dropout_key", key));
    call.keys = &keys_;
    call.skip = skip_nonfinite;
    call.clip = clip_norm.is_none() ? -1 : py::cast<double>(clip_norm);
    use(arrays);
    const DeviceArray report(device_, Element::float64, {kReportWords}, "loss");
    DeviceResults results = {static_cast<Report*>(report.data()), {}};
    py::list finals;
    if (want_states)
      for (const RecurrentStage* stage : step_.chain().recurrent()) {
        const FinalStates final = fresh_finals(&device_, *stage, form->B, finals);
        results.finals.insert(results.finals.end(), {final.h, final.c});
      }
    {
      py::gil_scoped_release release;
      CallStream on(&device_);
      const bool captured = stream_is_captured(device_);
      const std::shared_ptr<Block> held = captured ? for_a_graph() : nullptr;
      step_.run(form->form, call, results, captured, on.stream());
      captured_ = captured_ || captured;
      on.finish();
    }
    const Limits limits = {step_.chain().embedding() ? step_.chain().embedding()->rows() : 0, form->T,
                           form->form.loss.classes};
    return py::make_tuple(StepLoss(report, limits),
                          clip_norm.is_none() ? py::object(py::none()) : py::cast(report.piece(1, {}, true)),
                          skip_nonfinite || step_.looks(form->form), want_states ? py::object(finals) : py::none());
  }

 private:
  std::vector<UpdateGroup> groups(const py::list& tables, const py::list& counters) {
    std::vector<UpdateGroup> groups;
    for (size_t i = 0; i < tables.size(); ++i) {
      tables_.push_back(py::reinterpret_borrow<py::object>(tables[i]));
      const py::tuple pair = py::cast<py::tuple>(counters[i]);
      kept_.push_back(input("lr", pair[0], Element::float64, {{"1", 1}}, &device_));
      const double* lr = kept_.back().as<double>();
      kept_.push_back(output("steps", pair[1], Element::int64, {{"2", 2}}, &device_));
      groups.push_back({update_of(py::cast<const Segments&>(tables[i]), py::dict()), lr, kept_.back().as<int64_t>()});
    }
    return groups;
  }

  // A use of this object by the call under way: a graph that the call is captured into keeps the step and its memory.
  std::shared_ptr<Block> for_a_graph() {
    const std::shared_ptr<void> keeper(new std::shared_ptr<DeviceTrainStep>(shared_from_this()), [](void* p) {
      const py::gil_scoped_acquire acquire;
      delete static_cast<std::shared_ptr<DeviceTrainStep>*>(p);
    });
    std::shared_ptr<Block> block = Block::adopt(device_, this, keeper);
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

  // Where the arguments of a call are, of the shapes and strides that its form has.
  DeviceCall call_of(const Admitted& a, const Arrays& arrays) {
    DeviceCall call = {};
    call.x = pointing(a.x, arrays.x);
    call.target = pointing(a.target, arrays.target);
    call.mask = pointing(a.mask, arrays.mask);
    call.lengths = source(arrays.lengths, {nullptr, 1, a.B, 0, {}, {}});
    if (a.form.resets && !as_device_array(arrays.resets)) {
      copy_resets(a, data_of(arrays.resets), resets_);
      call.resets = {{resets_.data(), 1, a.T * a.B, 0, {}, {}}, true};
    } else {
      call.resets =
          source(arrays.resets, {nullptr, a.T * a.B, 1, 2, {a.T, a.B}, {a.reset_strides[0], a.reset_strides[1]}});
    }
    for (size_t i = 0; i < a.states.size(); ++i) {
      const RecurrentStage& stage = *step_.chain().recurrent()[i / 2];
      const int64_t stacks = stage.stacks(), H = stage.desc().H;
      call.states.push_back(pointing(
          {nullptr, stacks * a.B, H, 2, {stacks, a.B}, {a.states[i].stride0, a.states[i].stride1}}, arrays.states[i]));
    }
    return call;
  }

  static Strided pointing(Strided elements, py::handle array) {
    elements.data = data_of(array);
    return elements;
  }
  static Source source(py::handle array, const Strided& elements) {
    return {pointing(elements, array), as_device_array(array) == nullptr};
  }

  const Backend& device_;
  std::vector<Argument> kept_;
  std::set<std::shared_ptr<Block>> blocks_;  // what they lie in
  std::vector<py::object> tables_;
  const std::vector<Cleared> gradients_;
  DeviceStep step_;
  Forms forms_;
  std::vector<uint64_t> keys_;
  std::vector<uint8_t> resets_;
  std::atomic<bool> busy_{false};
  bool captured_ = false;
};

}  // namespace

void bind_device_step(py::module_& m) {
  using py::arg;
  m.def("capturing", [] { return stream_is_captured(device_backend()); });
  py::class_<StepLoss, DeviceArray>(m, "StepLoss")
      .def("__float__", &StepLoss::value)
      .def("numpy", [](const StepLoss& loss) { return py::array(py::cast(loss.value())); });
  py::class_<DeviceTrainStep, std::shared_ptr<DeviceTrainStep>>(m, "DeviceTrainStep")
      .def(py::init<const py::list&, const std::string&, const py::list&, const py::list&, const py::list&,
                    py::handle>(),
           arg("layers"), arg("loss"), arg("tables"), arg("counters"), arg("gradients"), arg("dtype"))
      .def_property_readonly("captured", &DeviceTrainStep::captured)
      .def("set_options", &DeviceTrainStep::set_options, arg("table"), arg("scalars"))
      .def("admit", &DeviceTrainStep::admit, arg("x"), arg("target"), arg("mask"), arg("lengths"), arg("resets"),
           arg("states"), arg("ignore_index"))
      .def("run", &DeviceTrainStep::run, arg("x"), arg("target"), arg("mask"), arg("lengths"), arg("resets"),
           arg("states"), arg("ignore_index"), arg("keys"), arg("clip_norm"), arg("skip_nonfinite"),
           arg("want_states"));
}

}  // namespace fusedrnn
