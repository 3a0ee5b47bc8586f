// A training step of a model with a stage of every kind, with C++'s allocations and the backend's counted: once its
// forms have been met there are none, whatever the number of threads; and it learns the same on every one.
#include <cstdlib>
#include <new>
#include <vector>

#include "check.hpp"
#include "isa/registry.hpp"
#include "random.hpp"
#include "runtime/memory.hpp"
#include "runtime/team.hpp"
#include "runtime/threads.hpp"
#include "training/host_executor.hpp"
#include "training/layers.hpp"
#include "training/recurrent.hpp"

namespace {
long made_by_new = 0;
}

// Not inlined: compilers would see free() of what came from new.
__attribute__((noinline)) void* operator new(size_t bytes) {
  ++made_by_new;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace {

using namespace fusedrnn;
using namespace fusedrnn::training;

constexpr int64_t kWords = 9, kWidth = 6, kHidden = 20, kT = 12, kB = 10;

// Parameters and gradients of a model: ids -> embedding -> LSTM of two layers with dropout -> layer norm -> dropout ->
// last -> linear, one class of `kWords` for each row.
class Model {
 public:
  explicit Model(const Backend& backend) : values_(100000), grads_(100000), states_(200000) {
    Random random(1);
    for (float& value : values_) value = static_cast<float>(random.uniform(-0.3, 0.3));
    std::vector<std::unique_ptr<Stage>> stages;
    stages.push_back(std::make_unique<EmbeddingStage>(backend, DType::float32, kWords, kWidth, take(kWords * kWidth)));
    SequenceDesc desc{};
    desc.cell = CellKind::lstm;
    desc.layers = 2;
    desc.directions = 1;
    desc.has_bias = 1;
    desc.I = kWidth;
    desc.H = kHidden;
    desc.dropout = 0.2;
    std::vector<LayerWeights> weights;
    std::vector<LayerGrads> grads;
    for (const int64_t inputs : {kWidth, kHidden}) {
      const Weight w = take(4 * kHidden * inputs), r = take(4 * kHidden * kHidden), b = take(4 * kHidden),
                   c = take(4 * kHidden);
      weights.push_back({w.data, r.data, b.data, c.data, inputs, kHidden});
      grads.push_back({w.grad, r.grad, b.grad, c.grad});
    }
    stages.push_back(std::make_unique<RecurrentStage>(backend, desc, false, weights, grads));
    stages.push_back(std::make_unique<LayerNormStage>(backend, DType::float32, 1e-5, take(kHidden), take(kHidden)));
    stages.push_back(std::make_unique<DropoutStage>(backend, DType::float32, 0.1));
    stages.push_back(std::make_unique<LastStage>(backend, DType::float32, false));
    stages.push_back(
        std::make_unique<LinearStage>(backend, DType::float32, kWords, take(kWords * kHidden), take(kWords)));
    segment_ = {values_.data(), grads_.data(), {states_.data(), states_.data() + 100000, nullptr}, used_};
    OptimizerArgs adam = {};
    adam.kind = OptimizerKind::adam;
    adam.segments = 1;
    adam.segment = &segment_;
    adam.lr = 0.01;
    adam.eps = 1e-8;
    adam.beta1 = 0.9;
    adam.beta2 = 0.999;
    adam.bias_correction = 1;
    step =
        std::make_unique<TrainStep>(backend, DType::float32, std::move(stages),
                                    std::vector<Cleared>{{grads_.data(), static_cast<size_t>(used_) * sizeof(float)}});
    step->add_update(adam);
  }

  std::unique_ptr<TrainStep> step;

 private:
  Weight take(int64_t count) {
    const Weight weight = {values_.data() + used_, grads_.data() + used_};
    used_ += count;
    return weight;
  }

  std::vector<float> values_, grads_, states_;
  int64_t used_ = 0;
  Segment segment_ = {};
};

Form form_of(int64_t T, int64_t B, bool lengths) {
  Form form;
  Shape ids;
  ids.rank = 2;
  ids.size[0] = T;
  ids.size[1] = B;
  form.x = contiguous(ids, nullptr);
  form.lengths = lengths;
  Shape scores;
  scores.rank = 2;
  scores.size[0] = B;
  scores.size[1] = kWords;
  form.loss.kind = LossKind::cross_entropy_classes;
  form.loss.reduction = Reduction::mean;
  form.loss.rows = B;
  form.loss.classes = kWords;
  form.loss.pred = contiguous(scores, nullptr).rows;
  form.loss.target.rows = 1;
  form.loss.target.width = B;
  return form;
}

// Losses of steps over forms of several sizes, met in turn three times.
std::vector<double> losses_of(const Backend& backend) {
  Model model(backend);
  const Form forms[] = {form_of(kT, kB, true), form_of(3, 4, false), form_of(kT, kB, false), form_of(1, 1, true)};
  std::vector<int64_t> ids(kT * kB), classes(kB), lengths(kB);
  for (int64_t i = 0; i < kT * kB; ++i) ids[static_cast<size_t>(i)] = i * i % kWords;
  for (int64_t b = 0; b < kB; ++b)
    classes[static_cast<size_t>(b)] = b % kWords, lengths[static_cast<size_t>(b)] = b % 2;
  std::vector<double> losses;
  losses.reserve(100);
  int64_t count = 0;
  const auto round = [&] {
    for (const Form& form : forms) {
      Call call = {
          {ids.data(), classes.data(), nullptr, {form.lengths ? lengths.data() : nullptr, nullptr}}, true, 1.0, true};
      for (const auto& stage : model.step->chain().stages())
        if (stage->has_key()) stage->set_key(static_cast<uint64_t>(count));
      for (OptimizerArgs& update : model.step->updates()) update.step = count + 1;
      TeamLease lease;
      losses.push_back(model.step->run(form, call, lease.team()).loss);
      ++count;
    }
  };
  round();
  const long by_new = made_by_new;
  const uint64_t by_backend = host_allocations();
  round();
  round();
  check::require(made_by_new == by_new, "%s: %ld calls of operator new", backend.name, made_by_new - by_new);
  check::require(host_allocations() == by_backend, "%s: the backend allocated", backend.name);
  return losses;
}

}  // namespace

int main() {
  std::vector<double> first;
  for (const Backend* backend : available_backends())
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      const std::vector<double> losses = losses_of(*backend);
      if (first.empty()) first = losses;
      check::require(losses == first, "%s, %d threads: other losses", backend->name, threads);
    }
  check::require(first[8] < first[0] && first[8] > 0, "nothing was learnt: %g, then %g", first[0], first[8]);
  return check::finish("test_step");
}
