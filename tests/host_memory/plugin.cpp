// A device's table as one for host memory: each entry carries its arguments to the device, runs there and carries the
// results back. With it the tests of arrays in host memory run the kernels of a device, at the price of every copy.
//
// A plugin, which opens another one: the library that FUSEDRNN_HOST_MEMORY_PLUGIN names, the first time it is asked.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "backend/scratch.hpp"
#include "backend/traits.hpp"
#include "device/plugin.hpp"
#include "runtime/memory.hpp"
#include "staging.hpp"

namespace fusedrnn::host_memory {
namespace {

const Plugin& device() {
  static const Plugin plugin = [] {
    const char* path = std::getenv("FUSEDRNN_HOST_MEMORY_PLUGIN");
    return open_plugin(path != nullptr ? path : "", "the plugin behind host memory",
                       "see what FUSEDRNN_HOST_MEMORY_PLUGIN names");
  }();
  return plugin;
}

const Backend& inner() { return *device().backend; }

// The caller's stream is a team of threads of the CPU, of no use to a device. Its default stream serves: what comes
// from host memory and goes back there within the call has to do with no other stream.
constexpr Stream kStream = nullptr;

Extent matrix(int64_t bytes, int64_t rows, int64_t width, int64_t ld) { return {bytes, width, {rows}, {ld}}; }

const char* status_text() {
  const char* own = Staging::failure();
  return own != nullptr ? own : inner().status_text();
}

Status describe(char* text, size_t bytes) { return inner().describe(text, bytes); }

// ------------------------------------------------------------------------------------------------------ sequences
Status plan(const SequenceDesc* desc, Plan* result) { return inner().sequence->plan(desc, result); }

// Scratch is the device's own affair.
Status sizes(const SequenceDesc* desc, SequenceSizes* result) {
  const Status status = inner().sequence->sizes(desc, result);
  result->forward = result->backward = 0;
  return status;
}

int64_t width_of_input(const SequenceDesc& desc, int32_t index) {
  return index < desc.directions ? desc.I : desc.directions * desc.H;
}

Status pack(const SequenceDesc* desc, const LayerWeights* weights, void* packed, Stream) {
  Staging staging(inner(), kStream);
  SequenceSizes sizes;
  const Status status = inner().sequence->sizes(desc, &sizes);
  if (status != Status::ok) return status;
  const int64_t bytes = bytes_of(desc->dtype);
  const WeightSpecs& specs = traits(desc->cell).weights;
  std::vector<LayerWeights> layers(weights, weights + desc->layers * desc->directions);
  for (size_t i = 0; i < layers.size(); ++i)
    for (int32_t w = 0; w < specs.count; ++w) {
      WeightView& view = layers[i].weight[w];
      const WeightSize size =
          weight_size(specs.spec[w], width_of_input(*desc, static_cast<int32_t>(i)), desc->H, desc->H);
      view.data = staging.in(view.data, size.matrix ? matrix(bytes, size.rows, size.columns, view.row_stride)
                                                    : contiguous(bytes, size.rows));
    }
  packed = staging.out(packed, contiguous(1, static_cast<int64_t>(sizes.packed)));
  return staging.finish([&] { return inner().sequence->pack(desc, layers.data(), packed, kStream); });
}

// What forward and backward read alike.
template <class Args>
void copy_inputs(Staging& staging, SequenceDesc& desc, const SequenceSizes& sizes, Args& a) {
  desc.dropout_key_at = staging.in(desc.dropout_key_at, contiguous(sizeof(uint64_t), 1));
  const int64_t bytes = bytes_of(desc.dtype), stacks = desc.layers * desc.directions;
  a.x = staging.in(a.x, bytes, desc.T, desc.B, desc.I);
  a.h0 = staging.in(a.h0, bytes, stacks, desc.B, desc.H);
  a.c0 = staging.in(a.c0, bytes, stacks, desc.B, desc.H);
  a.packed = staging.in(a.packed, contiguous(1, static_cast<int64_t>(sizes.packed)));
  a.lengths = staging.in(a.lengths, contiguous(sizeof(int64_t), desc.B));
  a.resets = staging.in(a.resets, {1, 1, {desc.T, desc.B}, {a.resets_stride0, a.resets_stride1}});
}

Status forward(const SequenceDesc* given, const ForwardArgs* args, void*, Stream) {
  Staging staging(inner(), kStream);
  SequenceDesc desc = *given;
  SequenceSizes sizes;
  const Status status = inner().sequence->sizes(given, &sizes);
  if (status != Status::ok) return status;
  const int64_t bytes = bytes_of(desc.dtype), stacks = desc.layers * desc.directions;
  ForwardArgs a = *args;
  copy_inputs(staging, desc, sizes, a);
  a.y = staging.out(a.y, bytes, desc.T, desc.B, desc.directions * desc.H);
  a.hn = staging.out(a.hn, bytes, stacks, desc.B, desc.H);
  a.cn = staging.out(a.cn, bytes, stacks, desc.B, desc.H);
  a.tape = staging.out(a.tape, contiguous(1, static_cast<int64_t>(sizes.tape)));
  void* workspace = staging.scratch(sizes.forward);
  return staging.finish([&] { return inner().sequence->forward(&desc, &a, workspace, kStream); });
}

Status backward(const SequenceDesc* given, const BackwardArgs* args, void*, Stream) {
  Staging staging(inner(), kStream);
  SequenceDesc desc = *given;
  SequenceSizes sizes;
  const Status status = inner().sequence->sizes(given, &sizes);
  if (status != Status::ok) return status;
  const int64_t bytes = bytes_of(desc.dtype), stacks = desc.layers * desc.directions;
  const WeightSpecs& specs = traits(desc.cell).weights;
  BackwardArgs a = *args;
  copy_inputs(staging, desc, sizes, a);
  a.tape = staging.in(a.tape, contiguous(1, static_cast<int64_t>(sizes.tape)));
  a.dy = staging.in(a.dy, bytes, desc.T, desc.B, desc.directions * desc.H);
  a.dhn = staging.in(a.dhn, bytes, stacks, desc.B, desc.H);
  a.dcn = staging.in(a.dcn, bytes, stacks, desc.B, desc.H);
  a.dx = staging.out(a.dx, bytes, desc.T, desc.B, desc.I);
  a.dh0 = staging.out(a.dh0, bytes, stacks, desc.B, desc.H);
  a.dc0 = staging.out(a.dc0, bytes, stacks, desc.B, desc.H);
  std::vector<LayerGrads> grads(a.dweights, a.dweights + stacks);
  for (size_t i = 0; i < grads.size(); ++i)
    for (int32_t w = 0; w < specs.count; ++w) {
      const WeightSize size = weight_size(specs.spec[w], width_of_input(desc, static_cast<int32_t>(i)), desc.H, desc.H);
      grads[i].weight[w] = staging.update(grads[i].weight[w], contiguous(bytes, size.count()));
    }
  a.dweights = grads.data();
  void* workspace = staging.scratch(sizes.backward);
  return staging.finish([&] { return inner().sequence->backward(&desc, &a, workspace, kStream); });
}

// Tapes lie in host memory and hold no addresses: where in them something is, the device's own function knows.
Status tape_view(const SequenceDesc* desc, const void* tape, int32_t index, TapeView* view) {
  return inner().sequence->tape_view(desc, tape, index, view);
}

// --------------------------------------------------------------------------------------------------------- matrix
size_t gemm_workspace(const GemmArgs*, int32_t) { return 0; }

Status gemm(const GemmArgs* args, void*, Stream) {
  Staging staging(inner(), kStream);
  GemmArgs a = *args;
  const int64_t bytes = bytes_of(a.dtype);
  const bool a_turned = a.kind == GemmKind::tn, b_turned = a.kind == GemmKind::nt;
  a.a = staging.in(a.a, matrix(bytes, a_turned ? a.K : a.M, a_turned ? a.M : a.K, a.lda));
  a.b = staging.in(a.b, matrix(bytes, b_turned ? a.N : a.K, b_turned ? a.K : a.N, a.ldb));
  a.bias = staging.in(a.bias, contiguous(bytes, a.N));
  const Extent c = matrix(bytes, a.M, a.N, a.ldc);
  a.c = a.accumulate ? staging.update(a.c, c) : staging.out(a.c, c);
  void* workspace = staging.scratch(inner().dense->gemm_workspace(&a, 1));
  return staging.finish([&] { return inner().dense->gemm(&a, workspace, kStream); });
}

Status column_sum(DType dtype, int64_t rows, int64_t columns, const void* a, int64_t lda, void* sum, Stream) {
  Staging staging(inner(), kStream);
  a = staging.in(a, matrix(bytes_of(dtype), rows, columns, lda));
  sum = staging.update(sum, contiguous(bytes_of(dtype), columns));
  return staging.finish([&] { return inner().dense->column_sum(dtype, rows, columns, a, lda, sum, kStream); });
}

// --------------------------------------------------------------------------------------------------------- layers
Status embedding_forward(const EmbeddingArgs* args, Stream) {
  Staging staging(inner(), kStream);
  EmbeddingArgs a = *args;
  a.ids = staging.in(a.ids, sizeof(int64_t));
  a.weight = staging.in(a.weight, contiguous(bytes_of(a.dtype), a.rows * a.width));
  a.y = staging.out(a.y, contiguous(bytes_of(a.dtype), a.count * a.width));
  return staging.finish([&] { return inner().dense->embedding_forward(&a, kStream); });
}

Status embedding_backward(const EmbeddingArgs* args, Stream) {
  Staging staging(inner(), kStream);
  EmbeddingArgs a = *args;
  a.ids = staging.in(a.ids, sizeof(int64_t));
  a.dy = staging.in(a.dy, bytes_of(a.dtype));
  a.dweight = staging.update(a.dweight, contiguous(bytes_of(a.dtype), a.rows * a.width));
  return staging.finish([&] { return inner().dense->embedding_backward(&a, kStream); });
}

Status layer_norm_forward(const LayerNormArgs* args, Stream) {
  Staging staging(inner(), kStream);
  LayerNormArgs a = *args;
  const int64_t bytes = bytes_of(a.dtype);
  a.x = staging.in(a.x, bytes);
  a.weight = staging.in(a.weight, contiguous(bytes, a.width));
  a.bias = staging.in(a.bias, contiguous(bytes, a.width));
  a.y = staging.out(a.y, contiguous(bytes, a.rows * a.width));
  a.mean = staging.out(a.mean, contiguous(sizeof *a.mean, a.rows));
  a.rstd = staging.out(a.rstd, contiguous(bytes, a.rows));
  return staging.finish([&] { return inner().dense->layer_norm_forward(&a, kStream); });
}

Status layer_norm_backward(const LayerNormArgs* args, Stream) {
  Staging staging(inner(), kStream);
  LayerNormArgs a = *args;
  const int64_t bytes = bytes_of(a.dtype);
  a.x = staging.in(a.x, bytes);
  a.weight = staging.in(a.weight, contiguous(bytes, a.width));
  a.mean = staging.in(a.mean, contiguous(sizeof *a.mean, a.rows));
  a.rstd = staging.in(a.rstd, contiguous(bytes, a.rows));
  a.dy = staging.in(a.dy, bytes);
  a.dx = staging.out(a.dx, contiguous(bytes, a.rows * a.width));
  a.dweight = staging.update(a.dweight, contiguous(bytes, a.width));
  a.dbias = staging.update(a.dbias, contiguous(bytes, a.width));
  return staging.finish([&] { return inner().dense->layer_norm_backward(&a, kStream); });
}

Status dropout(const DropoutArgs* args, Stream) {
  Staging staging(inner(), kStream);
  DropoutArgs a = *args;
  a.key_at = staging.in(a.key_at, contiguous(sizeof(uint64_t), 1));
  a.x = staging.in(a.x, bytes_of(a.dtype));
  a.y = staging.out(a.y, contiguous(bytes_of(a.dtype), a.count));
  return staging.finish([&] { return inner().dense->dropout(&a, kStream); });
}

Status last_forward(const LastArgs* args, Stream) {
  Staging staging(inner(), kStream);
  LastArgs a = *args;
  a.lengths = staging.in(a.lengths, contiguous(sizeof(int64_t), a.B));
  a.x = staging.in(a.x, bytes_of(a.dtype), a.T, a.B, a.N);
  a.y = staging.out(a.y, matrix(bytes_of(a.dtype), a.B, a.N, a.y_stride));
  return staging.finish([&] { return inner().dense->last_forward(&a, kStream); });
}

Status last_backward(const LastArgs* args, Stream) {
  Staging staging(inner(), kStream);
  LastArgs a = *args;
  a.lengths = staging.in(a.lengths, contiguous(sizeof(int64_t), a.B));
  a.x = staging.out(a.x, bytes_of(a.dtype), a.T, a.B, a.N);
  a.y = staging.in(a.y, matrix(bytes_of(a.dtype), a.B, a.N, a.y_stride));
  return staging.finish([&] { return inner().dense->last_backward(&a, kStream); });
}

// --------------------------------------------------------------------------------------------------------- losses
Status loss(const LossArgs* args, Stream) {
  Staging staging(inner(), kStream);
  LossArgs a = *args;
  const int64_t bytes = bytes_of(a.dtype), elements = a.rows * a.classes;
  const LossFacts& facts = facts_of(a.spec.kind);
  a.pred = staging.in(a.pred, bytes);
  a.target = staging.in(a.target, facts.target == TargetType::index ? sizeof(int64_t) : bytes);
  a.mask = staging.in(a.mask, 1);
  a.weight = staging.in(a.weight, contiguous(sizeof *a.weight, a.weights));
  a.loss =
      staging.out(a.loss, a.spec.reduction == Reduction::none ? contiguous(bytes, facts.by_rows ? a.rows : elements)
                                                              : contiguous(sizeof(double), 1));
  a.dpred = staging.out(a.dpred, contiguous(bytes, elements));
  a.partials = static_cast<double*>(staging.scratch(loss_partials(a) * sizeof(double)));
  return staging.finish([&] { return inner().losses->loss(&a, kStream); });
}

// ----------------------------------------------------------------------------------------------------- optimizers
std::vector<Segment> updated_segments(Staging& staging, const OptimizerArgs& a) {
  std::vector<Segment> segments(a.segment, a.segment + a.segments);
  for (Segment& s : segments) {
    const Extent extent = contiguous(bytes_of(a.dtype), s.count);
    s.param = staging.update(s.param, extent);
    s.grad = staging.in(s.grad, extent);
    for (void*& state : s.state) state = staging.update(state, extent);
  }
  return segments;
}

Status optimizer(const OptimizerArgs* args, Stream) {
  Staging staging(inner(), kStream);
  OptimizerArgs a = *args;
  const std::vector<Segment> segments = updated_segments(staging, a);
  a.segment = segments.data();
  a.clip_factor = staging.in(a.clip_factor, contiguous(sizeof(double), 1));
  return staging.finish([&] { return inner().optim->optimizer(&a, kStream); });
}

Status norm(const NormArgs* args, Stream) {
  Staging staging(inner(), kStream);
  NormArgs a = *args;
  std::vector<GradientGroup> groups(a.group, a.group + a.groups);
  std::vector<std::vector<Segment>> segments;
  for (GradientGroup& g : groups) {
    segments.emplace_back(g.segment, g.segment + g.segments);
    for (Segment& s : segments.back())
      s = Segment{nullptr, staging.in(s.grad, contiguous(bytes_of(g.dtype), s.count)), {}, s.count};
    g.segment = segments.back().data();
  }
  a.group = groups.data();
  a.norm = staging.out(a.norm, contiguous(sizeof(double), 1));
  a.clip_factor = staging.out(a.clip_factor, contiguous(sizeof(double), 1));
  a.partials = static_cast<double*>(staging.scratch(norm_partials(a) * sizeof(double)));
  return staging.finish([&] { return inner().optim->norm(&a, kStream); });
}

Status clipped_update(const ClippedUpdateArgs* args, Stream) {
  Staging staging(inner(), kStream);
  ClippedUpdateArgs a = *args;
  std::vector<UpdateGroup> groups(a.group, a.group + a.groups);
  std::vector<std::vector<Segment>> segments;
  for (UpdateGroup& g : groups) {
    segments.push_back(updated_segments(staging, g.update));
    g.update.segment = segments.back().data();
    g.lr = staging.in(g.lr, contiguous(sizeof(double), 1));
    g.steps = staging.update(g.steps, contiguous(sizeof(int64_t), 2));
  }
  a.group = groups.data();
  a.norm = staging.out(a.norm, contiguous(sizeof(double), 1));
  a.partials = static_cast<double*>(staging.scratch(norm_partials(a) * sizeof(double)));
  return staging.finish([&] { return inner().optim->clipped_update(&a, kStream); });
}

std::vector<Segment> updated_grads(Staging& staging, DType dtype, int64_t count, const Segment* segment) {
  std::vector<Segment> segments(segment, segment + count);
  for (Segment& s : segments) {
    s = Segment{nullptr, staging.update(s.grad, contiguous(bytes_of(dtype), s.count)), {}, s.count};
  }
  return segments;
}

Status scale(DType dtype, int64_t count, const Segment* segment, const double* factor, Stream) {
  Staging staging(inner(), kStream);
  const std::vector<Segment> segments = updated_grads(staging, dtype, count, segment);
  factor = staging.in(factor, contiguous(sizeof(double), 1));
  return staging.finish([&] { return inner().optim->scale(dtype, count, segments.data(), factor, kStream); });
}

Status clip_value(DType dtype, int64_t count, const Segment* segment, double limit, Stream) {
  Staging staging(inner(), kStream);
  const std::vector<Segment> segments = updated_grads(staging, dtype, count, segment);
  return staging.finish([&] { return inner().optim->clip_value(dtype, count, segments.data(), limit, kStream); });
}

constexpr SequenceOps kSequenceOps = {plan, sizes, pack, forward, backward, tape_view};
constexpr DenseOps kDenseOps = {
    gemm_workspace,      gemm,    column_sum,   embedding_forward, embedding_backward, layer_norm_forward,
    layer_norm_backward, dropout, last_forward, last_backward};
constexpr LossOps kLossOps = {loss};
constexpr OptimOps kOptimOps = {optimizer, norm, clipped_update, scale, clip_value};

Backend table() {
  return {inner().abi,    inner().size,  inner().name, status_text,      describe,    host_alloc,
          host_free,      host_copy,     host_fill,    host_synchronize, kHostMemory, host_device,
          host_device_of, &kSequenceOps, &kDenseOps,   &kLossOps,        &kOptimOps,  nullptr};
}

}  // namespace
}  // namespace fusedrnn::host_memory

extern "C" __attribute__((visibility("default"))) const fusedrnn::Backend* fusedrnn_plugin(uint32_t, char* why,
                                                                                           size_t why_bytes) {
  using namespace fusedrnn;
  if (host_memory::device().backend == nullptr) {
    std::snprintf(why, why_bytes, "%s", host_memory::device().why_not.c_str());
    return nullptr;
  }
  static const Backend table = host_memory::table();
  return &table;
}
