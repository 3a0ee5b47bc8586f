// The training step of a model in one call, in host memory.
#include <optional>

#include "bindings/arrays/checks.hpp"
#include "bindings/arrays/device_array.hpp"
#include "bindings/ops/optim.hpp"
#include "bindings/ops/sequence.hpp"
#include "bindings/training/call_shapes.hpp"
#include "bindings/training/layer_builder.hpp"
#include "isa/registry.hpp"
#include "runtime/team.hpp"
#include "runtime/wake_policy.hpp"

namespace fusedrnn {
namespace {

using namespace training;

class Step {
 public:
  Step(const py::list& layers, const std::string& loss, const py::list& tables, const py::list& gradients,
       py::handle dtype)
      : gradients_(gradient_blocks(gradients, nullptr, kept_)),
        step_(current_backend(), dtype_named(dtype),
              make_stages(current_backend(), nullptr, dtype_named(dtype), layers, kept_), gradients_),
        forms_(step_.chain(), loss, nullptr) {
    for (const py::handle entry : tables) {
      tables_.push_back(py::reinterpret_borrow<py::object>(entry));
      step_.add_update(update_of(py::cast<const Segments&>(entry), py::dict()));
    }
  }

  const char* backend() const { return step_.chain().backend().name; }

  // The options of table i from the next call on.
  void set_options(size_t i, const py::dict& scalars) {
    OptimizerArgs& update = step_.updates().at(i);
    update = update_of(py::cast<const Segments&>(tables_[i]), scalars);
  }

  // A call with such arrays has just succeeded: later ones may run here.
  void admit(py::handle x, py::handle target, py::handle mask, py::handle lengths, py::handle resets,
             const py::list& states, py::handle ignore_index) {
    bool full = false;
    Admitted* admitted = forms_.admit({x, target, mask, lengths, resets, states}, ignore_index, &full);
    if (full) step_.chain().forget_form();
    if (!admitted) return;
    py::gil_scoped_release release;
    const TeamLease lease;
    step_.fit(admitted->form, lease.size());
    admitted->flops = step_.flops();
  }

  // (loss, norm or None, whether parameters were updated, final states or None), or None for an unknown call.
  py::object run(py::handle x, py::handle target, py::handle mask, py::handle lengths, py::handle resets,
                 const py::list& states, py::handle ignore_index, const py::list& keys, const py::list& counts,
                 py::handle clip_norm, bool skip_nonfinite, bool want_states) {
    const Arrays arrays = {x, target, mask, lengths, resets, states};
    const Busy busy(busy_);
    if (!busy.mine || &current_backend() != &step_.chain().backend()) return py::none();
    Admitted* form = forms_.find(arrays, !ignore_index.is_none());
    if (!form || in_gradients(gradients_, arrays)) return py::none();
    Call call = {};
    try {
      check_values(*form, arrays, ignore_index);
      call.inputs.sequence = sequence_of(*form, arrays);
    } catch (const py::builtin_exception&) {  // the separate calls raise it too, where they come to it
      return py::none();
    }
    call.inputs.x = data_of(x);
    call.inputs.target = data_of(target);
    call.inputs.mask = data_of(mask);
    call.skip = skip_nonfinite;
    call.clip = clip_norm.is_none() ? -1 : py::cast<double>(clip_norm);
    call.measure = skip_nonfinite || !clip_norm.is_none();
    set_keys(keys);
    for (size_t i = 0; i < counts.size(); ++i) step_.updates()[i].step = py::cast<int64_t>(counts[i]);
    const py::object final = set_states(*form, states, want_states);
    Outcome outcome;
    {
      py::gil_scoped_release release;
      TeamLease lease;
      Team* team = lease.team();
      if (!lease.awake() && !worth_waking(form->flops, lease.size())) {
        lease.prewake();
        team = solo_team();
      }
      outcome = step_.run(form->form, call, team);
    }
    return py::make_tuple(outcome.loss, clip_norm.is_none() ? py::object(py::none()) : py::float_(outcome.norm),
                          outcome.updated, final);
  }

 private:
  void check_values(Admitted& a, const Arrays& arrays, py::handle ignore_index) const {
    if (const EmbeddingStage* embedding = step_.chain().embedding()) {
      a.form.x.elements.data = data_of(arrays.x);
      require_below("ids", a.form.x.elements, embedding->rows());
    }
    LossArgs& loss = a.form.loss;
    if (loss.has_ignore_index) loss.ignore_index = integer("ignore_index", ignore_index, INT64_MIN, INT64_MAX);
    loss.target.data = data_of(arrays.target);
    loss.mask.data = data_of(arrays.mask);
    require_classes(loss);
  }

  Sequence sequence_of(const Admitted& a, const Arrays& arrays) {
    Sequence sequence;
    if (a.form.lengths) {
      const auto* data = static_cast<const int64_t*>(data_of(arrays.lengths));
      require_lengths(data, a.T, a.B);
      lengths_.assign(data, data + a.B);
      sequence.lengths = lengths_.data();
    }
    if (a.form.resets) {
      copy_resets(a, data_of(arrays.resets), resets_);
      sequence.resets = resets_.data();
    }
    return sequence;
  }

  void set_keys(const py::list& keys) {
    size_t next = 0;
    for (const auto& stage : step_.chain().stages()) {
      if (!stage->has_key()) continue;
      stage->set_key(unsigned_integer("dropout_key", keys[next++]));
    }
  }

  // Initial states into the stages; final ones into fresh arrays if they are wanted, which are returned.
  py::object set_states(const Admitted& a, const py::list& states, bool wanted) {
    py::list made;
    for (size_t i = 0; i < step_.chain().recurrent().size(); ++i) {
      RecurrentStage& stage = *step_.chain().recurrent()[i];
      FinalStates final;
      if (wanted) final = fresh_finals(nullptr, stage, a.B, made);
      if (a.states.empty())
        stage.set_states({}, {}, final.h, final.c);
      else
        stage.set_states(a.states[2 * i].at(states[2 * i]), a.states[2 * i + 1].at(states[2 * i + 1]), final.h,
                         final.c);
    }
    return wanted ? py::object(made) : py::none();
  }

  std::vector<Argument> kept_;
  const std::vector<Cleared> gradients_;
  std::vector<py::object> tables_;
  TrainStep step_;
  Forms forms_;
  std::vector<int64_t> lengths_;
  std::vector<uint8_t> resets_;
  std::atomic<bool> busy_{false};
};

}  // namespace

void bind_step(py::module_& m) {
  using py::arg;
  py::class_<Step>(m, "TrainStep")
      .def(py::init<const py::list&, const std::string&, const py::list&, const py::list&, py::handle>(), arg("layers"),
           arg("loss"), arg("tables"), arg("gradients"), arg("dtype"))
      .def_property_readonly("backend", &Step::backend)
      .def("set_options", &Step::set_options, arg("table"), arg("scalars"))
      .def("admit", &Step::admit, arg("x"), arg("target"), arg("mask"), arg("lengths"), arg("resets"), arg("states"),
           arg("ignore_index"))
      .def("run", &Step::run, arg("x"), arg("target"), arg("mask"), arg("lengths"), arg("resets"), arg("states"),
           arg("ignore_index"), arg("keys"), arg("counts"), arg("clip_norm"), arg("skip_nonfinite"),
           arg("want_states"));
  bind_device_step(m);
}

}  // namespace fusedrnn
