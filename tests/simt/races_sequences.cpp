// Whole stacks, forward and backward, under ThreadSanitizer: the kernels of cuda/ compiled with it, the emulator
// without. Every cell, the plans and precisions whose kernels differ, lengths, resets, both directions, two layers.
#include <cmath>
#include <deque>

#include "../native/random.hpp"
#include "backend/traits.hpp"
#include "fixture.hpp"

extern "C" const fusedrnn::Backend* fusedrnn_plugin(uint32_t abi, char* why, size_t why_bytes);

namespace {

using namespace fixture;

struct Case {
  const char* name;
  CellKind cell;
  PlanKind plan;
  Precision precision;
  int32_t rows = 0, blocks = 0;  // of clusters and grids
  int64_t T = 3;
  int32_t D = 2;
};

constexpr Case kCases[] = {
    {"rnn", CellKind::rnn_tanh, PlanKind::step, Precision::ieee},
    {"gru", CellKind::gru, PlanKind::step, Precision::ieee},
    {"lstm", CellKind::lstm, PlanKind::step, Precision::ieee},
    {"lstm in bf16", CellKind::lstm, PlanKind::step, Precision::bf16},
    {"lstm in tf32", CellKind::lstm, PlanKind::step, Precision::tf32},
    {"lstm by the reference plan", CellKind::lstm, PlanKind::reference, Precision::ieee},
    {"lstm in clusters of 2", CellKind::lstm, PlanKind::cluster, Precision::ieee, 8, 2},
    {"gru in bf16 in clusters of 2", CellKind::gru, PlanKind::cluster, Precision::bf16, 32, 2},
    {"rnn in tf32 in clusters of one", CellKind::rnn_tanh, PlanKind::cluster, Precision::tf32, 8, 1},
    {"rnn in tf32x3 in clusters of 3", CellKind::rnn_relu, PlanKind::cluster, Precision::tf32x3, 8, 3},
    {"lstm in bf16 in a grid", CellKind::lstm, PlanKind::grid, Precision::bf16, 32, 3},
    {"gru in a grid", CellKind::gru, PlanKind::grid, Precision::ieee, 16, 5},
    {"gru in clusters of 2, two layers at once", CellKind::gru, PlanKind::cluster, Precision::ieee, 32, 2, 32, 1},
};

// More than one tile of rows and of units, and one of each that is not full.
constexpr int64_t B = 33, I = 9, H = 37, L = 2;

std::vector<float> drawn(Random& random, int64_t count, double scale) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(random.uniform(-scale, scale));
  return values;
}

void require_finite(const Device<float>& a, const char* test, const char* name) {
  bool finite = true, moves = false;
  for (const float value : a.values()) finite &= std::isfinite(value), moves |= value != 0;
  check::require(finite && moves, "%s: %s is not finite, or zero throughout", test, name);
}

void run(const Backend& backend, const Case& c) {
  const int64_t T = c.T, D = c.D, S = L * D;
  Random random(1);
  const CellTraits& cell = traits(c.cell);
  const auto array = [&](int64_t count) { return drawn(random, count, 1); };
  const Device<float> x(array(T * B * I)), dy(array(T * B * D * H)), h0(array(S * B * H)), c0(array(S * B * H)),
      dhn(array(S * B * H)), dcn(array(S * B * H));
  const Device<float> y(T * B * D * H), hn(S * B * H), cn(S * B * H), dx(T * B * I), dh0(S * B * H), dc0(S * B * H);
  std::vector<int64_t> row_lengths;
  std::vector<uint8_t> row_resets(T * B);
  for (int64_t b = 0; b < B; ++b) row_lengths.push_back((b * 5 + 3) % (T + 1));
  for (size_t i = 0; i < row_resets.size(); i += 11) row_resets[i] = 1;
  const Device<int64_t> lengths(row_lengths);
  const Device<uint8_t> resets(row_resets);

  std::deque<Device<float>> weights, grads;
  std::vector<LayerWeights> layers(static_cast<size_t>(S));
  std::vector<LayerGrads> dlayers(layers.size());
  for (int64_t i = 0; i < S; ++i)
    for (int32_t w = 0; w < cell.weights.count; ++w) {
      const WeightSize size = weight_size(cell.weights.spec[w], i < D ? I : D * H, H, H);
      weights.emplace_back(drawn(random, size.count(), 0.2));
      grads.emplace_back(std::vector<float>(static_cast<size_t>(size.count())));
      layers[static_cast<size_t>(i)].weight[w] = {weights.back().data(), size.columns};
      dlayers[static_cast<size_t>(i)].weight[w] = grads.back().data();
    }

  SequenceDesc desc{};
  desc.cell = c.cell;
  desc.dtype = DType::float32;
  desc.precision = c.precision;
  desc.plan = c.plan;
  desc.row_groups = c.rows;
  desc.unit_groups = c.blocks;
  desc.layers = L;
  desc.directions = c.D;
  desc.has_bias = desc.train = desc.has_lengths = desc.has_resets = 1;
  desc.T = T;
  desc.B = B;
  desc.I = I;
  desc.H = H;
  desc.dropout = 0.25;
  SequenceSizes sizes;
  require_ok(backend.sequence->sizes(&desc, &sizes));
  const Device<char> packed(sizes.packed), tape(sizes.tape), forward(sizes.forward), backward(sizes.backward);
  require_ok(backend.sequence->pack(&desc, layers.data(), packed.data(), nullptr));

  const auto state = [&](const Device<float>& a) { return Array3{a.data(), B * H, H}; };
  const auto sequence = [&](const Device<float>& a, int64_t width) { return Array3{a.data(), B * width, width}; };
  ForwardArgs f{};
  f.x = sequence(x, I);
  f.h0 = state(h0);
  f.packed = packed.data();
  f.lengths = lengths.data();
  f.resets = resets.data();
  f.resets_stride0 = B;
  f.resets_stride1 = 1;
  f.y = sequence(y, D * H);
  f.hn = state(hn);
  if (cell.has_cell_state) f.c0 = state(c0), f.cn = state(cn);
  f.tape = tape.data();
  require_ok(backend.sequence->forward(&desc, &f, forward.data(), nullptr));

  BackwardArgs b{};
  b.x = f.x;
  b.h0 = f.h0;
  b.c0 = f.c0;
  b.packed = f.packed;
  b.lengths = f.lengths;
  b.resets = f.resets;
  b.resets_stride0 = B;
  b.resets_stride1 = 1;
  b.tape = f.tape;
  b.dy = sequence(dy, D * H);
  b.dhn = state(dhn);
  b.dx = sequence(dx, I);
  b.dh0 = state(dh0);
  if (cell.has_cell_state) b.dcn = state(dcn), b.dc0 = state(dc0);
  b.dweights = dlayers.data();
  require_ok(backend.sequence->backward(&desc, &b, backward.data(), nullptr));

  require_finite(y, c.name, "y");
  require_finite(hn, c.name, "hn");
  require_finite(dx, c.name, "dx");
  require_finite(dh0, c.name, "dh0");
  for (const Device<float>& grad : grads) require_finite(grad, c.name, "a weight's gradient");
}

}  // namespace

int main() {
  char why[256] = "";
  const Backend* backend = fusedrnn_plugin(kBackendAbi, why, sizeof why);
  if (!check::require(backend != nullptr, "%s", why)) return 1;
  for (const Case& c : kCases) {
    std::printf("%s\n", c.name);
    run(*backend, c);
  }
  return check::finish("races of sequences");
}
