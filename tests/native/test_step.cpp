// A training step of a model with a layer of every kind, with C++'s allocations and the backend's counted: after the
// first call of each shape there are none, whatever the number of threads; and it learns the same on every one.
#include <cstdlib>
#include <new>
#include <vector>

#include "backend/rule_facts.hpp"
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
    std::vector<std::unique_ptr<Layer>> layers;
    layers.push_back(std::make_unique<EmbeddingLayer>(backend, DType::float32, kWords, kWidth, take(kWords * kWidth)));
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
      weights.push_back({{{w.data, inputs}, {r.data, kHidden}, {b.data, 1}, {c.data, 1}}});
      grads.push_back({{w.grad, r.grad, b.grad, c.grad}});
    }
    layers.push_back(std::make_unique<RecurrentLayer>(backend, desc, false, weights, grads));
    layers.push_back(std::make_unique<LayerNormLayer>(backend, DType::float32, 1e-5, take(kHidden), take(kHidden)));
    layers.push_back(std::make_unique<DropoutLayer>(backend, DType::float32, 0.1));
    layers.push_back(std::make_unique<LastLayer>(backend, DType::float32, false));
    layers.push_back(std::make_unique<LinearLayer>(backend, DType::float32, Precision::ieee, kWords,
                                                   take(kWords * kHidden), take(kWords)));
    segment_ = {values_.data(), grads_.data(), {states_.data(), states_.data() + 100000, nullptr}, used_};
    OptimizerArgs adam = {};
    adam.kind = OptimizerKind::adam;
    adam.segments = 1;
    adam.segment = &segment_;
    for (int32_t i = 0; i < adam_scalars::count; ++i) adam.scalar[i] = facts_of(adam.kind).scalar[i].otherwise;
    adam.scalar[adam_scalars::lr] = 0.01;
    executor = std::make_unique<HostExecutor>(
        backend, DType::float32, std::move(layers),
        std::vector<Cleared>{{grads_.data(), static_cast<size_t>(used_) * sizeof(float)}},
        std::vector<UpdateGroup>{{adam, nullptr, nullptr}});
  }

  std::unique_ptr<Executor> executor;

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

CallShape shape_of(int64_t T, int64_t B, bool lengths) {
  CallShape call_shape;
  Shape ids;
  ids.rank = 2;
  ids.size[0] = T;
  ids.size[1] = B;
  call_shape.x = contiguous(ids, nullptr);
  call_shape.lengths = lengths;
  Shape scores;
  scores.rank = 2;
  scores.size[0] = B;
  scores.size[1] = kWords;
  call_shape.loss.spec.kind = LossKind::cross_entropy_classes;
  call_shape.loss.spec.reduction = Reduction::mean;
  call_shape.loss.rows = B;
  call_shape.loss.classes = kWords;
  call_shape.loss.pred = contiguous(scores, nullptr).rows;
  call_shape.loss.target.rows = 1;
  call_shape.loss.target.width = B;
  return call_shape;
}

// Losses of steps over call shapes of several sizes, three times in turn.
std::vector<double> losses_of(const Backend& backend) {
  Model model(backend);
  const CallShape shapes[] = {shape_of(kT, kB, true), shape_of(3, 4, false), shape_of(kT, kB, false),
                              shape_of(1, 1, true)};
  std::vector<int64_t> ids(kT * kB), classes(kB), lengths(kB);
  for (int64_t i = 0; i < kT * kB; ++i) ids[static_cast<size_t>(i)] = i * i % kWords;
  for (int64_t b = 0; b < kB; ++b)
    classes[static_cast<size_t>(b)] = b % kWords, lengths[static_cast<size_t>(b)] = b % 2;
  std::vector<double> losses;
  losses.reserve(100);
  Call call;
  call.x.data = ids.data();
  call.target.data = classes.data();
  call.keys = {0, 0};
  call.steps = {0};
  call.clip = 1;
  call.skip = true;
  Report report = {};
  Results results;
  results.report = &report;
  const auto round = [&] {
    for (const CallShape& shape : shapes) {
      call.lengths.elements.data = shape.lengths ? lengths.data() : nullptr;
      for (uint64_t& key : call.keys) key = static_cast<uint64_t>(call.steps[0]);
      ++call.steps[0];
      TeamLease lease;
      model.executor->run(shape, call, results, lease.team());
      losses.push_back(report.loss);
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

// Bytes that a backend gives out in a step of one linear layer and the loss.
size_t given = 0;
Status (*allocate)(size_t bytes, void** memory) = nullptr;

size_t room_of(const Backend& of, double smoothing) {
  constexpr int64_t rows = 64, inputs = 3, classes = 5000;
  Backend backend = of;
  allocate = of.alloc;
  given = 0;
  backend.alloc = [](size_t bytes, void** memory) {
    given += bytes;
    return allocate(bytes, memory);
  };
  std::vector<float> values(2 * classes * (inputs + 1)), x(rows * inputs);
  const Weight weight = {values.data(), values.data() + classes * (inputs + 1)};
  const Weight bias = {values.data() + classes * inputs, values.data() + classes * (2 * inputs + 1)};
  std::vector<std::unique_ptr<Layer>> layers;
  layers.push_back(std::make_unique<LinearLayer>(backend, DType::float32, Precision::ieee, classes, weight, bias));
  HostExecutor executor(backend, DType::float32, std::move(layers), {}, {});
  Shape shape;
  shape.rank = 2;
  shape.size[0] = rows;
  shape.size[1] = inputs;
  CallShape call = shape_of(1, rows, false);
  call.x = contiguous(shape, nullptr);
  shape.size[1] = classes;
  call.loss.classes = classes;
  call.loss.pred = contiguous(shape, nullptr).rows;
  call.loss.spec.label_smoothing = smoothing;
  executor.fit(call, 1);
  return given;
}

// The gradient of a word model's scores takes their place, where the loss can.
void scores_are_stored_once() {
  constexpr size_t scores = 64 * 5000 * sizeof(float);
  const Backend& backend = *available_backends().front();
  const size_t once = room_of(backend, 0), again = room_of(backend, 0.1);
  check::require(again >= once + scores && once >= scores, "%zu bytes, and %zu with smoothing; scores have %zu", once,
                 again, scores);
}

}  // namespace

int main() {
  scores_are_stored_once();
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
