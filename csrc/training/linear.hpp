// y = x W^T + b and its gradients, through a backend's gemm. Rows may lie anywhere (Strided): they are taken in the
// largest blocks that one stride walks, ordinary arrays in one.
#pragma once

#include "backend/backend.hpp"
#include "backend/scratch.hpp"

namespace fusedrnn {

// x (rows, in), weight (out, in), bias (out,), y (rows, out), dy (rows, out), dx (rows, in). What is nullptr is absent.
struct LinearArgs {
  DType dtype;
  Precision precision;
  int64_t rows, in, out;
  Strided x;
  const void* weight;
  const void* bias;
  void* y;
  Strided dy;
  void* dx;
  void* dweight;  // adds into
  void* dbias;    // adds into
};

class Linear {
 public:
  Linear(const Backend& backend, const LinearArgs& args) : backend_(backend), a_(args) {}

  Status forward(void* workspace, Stream stream) const {
    return for_blocks([&](int64_t first, int64_t count) {
      const GemmArgs g = y_gemm(first, count);
      return backend_.dense->gemm(&g, workspace, stream);
    });
  }

  Status backward(void* workspace, Stream stream) const {
    return for_blocks([&](int64_t first, int64_t count) {
      Status status = Status::ok;
      if (a_.dx) {
        const GemmArgs g = dx_gemm(first, count);
        status = backend_.dense->gemm(&g, workspace, stream);
      }
      if (a_.dweight && status == Status::ok) {
        const GemmArgs g = dweight_gemm(first, count);
        status = backend_.dense->gemm(&g, workspace, stream);
      }
      if (a_.dbias && status == Status::ok)
        status = backend_.dense->column_sum(a_.dtype, count, a_.out, at(a_.dy, first), stride(a_.dy), a_.dbias, stream);
      return status;
    });
  }

  // Bytes of workspace for either.
  size_t forward_workspace(int32_t threads) const {
    const GemmArgs g = y_gemm(0, block());
    return backend_.dense->gemm_workspace(&g, threads);
  }
  size_t backward_workspace(int32_t threads) const {
    const GemmArgs dx = dx_gemm(0, block()), dweight = dweight_gemm(0, block());
    const size_t one = a_.dx ? backend_.dense->gemm_workspace(&dx, threads) : 0;
    const size_t other = a_.dweight ? backend_.dense->gemm_workspace(&dweight, threads) : 0;
    return one > other ? one : other;
  }

 private:
  template <class Body>
  Status for_blocks(const Body& body) const {
    Status status = Status::ok;
    for (int64_t first = 0; first < a_.rows && status == Status::ok; first += block()) status = body(first, block());
    return status;
  }

  // Rows of the innermost axis; where x and dy are walked together, the smaller one, which divides the other.
  int64_t block() const {
    const int64_t x = inner(a_.x), dy = inner(a_.dy);
    return a_.dy.data && dy < x ? dy : x;
  }
  static int64_t inner(const Strided& rows) { return rows.axes == 0 ? rows.rows : rows.size[rows.axes - 1]; }
  static int64_t stride(const Strided& rows) { return rows.axes == 0 ? rows.width : rows.stride[rows.axes - 1]; }

  char* offset(const void* data, int64_t elements) const {
    return static_cast<char*>(const_cast<void*>(data)) + elements * bytes_of(a_.dtype);
  }
  const void* at(const Strided& rows, int64_t row) const {
    int64_t elements = 0;
    // Row 0 is where the data begins, and the only one of an array with an axis of size 0.
    for (int32_t axis = rows.axes - 1; axis >= 0 && row > 0; row /= rows.size[axis--])
      elements += row % rows.size[axis] * rows.stride[axis];
    return offset(rows.data, elements);
  }

  GemmArgs y_gemm(int64_t first, int64_t count) const {
    return {GemmKind::nt,
            a_.dtype,
            a_.precision,
            0,
            count,
            a_.out,
            a_.in,
            at(a_.x, first),
            a_.weight,
            a_.bias,
            offset(a_.y, first * a_.out),
            stride(a_.x),
            a_.in,
            a_.out};
  }
  GemmArgs dx_gemm(int64_t first, int64_t count) const {
    return {GemmKind::nn,
            a_.dtype,
            a_.precision,
            0,
            count,
            a_.in,
            a_.out,
            at(a_.dy, first),
            a_.weight,
            nullptr,
            offset(a_.dx, first * a_.in),
            stride(a_.dy),
            a_.in,
            a_.in};
  }
  GemmArgs dweight_gemm(int64_t first, int64_t count) const {
    return {GemmKind::tn,     a_.dtype,        a_.precision, 1,          a_.out,        a_.in,        count,
            at(a_.dy, first), at(a_.x, first), nullptr,      a_.dweight, stride(a_.dy), stride(a_.x), a_.in};
  }

  const Backend& backend_;
  LinearArgs a_;
};

}  // namespace fusedrnn
