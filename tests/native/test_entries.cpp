// The layers', losses' and optimizers' entries of every backend on arrays of every remainder, each array against a page
// that may not be touched, on one thread and on three: the bits must be those of the first backend.
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "backend/rule_facts.hpp"
#include "backend/scratch.hpp"
#include "check.hpp"
#include "guarded.hpp"
#include "isa/registry.hpp"
#include "random.hpp"
#include "runtime/team.hpp"
#include "runtime/threads.hpp"

namespace {

using namespace fusedrnn;

constexpr int64_t kSizes[] = {0, 1, 2, 5, 8, 15, 16, 17, 31, 33, 64, 100};
constexpr int64_t kLong[] = {4095, 4096, 4097, 200001};

// One call's arrays, guarded; what it writes goes into a digest.
template <class T>
class Call {
 public:
  Call(const Backend& backend, Team* team, Guard guard, uint64_t seed)
      : backend(backend), team(team), guard_(guard), random_(seed) {}

  static constexpr DType dtype = sizeof(T) == 4 ? DType::float32 : DType::float64;
  const Backend& backend;
  Team* const team;

  T* reals(int64_t n, double low = -2, double high = 2) {
    return array<T>(n, [&] { return static_cast<T>(random_.uniform(low, high)); });
  }
  int64_t* integers(int64_t n, int64_t below) {
    return array<int64_t>(n, [&] { return random_.below(below); });
  }
  uint8_t* flags(int64_t n) {
    return array<uint8_t>(n, [&] { return static_cast<uint8_t>(random_.below(3) != 0); });
  }
  template <class U>
  U* blank(int64_t n) {
    return array<U>(n, [] { return U(77); });
  }

  // FNV-1a over the bytes of what was written.
  template <class U>
  void see(const U* data, int64_t n) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(data);
    for (size_t i = 0; i < static_cast<size_t>(n) * sizeof(U); ++i) digest_ = (digest_ ^ bytes[i]) * 0x100000001b3u;
  }
  void require_ok(Status status, const char* entry) {
    check::require(status == Status::ok, "%s of %s: %s", entry, backend.name, backend.status_text());
  }
  uint64_t digest() const { return digest_; }

 private:
  template <class U, class Value>
  U* array(int64_t n, const Value& value) {
    auto memory = std::make_shared<Guarded<U>>(static_cast<size_t>(n), guard_);
    kept_.push_back(memory);
    for (U& element : *memory) element = value();
    return memory->data();
  }

  const Guard guard_;
  Random random_;
  std::vector<std::shared_ptr<void>> kept_;
  uint64_t digest_ = 0xcbf29ce484222325u;
};

Strided rows(const void* data, int64_t count, int64_t width) { return {data, count, width, 1, {count}, {width}}; }

Strided flat(const void* data, int64_t count) { return {data, count > 0 ? 1 : 0, count, 0, {}, {}}; }

template <class T>
void layers(Call<T>& c, int64_t n) {
  const int64_t width = n, count = n > 1000 ? 3 : 9, table = 4;
  const int64_t* ids = c.integers(count, table);
  const T* x = c.reals(count * width);
  const T* dy = c.reals(count * width);
  T* y = c.template blank<T>(count * width);
  T* dweight = c.reals(table * width);
  const EmbeddingArgs embedding = {c.dtype, count, table, width, flat(ids, count), dweight, y, rows(dy, count, width),
                                   dweight};
  c.require_ok(c.backend.dense->embedding_forward(&embedding, c.team), "embedding_forward");
  c.see(y, count * width);
  c.require_ok(c.backend.dense->embedding_backward(&embedding, c.team), "embedding_backward");
  c.see(dweight, table * width);

  constexpr uint64_t key = 0x123456789abcdef0u;
  DropoutArgs dropout = {c.dtype, count * width, 0.3, key, nullptr, 2, flat(x, count * width), y};
  c.require_ok(c.backend.dense->dropout(&dropout, c.team), "dropout");
  c.see(y, count * width);
  T* again = c.template blank<T>(count * width);
  dropout.key = 0;
  dropout.key_at = &key;
  dropout.y = again;
  c.require_ok(c.backend.dense->dropout(&dropout, c.team), "dropout by a key in memory");
  check::require(std::equal(y, y + count * width, again), "%s: another mask by a key in memory", c.backend.name);
  if (width == 0) return;

  T *mean = c.template blank<T>(count), *rstd = c.template blank<T>(count), *dx = c.template blank<T>(count * width);
  T *dscale = c.reals(width), *dbias = c.reals(width);
  const LayerNormArgs norm = {c.dtype,        count, width, 1e-5, rows(x, count, width),  c.reals(width),
                              c.reals(width), y,     mean,  rstd, rows(dy, count, width), dx,
                              dscale,         dbias};
  c.require_ok(c.backend.dense->layer_norm_forward(&norm, c.team), "layer_norm_forward");
  c.require_ok(c.backend.dense->layer_norm_backward(&norm, c.team), "layer_norm_backward");
  c.see(y, count * width);
  c.see(mean, count);
  c.see(rstd, count);
  c.see(dx, count * width);
  c.see(dscale, width);
  c.see(dbias, width);
}

// With `options` weights and label smoothing as well, where the loss knows of them.
template <class T>
void loss(Call<T>& c, const LossFacts& facts, Reduction reduction, int64_t n_rows, int64_t classes, bool masked,
          bool options) {
  const int64_t count = n_rows * classes, entries = facts.by_rows ? n_rows : count;
  const auto shaped = [&](const void* data) { return facts.by_rows ? rows(data, n_rows, classes) : flat(data, count); };
  LossArgs a = {};
  a.spec.kind = facts.kind;
  a.spec.reduction = reduction;
  a.dtype = c.dtype;
  a.rows = n_rows;
  a.classes = classes;
  a.pred = shaped(c.reals(count, -9, 9));
  a.target =
      facts.target == TargetType::index ? flat(c.integers(n_rows, classes), n_rows) : shaped(c.reals(count, 0, 1));
  if (masked) a.mask = flat(c.flags(n_rows), n_rows);
  if (options) {
    a.spec.label_smoothing = facts.by_rows ? 0.1 : 0;
    a.weights = classes;
    double* weight = c.template blank<double>(classes);
    for (int64_t k = 0; k < classes; ++k) weight[k] = static_cast<double>(k % 5) / 3;
    a.weight = weight;
  }
  double total = 0;
  T* each = c.template blank<T>(entries);
  T* dpred = c.template blank<T>(count);
  a.loss = reduction == Reduction::none ? static_cast<void*>(each) : &total;
  a.dpred = dpred;
  a.partials = c.template blank<double>(static_cast<int64_t>(loss_partials(a)));
  c.require_ok(c.backend.losses->loss(&a, c.team), "loss");
  c.see(&total, 1);
  c.see(each, entries);
  c.see(dpred, count);
}

template <class T>
void losses(Call<T>& c, int64_t n) {
  for (const LossFacts& facts : kLosses)
    for (const Reduction reduction : {Reduction::none, Reduction::mean, Reduction::sum})
      for (const bool masked : {false, true})
        for (const bool options : {false, true})
          loss(c, facts, reduction, n > 1000 ? 3 : 19, n > 0 ? n : 1, masked, options);
  loss(c, facts_of(LossKind::mse), Reduction::mean, 0, 1, false, false);
  LossArgs unknown = {};
  unknown.spec.kind = static_cast<LossKind>(sizeof kLosses / sizeof *kLosses);
  unknown.dtype = c.dtype;
  check::require(c.backend.losses->loss(&unknown, c.team) == Status::invalid_argument, "%s: a loss that is none",
                 c.backend.name);
}

template <class T>
void optimizers(Call<T>& c, int64_t n) {
  const int64_t counts[] = {n, 3, 0, n / 2};
  std::vector<Segment> segments;
  for (const int64_t count : counts) {
    segments.push_back(
        {c.reals(count), c.reals(count), {c.reals(count, 0, 1), c.reals(count, 0, 1), c.reals(count, 0, 1)}, count});
  }
  const auto table = static_cast<int64_t>(segments.size());
  double norm = 0, factor = 0;
  const GradientGroup group = {c.dtype, table, segments.data()};
  NormArgs measure = {1, &group, 0.5, &norm, &factor, nullptr};
  measure.partials = c.template blank<double>(static_cast<int64_t>(norm_partials(measure)));
  c.require_ok(c.backend.optim->norm(&measure, c.team), "norm");
  c.see(&norm, 1);
  c.see(&factor, 1);
  for (const RuleFacts& rule : kRules) {
    OptimizerArgs a = {};
    a.kind = rule.kind;
    a.dtype = c.dtype;
    a.segments = table;
    a.segment = segments.data();
    for (int32_t i = 0; i < rule.scalars; ++i) a.scalar[i] = rule.scalar[i].range == Range::flag ? 1 : 0.3;
    a.scalar[kLearningRate] = 0.01;
    a.step = 3;
    a.clip_factor = &factor;
    c.require_ok(c.backend.optim->optimizer(&a, c.team), "optimizer");
  }
  OptimizerArgs unknown = {};
  unknown.kind = static_cast<OptimizerKind>(sizeof kRules / sizeof *kRules);
  unknown.dtype = c.dtype;
  check::require(c.backend.optim->optimizer(&unknown, c.team) == Status::invalid_argument,
                 "%s: an update of a rule that is none", c.backend.name);
  c.require_ok(c.backend.optim->scale(c.dtype, table, segments.data(), &factor, c.team), "scale");
  c.require_ok(c.backend.optim->clip_value(c.dtype, table, segments.data(), 0.1, c.team), "clip_value");
  for (const Segment& s : segments) {
    c.see(static_cast<T*>(s.param), s.count);
    c.see(static_cast<T*>(s.grad), s.count);
    for (void* state : s.state) c.see(static_cast<T*>(state), s.count);
  }
}

// Runs entries(call, n) every way there is.
template <class T, class Entries>
void everywhere(const char* name, int64_t n, const Entries& entries) {
  uint64_t first = 0;
  bool known = false;
  for (const Backend* backend : available_backends())
    for (const int32_t threads : {1, 3}) {
      set_num_threads(threads);
      for (const Guard guard : {Guard::after, Guard::before}) {
        TeamLease lease;
        Call<T> call(*backend, lease.team(), guard, static_cast<uint64_t>(n) + 1);
        entries(call, n);
        if (!known) first = call.digest();
        known = true;
        check::require(call.digest() == first, "%s of %lld (float%d): other bits from %s on %d threads", name,
                       static_cast<long long>(n), int(8 * sizeof(T)), backend->name, int(threads));
      }
    }
}

template <class T>
void all(int64_t n) {
  everywhere<T>("layers", n, layers<T>);
  everywhere<T>("losses", n, losses<T>);
  everywhere<T>("optimizers", n, optimizers<T>);
}

}  // namespace

int main() {
  for (const int64_t n : kSizes) {
    all<float>(n);
    all<double>(n);
  }
  for (const int64_t n : kLong) all<float>(n);
  all<double>(4097);
  return check::finish("test_entries");
}
