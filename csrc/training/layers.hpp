// The layers of all layers but the recurrent ones: Linear, Embedding, LayerNorm, Dropout, Last.
#pragma once

#include "training/embedding.hpp"
#include "training/layer.hpp"
#include "training/linear.hpp"

namespace fusedrnn::training {

// A parameter and its gradient; absent where `data` is nullptr.
struct Weight {
  const void* data = nullptr;
  void* grad = nullptr;  // also of one that is frozen
};

class LinearLayer : public Layer {
 public:
  LinearLayer(const Backend& backend, DType dtype, Precision precision, int64_t out, Weight weight, Weight bias)
      : backend_(backend), dtype_(dtype), precision_(precision), out_(out), weight_(weight), bias_(bias) {}

  Shape output(const Shape& input) const override;
  size_t fit(const View& x, const Sequence&, int32_t threads) override;
  double flops() const override { return flops_; }
  bool trains() const override { return weight_.grad || bias_.grad; }
  Status forward(const View& x, void* y, const Sequence&, void* workspace, Stream stream) override;
  Status backward(const View& x, const View& dy, void* dx, const Sequence&, void* workspace, Stream stream) override;

 private:
  LinearArgs forward_args(const View& x, void* y) const;
  LinearArgs backward_args(const View& x, const View& dy, void* dx) const;

  const Backend& backend_;
  const DType dtype_;
  const Precision precision_;
  const int64_t out_;
  const Weight weight_, bias_;
  double flops_ = 0;
};

class EmbeddingLayer : public Layer {
 public:
  // padding: the row without a gradient, or kNoPadding.
  EmbeddingLayer(const Backend& backend, DType dtype, int64_t rows, int64_t width, Weight weight,
                 int64_t padding = kNoPadding)
      : backend_(backend), dtype_(dtype), rows_(rows), width_(width), weight_(weight), padding_(padding) {}

  int64_t rows() const { return rows_; }
  Shape output(const Shape& input) const override;
  size_t fit(const View& x, const Sequence&, int32_t) override;
  bool trains() const override { return weight_.grad != nullptr; }
  Status forward(const View& x, void* y, const Sequence&, void*, Stream stream) override;
  Status backward(const View& x, const View& dy, void*, const Sequence&, void* workspace, Stream stream) override;

 private:
  EmbeddingArgs args(const View& ids) const;

  const Backend& backend_;
  const DType dtype_;
  const int64_t rows_, width_;
  const Weight weight_;
  const int64_t padding_;
};

class LayerNormLayer : public Layer {
 public:
  LayerNormLayer(const Backend& backend, DType dtype, double eps, Weight weight, Weight bias)
      : backend_(backend), dtype_(dtype), eps_(eps), weight_(weight), bias_(bias), mean_(backend), rstd_(backend) {}

  Shape output(const Shape& input) const override { return input; }
  size_t fit(const View& x, const Sequence&, int32_t) override;
  bool trains() const override { return weight_.grad || bias_.grad; }
  Status forward(const View& x, void* y, const Sequence&, void*, Stream stream) override;
  Status backward(const View& x, const View& dy, void* dx, const Sequence&, void* workspace, Stream stream) override;

 private:
  LayerNormArgs args(const View& x) const;

  const Backend& backend_;
  const DType dtype_;
  const double eps_;
  const Weight weight_, bias_;
  Buffer mean_, rstd_;
};

class DropoutLayer : public Layer {
 public:
  DropoutLayer(const Backend& backend, DType dtype, double p) : backend_(backend), dtype_(dtype), p_(p) {}

  bool has_key() const override { return true; }
  void set_key(uint64_t key) override { key_ = key; }
  void set_key_at(const uint64_t* at) override { key_at_ = at; }
  Shape output(const Shape& input) const override { return input; }
  size_t fit(const View&, const Sequence&, int32_t) override { return 0; }
  Status forward(const View& x, void* y, const Sequence&, void*, Stream stream) override { return drop(x, y, stream); }
  Status backward(const View&, const View& dy, void* dx, const Sequence&, void*, Stream stream) override {
    return dx ? drop(dy, dx, stream) : Status::ok;
  }

 private:
  Status drop(const View& from, void* to, Stream stream) const;

  const Backend& backend_;
  const DType dtype_;
  const double p_;
  uint64_t key_ = 0;
  const uint64_t* key_at_ = nullptr;
};

class LastLayer : public Layer {
 public:
  LastLayer(const Backend& backend, DType dtype, bool batch_first)
      : backend_(backend), dtype_(dtype), batch_first_(batch_first) {}

  bool batch_first() const { return batch_first_; }
  Shape output(const Shape& input) const override;
  size_t fit(const View&, const Sequence&, int32_t) override { return 0; }
  Status forward(const View& x, void* y, const Sequence& sequence, void*, Stream stream) override;
  Status backward(const View& x, const View& dy, void* dx, const Sequence& sequence, void*, Stream stream) override;

 private:
  LastArgs args(const View& x, const Sequence& sequence) const;

  const Backend& backend_;
  const DType dtype_;
  const bool batch_first_;
};

}  // namespace fusedrnn::training
