#include "training/layers.hpp"

#include <algorithm>
#include <utility>

#include "backend/scratch.hpp"

namespace fusedrnn::training {
namespace {

// Axes 0 and 1 of a sequence as (t, b).
Array3 time_first(Array3 sequence, bool batch_first) {
  if (batch_first) std::swap(sequence.stride0, sequence.stride1);
  return sequence;
}

}  // namespace

// ------------------------------------------------------------------------------------------------------- linear
Shape LinearLayer::output(const Shape& input) const {
  Shape shape = input;
  shape.size[shape.rank - 1] = out_;
  return shape;
}

LinearArgs LinearLayer::forward_args(const View& x, void* y) const {
  LinearArgs a = {};
  a.dtype = dtype_;
  a.precision = precision_;
  a.x = x.rows;
  a.rows = x.rows.rows;
  a.in = x.shape.last();
  a.out = out_;
  a.weight = weight_.data;
  a.bias = bias_.data;
  a.y = y;
  return a;
}

LinearArgs LinearLayer::backward_args(const View& x, const View& dy, void* dx) const {
  LinearArgs a = forward_args(x, nullptr);
  a.bias = nullptr;
  a.dy = dy.rows;
  a.dx = dx;
  a.dweight = weight_.grad;
  a.dbias = bias_.grad;
  return a;
}

size_t LinearLayer::fit(const View& x, const Sequence&, int32_t threads) {
  void* const any = const_cast<void*>(weight_.data);  // sizes are asked for, nothing is read or written
  const View dy = contiguous(output(x.shape), any);
  const LinearArgs forward = forward_args(x, nullptr), backward = backward_args(x, dy, any);
  flops_ = 2.0 * static_cast<double>(forward.rows * forward.in * out_);
  return std::max(Linear(backend_, forward).forward_workspace(threads),
                  Linear(backend_, backward).backward_workspace(threads));
}

Status LinearLayer::forward(const View& x, void* y, const Sequence&, void* workspace, Stream stream) {
  return Linear(backend_, forward_args(x, y)).forward(workspace, stream);
}

Status LinearLayer::backward(const View& x, const View& dy, void* dx, const Sequence&, void* workspace, Stream stream) {
  return Linear(backend_, backward_args(x, dy, dx)).backward(workspace, stream);
}

// ---------------------------------------------------------------------------------------------------- embedding
Shape EmbeddingLayer::output(const Shape& input) const {
  Shape shape = input;
  shape.size[shape.rank++] = width_;
  return shape;
}

EmbeddingArgs EmbeddingLayer::args(const View& ids) const {
  EmbeddingArgs a = {};
  a.dtype = dtype_;
  a.count = ids.shape.count();
  a.rows = rows_;
  a.width = width_;
  a.ids = ids.elements;
  return a;
}

size_t EmbeddingLayer::fit(const View& x, const Sequence&, int32_t) {
  return padding_ == kNoPadding ? 0 : row_bytes(args(x));
}

Status EmbeddingLayer::forward(const View& x, void* y, const Sequence&, void*, Stream stream) {
  EmbeddingArgs a = args(x);
  a.weight = weight_.data;
  a.y = y;
  return backend_.dense->embedding_forward(&a, stream);
}

Status EmbeddingLayer::backward(const View& x, const View& dy, void*, const Sequence&, void* workspace, Stream stream) {
  if (!weight_.grad) return Status::ok;
  EmbeddingArgs a = args(x);
  a.dy = dy.rows;
  a.dweight = weight_.grad;
  return embedding_backward(backend_, a, padding_, workspace, stream);
}

// --------------------------------------------------------------------------------------------------- layer norm
LayerNormArgs LayerNormLayer::args(const View& x) const {
  LayerNormArgs a = {};
  a.dtype = dtype_;
  a.rows = x.rows.rows;
  a.width = x.rows.width;
  a.eps = eps_;
  a.x = x.rows;
  a.weight = weight_.data;
  a.mean = static_cast<double*>(mean_.data());
  a.rstd = rstd_.data();
  return a;
}

// The entry writes dx in any case: where it is not wanted, into the workspace.
size_t LayerNormLayer::fit(const View& x, const Sequence&, int32_t) {
  const auto rows = static_cast<size_t>(x.rows.rows);
  mean_.reserve(rows * sizeof(double));
  rstd_.reserve(rows * static_cast<size_t>(bytes_of(dtype_)));
  return static_cast<size_t>(x.shape.count() * bytes_of(dtype_));
}

Status LayerNormLayer::forward(const View& x, void* y, const Sequence&, void*, Stream stream) {
  LayerNormArgs a = args(x);
  a.bias = bias_.data;
  a.y = y;
  return backend_.dense->layer_norm_forward(&a, stream);
}

Status LayerNormLayer::backward(const View& x, const View& dy, void* dx, const Sequence&, void* workspace,
                                Stream stream) {
  LayerNormArgs a = args(x);
  a.dy = dy.rows;
  a.dx = dx ? dx : workspace;
  a.dweight = weight_.grad;
  a.dbias = bias_.grad;
  return backend_.dense->layer_norm_backward(&a, stream);
}

// ------------------------------------------------------------------------------------------------ dropout, last
Status DropoutLayer::drop(const View& from, void* to, Stream stream) const {
  DropoutArgs a = {};
  a.dtype = dtype_;
  a.count = from.shape.count();
  a.p = p_;
  a.key = key_;
  a.key_at = key_at_;
  a.x = from.elements;
  a.y = to;
  return backend_.dense->dropout(&a, stream);
}

Shape LastLayer::output(const Shape& input) const {
  Shape shape;
  shape.rank = 2;
  shape.size[0] = input.size[batch_first_ ? 0 : 1];
  shape.size[1] = input.size[2];
  return shape;
}

LastArgs LastLayer::args(const View& x, const Sequence& sequence) const {
  LastArgs a = {};
  a.dtype = dtype_;
  a.T = x.shape.size[batch_first_ ? 1 : 0];
  a.B = x.shape.size[batch_first_ ? 0 : 1];
  a.N = x.shape.size[2];
  a.lengths = sequence.lengths;
  a.x = time_first(x.sequence, batch_first_);
  a.y_stride = a.N;
  return a;
}

Status LastLayer::forward(const View& x, void* y, const Sequence& sequence, void*, Stream stream) {
  LastArgs a = args(x, sequence);
  a.y = y;
  return backend_.dense->last_forward(&a, stream);
}

Status LastLayer::backward(const View& x, const View& dy, void* dx, const Sequence& sequence, void*, Stream stream) {
  if (!dx) return Status::ok;
  LastArgs a = args(contiguous(x.shape, dx), sequence);
  a.y = const_cast<void*>(dy.rows.data);
  return backend_.dense->last_backward(&a, stream);
}

}  // namespace fusedrnn::training
