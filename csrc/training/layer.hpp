// A layer's part in a training step: what it makes of its input, what it keeps until backward.
#pragma once

#include <cstdint>

#include "training/buffer.hpp"
#include "training/view.hpp"

namespace fusedrnn::training {

// The sequence arguments of a call; the same for all layers. Contiguous copies.
struct Sequence {
  const int64_t* lengths = nullptr;  // (B,) or absent
  const uint8_t* resets = nullptr;   // (T, B) or absent
};

class Layer {
 public:
  virtual ~Layer() = default;

  // Sizes of what it writes.
  virtual Shape output(const Shape& input) const = 0;

  // Makes room for inputs like `x` and the given number of threads; `sequence` says what of it will be present.
  // Returns the bytes of workspace that forward and backward ask for.
  virtual size_t fit(const View& x, const Sequence& sequence, int32_t threads) = 0;

  // Multiply-adds of products in forward, counted twice, for what it was fitted to.
  virtual double flops() const { return 0; }

  // Whether backward adds to a gradient: not where all weights are frozen, or there are none.
  virtual bool trains() const { return false; }

  // What has to be done before forward, in elements it goes through (0: nothing), and doing it.
  virtual int64_t preparation() const { return 0; }
  virtual Status prepare(Stream) { return Status::ok; }

  // x is the one of forward in both; y, dy and dx are in C order, dx is nullptr where it is not wanted.
  virtual Status forward(const View& x, void* y, const Sequence& sequence, void* workspace, Stream stream) = 0;
  virtual Status backward(const View& x, const View& dy, void* dx, const Sequence& sequence, void* workspace,
                          Stream stream) = 0;

  // Whether it draws a dropout mask, and the key of the next call's, or where in backend memory it will be.
  virtual bool has_key() const { return false; }
  virtual void set_key(uint64_t) {}
  virtual void set_key_at(const uint64_t*) {}
};

}  // namespace fusedrnn::training
