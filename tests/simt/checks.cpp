// Values that kernels must not take for addresses: what they do with wrong ones, and what is known of it afterwards.
#include <cmath>
#include <cstdio>
#include <limits>

#include "backend/scratch.hpp"
#include "fixture.hpp"

extern "C" const fusedrnn::Backend* fusedrnn_plugin(uint32_t abi, char* why, size_t why_bytes);

namespace {

using namespace fixture;

const Backend* backend = nullptr;
constexpr int64_t kMost = std::numeric_limits<int64_t>::max(), kLeast = std::numeric_limits<int64_t>::min();

Strided flat(const void* data, int64_t count) { return {data, 1, count, 0, {}, {}}; }

Fault checked(const CheckArgs& args, const Device<Fault>& fault) {
  const Device<int64_t> firsts(check_firsts(args.count));
  CheckArgs a = args;
  a.firsts = firsts.data();
  a.fault = fault.data();
  require_ok(backend->async->check_values(&a, nullptr));
  return fault.values()[0];
}

void require_found(const Fault& fault, int64_t what, int64_t index, int64_t value, const char* name) {
  check::require(fault.what == what && fault.index == index && fault.value == value,
                 "%s: told of %lld at %lld, value %lld", name, static_cast<long long>(fault.what),
                 static_cast<long long>(fault.index), static_cast<long long>(fault.value));
}

// The first wrong value in C order, whichever threads have the others; what was found first stays.
void first_wrong_value() {
  constexpr int64_t count = 5000;
  std::vector<int64_t> values(count, 3);
  values[4100] = kMost;
  values[2047] = -1;
  values[2050] = 10;
  std::vector<uint8_t> seen(count, 1);
  const Device<int64_t> there(values);
  const Device<Fault> fault(std::vector<Fault>(1));
  CheckArgs a{};
  a.what = 7;
  a.count = 2000;
  a.values = flat(there.data(), count);
  a.high = 9;
  require_found(checked(a, fault), 0, 0, 0, "right values");
  a.count = count;
  a.has_ignore_index = 1;
  a.ignore_index = -1;
  seen[2050] = 0;
  const Device<uint8_t> mask(seen);
  a.mask = flat(mask.data(), count);
  require_found(checked(a, fault), 7, 4100, kMost, "all but two do not count");
  a.what = 8;
  a.mask = {};
  require_found(checked(a, fault), 7, 4100, kMost, "a second one");
  const Device<Fault> other(std::vector<Fault>(1));
  require_found(checked(a, other), 8, 2050, 10, "without a mask");
  a.has_ignore_index = 0;
  const Device<Fault> third(std::vector<Fault>(1));
  require_found(checked(a, third), 8, 2047, -1, "all count");
}

void ids() {
  constexpr int64_t count = 6, rows = 3, width = 40;
  const Device<int64_t> there(std::vector<int64_t>{0, 3, 2, -1, kMost, kLeast});
  const Device<float> weight(std::vector<float>(rows * width, 2)), y(count * width),
      dy(std::vector<float>(count * width, 1)), dweight(std::vector<float>(rows * width, 5));
  EmbeddingArgs a{DType::float32, count, rows, width, flat(there.data(), count), weight.data(), y.data(), {}, nullptr};
  require_ok(backend->dense->embedding_forward(&a, nullptr));
  const std::vector<float> rows_out = y.values();
  for (int64_t i = 0; i < count * width; ++i) {
    const bool right = i / width == 0 || i / width == 2;
    check::require(right ? rows_out[static_cast<size_t>(i)] == 2 : std::isnan(rows_out[static_cast<size_t>(i)]),
                   "row %lld of an embedding's y", static_cast<long long>(i / width));
  }
  a.dy = {dy.data(), count, width, 1, {count}, {width}};
  a.dweight = dweight.data();
  require_ok(backend->dense->embedding_backward(&a, nullptr));
  const std::vector<float> sums = dweight.values();
  for (int64_t i = 0; i < rows * width; ++i)
    check::require(sums[static_cast<size_t>(i)] == (i / width == 1 ? 5 : 6), "a wrong id took part in the gradient");
}

void lengths() {
  constexpr int64_t T = 4, B = 3, N = 5;
  std::vector<float> steps(T * B * N);
  for (size_t i = 0; i < steps.size(); ++i) steps[i] = static_cast<float>(i);
  const Device<float> x(steps), y(B * N);
  const Device<int64_t> there(std::vector<int64_t>{-5, kMost, 2});
  const LastArgs a{DType::float32, T, B, N, there.data(), {x.data(), B * N, N}, y.data(), N};
  require_ok(backend->dense->last_forward(&a, nullptr));
  const std::vector<float> last = y.values();
  check::require(last[0] == 0 && last[N] == steps[(T - 1) * B * N + N] && last[2 * N] == steps[B * N + 2 * N],
                 "wrong lengths are not taken for the nearest right ones");
}

void classes() {
  constexpr int64_t rows = 4, width = 6;
  const Device<float> pred(std::vector<float>(rows * width, 1)), dpred(rows * width);
  const Device<double> loss(1), partials(rows);
  const Device<int64_t> right(std::vector<int64_t>{0, 5, 2, 1}), wrong(std::vector<int64_t>{0, kMost, 2, -1});
  const Device<Fault> none(std::vector<Fault>(1)), one(std::vector<Fault>{{1, 2, 3}});
  LossArgs a{};
  a.spec.kind = LossKind::cross_entropy_classes;
  a.spec.reduction = Reduction::sum;
  a.dtype = DType::float32;
  a.rows = rows;
  a.classes = width;
  a.pred = {pred.data(), rows, width, 1, {rows}, {width}};
  a.loss = loss.data();
  a.dpred = dpred.data();
  a.partials = partials.data();
  const auto run = [&](const Device<int64_t>& target, const Fault* fault) {
    a.target = flat(target.data(), rows);
    a.fault = fault;
    require_ok(backend->losses->loss(&a, nullptr));
    return loss.values()[0];
  };
  check::require(std::abs(run(right, none.data()) - 4 * std::log(6.0)) < 1e-6, "a loss without a fault is another one");
  check::require(std::isnan(run(right, one.data())), "a loss with a fault is a number");
  check::require(std::isnan(run(wrong, nullptr)), "a loss of a class that is none is a number");
  const std::vector<float> slope = dpred.values();
  for (size_t row = 0; row < rows; ++row)
    check::require(std::isnan(slope[row * width]) == (row == 1 || row == 3), "gradient of row %zu", row);
  a.spec.kind = static_cast<LossKind>(-1);
  check::require(backend->losses->loss(&a, nullptr) == Status::invalid_argument, "a loss that is none");
}

void updates() {
  const Device<float> param(std::vector<float>{1, 2, 3}), grad(std::vector<float>{1, 1, 1});
  const Device<double> norm(1), partials(4), lr(std::vector<double>{0.5});
  const Device<int64_t> steps(std::vector<int64_t>{-1, 4});
  const Device<Fault> none(std::vector<Fault>(1)), one(std::vector<Fault>{{1, 2, 3}});
  const Segment segment{param.data(), grad.data(), {}, 3};
  UpdateGroup group{};
  group.update.kind = OptimizerKind::sgd;
  group.update.segments = 1;
  group.update.segment = &segment;
  group.lr = lr.data();
  group.steps = steps.data();
  ClippedUpdateArgs a{};
  a.groups = 1;
  a.group = &group;
  a.max_norm = std::numeric_limits<double>::infinity();
  a.partials = partials.data();
  const auto run = [&](double* to, const Fault* fault) {
    a.norm = to;
    a.fault = fault;
    require_ok(backend->optim->clipped_update(&a, nullptr));
  };
  run(norm.data(), one.data());
  check::require(std::isnan(norm.values()[0]) && param.values()[0] == 1 && steps.values()[1] == 4,
                 "a fault does not keep parameters and steps as they are");
  run(nullptr, one.data());
  check::require(param.values()[0] == 1 && steps.values()[1] == 4, "nor where the norm is not wanted");
  run(norm.data(), none.data());
  check::require(
      std::abs(norm.values()[0] - std::sqrt(3.0)) < 1e-12 && param.values()[0] == 0.5F && steps.values()[1] == 5,
      "an update without a fault");
  run(nullptr, none.data());
  check::require(param.values()[0] == 0 && steps.values()[1] == 6, "an update without a norm");
  group.update.kind = static_cast<OptimizerKind>(-1);
  check::require(backend->optim->optimizer(&group.update, nullptr) == Status::invalid_argument &&
                     backend->optim->clipped_update(&a, nullptr) == Status::invalid_argument,
                 "an update of a rule that is none");
}

}  // namespace

int main() {
  char why[256] = "";
  backend = fusedrnn_plugin(kBackendAbi, why, sizeof why);
  if (!check::require(backend != nullptr, "%s", why)) return 1;
  first_wrong_value();
  ids();
  lengths();
  classes();
  updates();
  return check::finish("checks of values");
}
