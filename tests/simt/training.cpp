// The entries of the table besides recurrent stacks: layers, losses, optimizers, a step's, on arrays of the device.
// Built with everything else under ThreadSanitizer it looks for races; and it sees what tests through host memory
// cannot: segments that lie side by side, which updates walk as one, have the results of the same segments apart.
// Launches are small: the sanitizer needs room for all of their threads at once.
#include <cmath>
#include <cstdio>
#include <cstring>

#include "../native/random.hpp"
#include "backend/rule_facts.hpp"
#include "backend/scratch.hpp"
#include "fixture.hpp"

extern "C" const fusedrnn::Backend* fusedrnn_plugin(uint32_t abi, char* why, size_t why_bytes);

namespace {

using namespace fixture;

const Backend* backend = nullptr;

std::vector<float> drawn(int64_t count, double low = -1, double high = 1) {
  static Random random(1);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(random.uniform(low, high));
  return values;
}

std::vector<int64_t> integers(int64_t count, int64_t below) {
  std::vector<int64_t> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = i * 7 % below;
  return values;
}

Strided rows_of(const void* data, int64_t rows, int64_t width) { return {data, rows, width, 1, {rows}, {width}}; }
Strided flat(const void* data, int64_t count) { return {data, 1, count, 0, {}, {}}; }

void require_finite(const Device<float>& a, const char* name) {
  bool finite = true, moves = false;
  for (const float value : a.values()) finite &= std::isfinite(value), moves |= value != 0;
  check::require(finite && moves, "%s is not finite, or zero throughout", name);
}

// ---------------------------------------------------------------------------------------------------------- layers
void embedding() {
  constexpr int64_t count = 1100, rows = 5, width = 130;
  const Device<int64_t> ids(integers(count, rows));
  const Device<float> weight(drawn(rows * width)), y(count * width), dy(drawn(count * width)),
      dweight(drawn(rows * width));
  EmbeddingArgs a{DType::float32,          count,         rows,     width,
                  flat(ids.data(), count), weight.data(), y.data(), rows_of(dy.data(), count, width),
                  dweight.data()};
  require_ok(backend->dense->embedding_backward(&a, nullptr));
  require_finite(dweight, "embedding's dweight");
  a.count = 99;
  a.ids = flat(ids.data(), a.count);
  require_ok(backend->dense->embedding_forward(&a, nullptr));
  check::require(y.values()[0] == weight.values()[0], "embedding's y is not the table's row");
}

void layer_norm() {
  constexpr int64_t rows = 70, width = 40;
  const Device<float> x(drawn(rows * width)), weight(drawn(width)), bias(drawn(width)), y(rows * width), mean(rows),
      rstd(rows), dy(drawn(rows * width)), dx(rows * width), dweight(drawn(width)), dbias(drawn(width));
  const LayerNormArgs a{
      DType::float32, rows,        width,       1e-5,        rows_of(x.data(), rows, width),  weight.data(),
      bias.data(),    y.data(),    mean.data(), rstd.data(), rows_of(dy.data(), rows, width), dx.data(),
      dweight.data(), dbias.data()};
  require_ok(backend->dense->layer_norm_forward(&a, nullptr));
  require_ok(backend->dense->layer_norm_backward(&a, nullptr));
  require_finite(y, "layer norm's y");
  require_finite(dx, "layer norm's dx");
  require_finite(dweight, "layer norm's dweight");
}

void dropout_and_last() {
  constexpr int64_t T = 4, B = 5, N = 70;
  const Device<float> x(drawn(T * B * N)), y(T * B * N), last(B * N);
  const DropoutArgs d{DType::float32, T * B * N, 0.3, 7, nullptr, 1, flat(x.data(), T * B * N), y.data()};
  require_ok(backend->dense->dropout(&d, nullptr));
  const Device<int64_t> lengths(integers(B, T + 1));
  LastArgs l{DType::float32, T, B, N, lengths.data(), {y.data(), B * N, N}, last.data(), N};
  require_ok(backend->dense->last_forward(&l, nullptr));
  require_ok(backend->dense->last_backward(&l, nullptr));
  require_finite(last, "last's y");
  require_finite(y, "last's dx");
}

// ---------------------------------------------------------------------------------------------------------- losses
void loss(const LossFacts& facts, int64_t rows, int64_t classes, bool options) {
  const int64_t count = rows * classes;
  const Device<float> pred(drawn(count)), target(drawn(count, 0, 1)), dpred(count);
  const Device<int64_t> class_of(integers(rows, classes));
  std::vector<uint8_t> kept(static_cast<size_t>(rows), 1);
  kept[1] = 0;
  const Device<uint8_t> mask(kept);
  LossArgs a{};
  a.spec.kind = facts.kind;
  a.spec.reduction = Reduction::mean;
  a.rows = rows;
  a.classes = classes;
  const Device<double> total(1), partials(loss_partials(a));
  a.pred = facts.by_rows ? rows_of(pred.data(), rows, classes) : flat(pred.data(), count);
  a.target = facts.target == TargetType::index ? flat(class_of.data(), rows)
             : facts.by_rows                   ? rows_of(target.data(), rows, classes)
                                               : flat(target.data(), count);
  a.mask = flat(mask.data(), rows);
  const Device<double> weight(std::vector<double>(static_cast<size_t>(classes), 0.5));
  if (options) {
    a.spec.label_smoothing = facts.by_rows ? 0.1 : 0;
    a.weight = weight.data();
    a.weights = classes;
  }
  a.loss = total.data();
  a.dpred = dpred.data();
  a.partials = partials.data();
  require_ok(backend->losses->loss(&a, nullptr));
  require_finite(dpred, "a loss's gradient");
  check::require(total.values()[0] > 0, "a loss of %g", total.values()[0]);
}

// ------------------------------------------------------------------------------------------------------ optimizers
constexpr int64_t kCounts[] = {4097, 30, 9000}, kAll = 4097 + 30 + 9000;

// param, grad, exp_avg, exp_avg_sq; `gap` elements between the segments.
struct Parameters {
  explicit Parameters(const std::vector<float>& values, int64_t gap) : values_(4 * (kAll + 3 * gap)) {
    const float* from = values.data();
    for (int64_t array = 0; array < 4; ++array) {
      float* to = values_.data() + array * (kAll + 3 * gap);
      for (size_t s = 0; s < 3; ++s, to += gap) {
        std::memcpy(to, from, static_cast<size_t>(kCounts[s]) * sizeof(float));
        if (array == 0) segments[s] = {to, nullptr, {}, kCounts[s]};
        if (array == 1) segments[s].grad = to;
        if (array > 1) segments[s].state[array - 2] = to;
        from += kCounts[s];
        to += kCounts[s];
      }
    }
  }

  std::vector<float> result() const {
    std::vector<float> all;
    for (const Segment& s : segments)
      for (const void* array : {s.param, s.grad, s.state[0], s.state[1]})
        all.insert(all.end(), static_cast<const float*>(array), static_cast<const float*>(array) + s.count);
    return all;
  }

  Segment segments[3];

 private:
  Device<float> values_;
};

std::vector<float> updated(const std::vector<float>& values, int64_t gap) {
  const Parameters p(values, gap);
  const Device<double> norm(1), factor(1), lr(std::vector<double>{0.1}), partials(6);
  const Device<int64_t> steps(std::vector<int64_t>{-1, 4});
  OptimizerArgs update{};
  update.kind = OptimizerKind::adam;
  update.segments = 3;
  update.segment = p.segments;
  for (int32_t i = 0; i < adam_scalars::count; ++i) update.scalar[i] = facts_of(update.kind).scalar[i].otherwise;
  update.scalar[adam_scalars::eps] = 1e-6;
  const UpdateGroup group{update, lr.data(), steps.data()};
  const ClippedUpdateArgs clipped{1, &group, 0.5, 1, norm.data(), partials.data()};
  require_ok(backend->optim->clipped_update(&clipped, nullptr));
  check::require(steps.values()[1] == 5, "an update was not counted");
  const GradientGroup gradients{DType::float32, 3, p.segments};
  const NormArgs measure{1, &gradients, 0.25, norm.data(), factor.data(), partials.data()};
  require_ok(backend->optim->norm(&measure, nullptr));
  require_ok(backend->optim->scale(DType::float32, 3, p.segments, factor.data(), nullptr));
  require_ok(backend->optim->clip_value(DType::float32, 3, p.segments, 0.002, nullptr));
  update.step = 6;
  update.scalar[adam_scalars::lr] = 0.2;
  require_ok(backend->optim->optimizer(&update, nullptr));
  return p.result();
}

// The norm's sums are other ones, and may round differently; that is seen in no factor of these numbers.
void optimizers() {
  std::vector<float> values = drawn(4 * kAll, 0, 1);
  for (float& value : values) value = static_cast<float>(static_cast<int>(16 * value)) / 16;
  const std::vector<float> together = updated(values, 0), apart = updated(values, 5);
  check::require(together.size() == apart.size() &&
                     std::memcmp(together.data(), apart.data(), together.size() * sizeof(float)) == 0,
                 "segments side by side have other results");
}

// ---------------------------------------------------------------------------------------------------- a whole step
// More arrays than a kernel takes at once, one with gaps; and more bytes of the host than that.
void gathering() {
  const std::vector<float> values = drawn(3 * 5 * 9);
  constexpr int kArrays = 18;
  const Device<float> from(values), to(3 * 4 * 7), same(kArrays * values.size());
  const Strided gapped = {from.data() + 1, 12, 7, 2, {3, 4}, {45, 9}};
  std::vector<Gather> list;
  for (int i = 0; i + 1 < kArrays; ++i) list.push_back({flat(from.data(), 135), same.data() + i * values.size(), 4});
  list.push_back({gapped, to.data(), 4});
  require_ok(backend->async->gather(list.data(), kArrays, nullptr));
  const std::vector<float> dense = to.values(), copies = same.values();
  bool right = true;
  for (size_t i = 0; i < (kArrays - 1) * values.size(); ++i) right &= copies[i] == values[i % values.size()];
  for (size_t i = 0; i < dense.size(); ++i) right &= dense[i] == values[1 + i / 28 * 45 + i / 7 % 4 * 9 + i % 7];
  check::require(right, "gathered elements are others");

  std::vector<uint8_t> bytes(5003);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 31 % 251);
  const Device<uint8_t> there(bytes.size());
  require_ok(backend->async->upload(there.data(), bytes.data(), bytes.size(), nullptr));
  check::require(there.values() == bytes, "uploaded bytes are others");

  const Device<uint64_t> numbers(std::vector<uint64_t>{7, UINT64_MAX, 0});
  require_ok(backend->async->increment(numbers.data(), 3, nullptr));
  check::require(numbers.values() == std::vector<uint64_t>{8, 0, 1}, "numbers are not counted up");
}

}  // namespace

int main() {
  char why[256] = "";
  backend = fusedrnn_plugin(kBackendAbi, why, sizeof why);
  if (!check::require(backend != nullptr, "%s", why)) return 1;
  std::puts("layers");
  embedding();
  layer_norm();
  dropout_and_last();
  std::puts("losses");
  for (const LossFacts& facts : kLosses) {
    for (const bool options : {false, true}) {
      if (facts.by_rows) loss(facts, 20, 37, options);
      loss(facts, 3, facts.by_rows ? 1100 : 2000, options);
    }
  }
  std::puts("optimizers");
  optimizers();
  std::puts("a whole step");
  gathering();
  return check::finish("layers, losses, optimizers and what a step gathers");
}
