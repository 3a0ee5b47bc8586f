// The training step of a model in one call. Calls whose arrays look like those of an earlier, admitted one run without
// further checks of types, shapes and strides; of any other this says nothing, and Python makes the separate calls,
// which know what is wrong with it.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <optional>
#include <string>

#include "bindings/checks.hpp"
#include "bindings/losses.hpp"
#include "bindings/optim.hpp"
#include "bindings/sequence.hpp"
#include "bindings/signature.hpp"
#include "bindings/stages.hpp"
#include "dispatch/registry.hpp"
#include "dispatch/wake.hpp"
#include "runtime/team.hpp"
#include "step/layers.hpp"
#include "step/recurrent.hpp"
#include "step/train_step.hpp"

namespace fusedrnn {
namespace {

using namespace step;

constexpr size_t kMostForms = 256;  // admitted at a time: more shapes than that begin anew

// An initial state as its array has it; data is the call's.
struct StateForm {
  bool present = false;
  int64_t stride0 = 0, stride1 = 0;

  Array3 at(py::handle array) const {
    if (!present) return {};
    return {const_cast<void*>(py::reinterpret_borrow<py::array>(array).data()), stride0, stride1};
  }
};

struct Admitted {
  Form form;
  double flops = 0;
  int64_t T = 0, B = 0;
  int64_t reset_strides[2] = {};  // of t and b
  std::vector<StateForm> states;  // h0 and c0 of every recurrent stage
};

const void* data_of(py::handle array) {
  return array.is_none() ? nullptr : py::reinterpret_borrow<py::array>(array).data();
}

// The arrays of a call, None where absent.
struct Arrays {
  py::handle x, target, mask, lengths, resets;
  const py::list& states;
};

class Step {
 public:
  Step(const py::list& layers, const std::string& loss, const py::list& tables, const py::list& gradients,
       py::handle dtype)
      : loss_(loss), step_(make(layers, gradients, dtype)) {
    for (const py::handle entry : tables) {
      tables_.push_back(py::reinterpret_borrow<py::object>(entry));
      step_->add_update(update_of(py::cast<const Segments&>(entry), py::dict()));
    }
    for (const auto& stage : step_->stages())
      if (auto* recurrent = dynamic_cast<RecurrentStage*>(stage.get())) recurrent_.push_back(recurrent);
    embedding_ = dynamic_cast<EmbeddingStage*>(step_->stages().front().get());
  }

  const char* backend() const { return step_->backend().name; }

  // The options of table i from the next call on.
  void set_options(size_t i, const py::dict& scalars) {
    OptimizerArgs& update = step_->updates().at(i);
    update = update_of(py::cast<const Segments&>(tables_[i]), scalars);
  }

  // A call with such arrays has just succeeded: later ones may run here. Not for arrays without elements, which layers
  // treat in ways of their own, or of very many axes.
  void admit(py::handle x, py::handle target, py::handle mask, py::handle lengths, py::handle resets,
             const py::list& states, py::handle ignore_index) {
    Signature signature;
    const Arrays arrays = {x, target, mask, lengths, resets, states};
    if (!describe(arrays, !ignore_index.is_none(), signature)) return;
    const Argument input_x = input("x", x, embedding_ ? Element::int64 : element_of(step_->dtype()), {{"..."}});
    if (input_x.rank() < 1 || input_x.rank() >= kMaxRank || input_x.count() == 0) return;
    if (forms_.size() == kMostForms) {
      forms_.clear();
      current_ = nullptr;
      step_->forget_form();
    }
    const auto found = forms_.emplace(std::move(signature), admitted(arrays, input_x, ignore_index)).first;
    current_ = &*found;
    py::gil_scoped_release release;
    const TeamLease lease;
    step_->fit(found->second.form, lease.size());
    found->second.flops = step_->flops();
  }

  // (loss, norm or None, whether parameters were updated, final states or None), or None for an unknown call.
  py::object run(py::handle x, py::handle target, py::handle mask, py::handle lengths, py::handle resets,
                 const py::list& states, py::handle ignore_index, const py::list& keys, const py::list& counts,
                 py::handle clip_norm, bool skip_nonfinite, bool want_states) {
    const Arrays arrays = {x, target, mask, lengths, resets, states};
    const Busy busy(busy_);
    if (!busy.mine || &current_backend() != &step_->backend() || !find(arrays, !ignore_index.is_none()))
      return py::none();
    if (std::any_of(states.begin(), states.end(), [&](py::handle state) { return in_gradients(state); }) ||
        in_gradients(x) || in_gradients(target) || in_gradients(mask))
      return py::none();
    Admitted& form = current_->second;
    Call call = {};
    try {
      check_values(form, arrays, ignore_index);
      call.sequence = sequence_of(form, arrays);
    } catch (const py::builtin_exception&) {  // the separate calls raise it too, where they come to it
      return py::none();
    }
    call.x = data_of(x);
    call.target = data_of(target);
    call.mask = data_of(mask);
    call.skip = skip_nonfinite;
    call.clip = clip_norm.is_none() ? -1 : py::cast<double>(clip_norm);
    call.measure = skip_nonfinite || !clip_norm.is_none();
    set_keys(keys);
    for (size_t i = 0; i < counts.size(); ++i) step_->updates()[i].step = py::cast<int64_t>(counts[i]);
    const py::object final = set_states(form, states, want_states);
    Outcome outcome;
    {
      py::gil_scoped_release release;
      TeamLease lease;
      Team* team = lease.team();
      if (!lease.awake() && !worth_waking(form.flops, lease.size())) {
        lease.rouse();
        team = solo_team();
      }
      outcome = step_->run(form.form, call, team);
    }
    return py::make_tuple(outcome.loss, clip_norm.is_none() ? py::object(py::none()) : py::float_(outcome.norm),
                          outcome.updated, final);
  }

 private:
  // Two calls at once would share buffers: the second one is not for this object.
  struct Busy {
    explicit Busy(std::atomic<bool>& flag) : flag(flag), mine(!flag.exchange(true, std::memory_order_acquire)) {}
    ~Busy() {
      if (mine) flag.store(false, std::memory_order_release);
    }
    std::atomic<bool>& flag;
    const bool mine;
  };

  std::unique_ptr<TrainStep> make(const py::list& layers, const py::list& gradients, py::handle dtype_object) {
    const DType dtype = py::cast<std::string>(py::str(dtype_object)) == "float32" ? DType::float32 : DType::float64;
    const Backend& backend = current_backend();
    std::vector<std::unique_ptr<Stage>> stages;
    for (const py::handle layer : layers)
      stages.push_back(make_stage(backend, dtype, py::cast<py::tuple>(layer), kept_));
    if (stages.empty()) bad_value("layers", "at least one", "none");
    std::vector<TrainStep::Block> blocks;
    for (const py::handle value : gradients) {
      const Argument grad = output("grad", value, any_float, {{"..."}});
      blocks.push_back({grad.data(), static_cast<size_t>(grad.count() * bytes_of(grad.element()))});
      kept_.push_back(grad);
    }
    gradients_ = blocks;
    return std::make_unique<TrainStep>(backend, dtype, std::move(stages), std::move(blocks));
  }

  // Whether an array is a view of gradients, which are cleared before anything is read.
  bool in_gradients(py::handle array) const {
    const char* data = static_cast<const char*>(data_of(array));
    return std::any_of(gradients_.begin(), gradients_.end(), [&](const TrainStep::Block& block) {
      const char* first = static_cast<const char*>(block.data);
      return data >= first && data < first + block.bytes;
    });
  }

  static bool describe(const Arrays& arrays, bool ignores, Signature& signature) {
    signature.clear();
    signature.add(static_cast<int64_t>(ignores));
    bool known = signature.add(arrays.x) && signature.add(arrays.target) && signature.add(arrays.mask) &&
                 signature.add(arrays.lengths) && signature.add(arrays.resets);
    for (const py::handle state : arrays.states) known = known && signature.add(state);
    return known;
  }

  // Sets current_ to the form of the call, if there is one.
  bool find(const Arrays& arrays, bool ignores) {
    if (!describe(arrays, ignores, asked_)) return false;
    if (current_ && current_->first == asked_) return true;
    const auto found = forms_.find(asked_);
    if (found == forms_.end()) return false;
    current_ = &*found;
    return true;
  }

  Admitted admitted(const Arrays& arrays, const Argument& x, py::handle ignore_index) const {
    Admitted a;
    View& view = a.form.x;
    view.shape.rank = static_cast<int32_t>(x.rank());
    for (int32_t i = 0; i < view.shape.rank; ++i) view.shape.size[i] = x.size(i);
    view.rows = rows_of(x);
    view.elements = elements_of(x);
    if (view.shape.rank == 3) view.sequence = x.array3();
    const bool first = batch_first();
    if (view.shape.rank >= 2) {
      a.T = x.size(first ? 1 : 0);
      a.B = x.size(first ? 0 : 1);
    }
    a.form.lengths = !arrays.lengths.is_none();
    a.form.resets = !arrays.resets.is_none();
    if (a.form.resets) {
      const Argument resets = input("resets", arrays.resets, Element::boolean, {{"..."}});
      a.reset_strides[0] = resets.stride(first ? 1 : 0);
      a.reset_strides[1] = resets.stride(first ? 0 : 1);
    }
    for (const py::handle value : arrays.states) {
      const Argument state = optional_input("state", value, element_of(step_->dtype()), {{"L*D"}, {"B"}, {"H"}});
      a.states.push_back(state.present() ? StateForm{true, state.stride(0), state.stride(1)} : StateForm{});
    }
    Shape shape = view.shape;
    for (const auto& stage : step_->stages()) shape = stage->output(shape);
    const View pred = contiguous(shape, nullptr);
    a.form.loss =
        loss_arguments(loss_, {step_->dtype(), {shape.size, shape.size + shape.rank}, pred.rows, pred.elements},
                       arrays.target, arrays.mask, "mean", ignore_index);
    return a;
  }

  bool batch_first() const {
    for (const auto& stage : step_->stages()) {
      if (const auto* recurrent = dynamic_cast<const RecurrentStage*>(stage.get())) return recurrent->batch_first();
      if (const auto* last = dynamic_cast<const LastStage*>(stage.get())) return last->batch_first();
    }
    return false;
  }

  void check_values(Admitted& a, const Arrays& arrays, py::handle ignore_index) const {
    if (embedding_) {
      a.form.x.elements.data = data_of(arrays.x);
      require_below("ids", a.form.x.elements, embedding_->rows());
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
      const auto* data = static_cast<const uint8_t*>(data_of(arrays.resets));
      resets_.resize(static_cast<size_t>(a.T * a.B));
      for (int64_t t = 0; t < a.T; ++t)
        for (int64_t b = 0; b < a.B; ++b)
          resets_[static_cast<size_t>(t * a.B + b)] = data[t * a.reset_strides[0] + b * a.reset_strides[1]];
      sequence.resets = resets_.data();
    }
    return sequence;
  }

  void set_keys(const py::list& keys) {
    size_t next = 0;
    for (const auto& stage : step_->stages()) {
      if (!stage->has_key()) continue;
      stage->set_key(unsigned_integer("dropout_key", keys[next++]));
    }
  }

  // Initial states into the stages; final ones into fresh arrays if they are wanted, which are returned.
  py::object set_states(const Admitted& a, const py::list& states, bool wanted) {
    py::list made;
    for (size_t i = 0; i < recurrent_.size(); ++i) {
      const SequenceDesc& desc = recurrent_[i]->desc();
      const bool has_cell = desc.cell == CellKind::lstm;
      void *hn = nullptr, *cn = nullptr;
      if (wanted) {
        const std::vector<int64_t> sizes = {recurrent_[i]->stacks(), a.B, desc.H};
        py::array h = fresh(element_of(desc.dtype), sizes, "hn");
        hn = h.mutable_data();
        made.append(h);
        if (has_cell) {
          py::array c = fresh(element_of(desc.dtype), sizes, "cn");
          cn = c.mutable_data();
          made.append(c);
        }
      }
      if (a.states.empty())
        recurrent_[i]->set_states({}, {}, hn, cn);
      else
        recurrent_[i]->set_states(a.states[2 * i].at(states[2 * i]), a.states[2 * i + 1].at(states[2 * i + 1]), hn, cn);
    }
    return wanted ? py::object(made) : py::none();
  }

  const std::string loss_;
  std::vector<Argument> kept_;
  std::vector<TrainStep::Block> gradients_;
  std::vector<py::object> tables_;
  std::unique_ptr<TrainStep> step_;
  std::vector<RecurrentStage*> recurrent_;
  EmbeddingStage* embedding_ = nullptr;  // of the first layer
  std::map<Signature, Admitted> forms_;
  std::pair<const Signature, Admitted>* current_ = nullptr;
  Signature asked_;
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
}

}  // namespace fusedrnn
