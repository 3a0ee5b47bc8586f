// Arrays between the layers of a training step.
#pragma once

#include "backend/backend.hpp"

namespace fusedrnn::training {

constexpr int32_t kMaxRank = kMaxAxes;

// Sizes of an array, the last one that of its rows.
struct Shape {
  int32_t rank = 0;
  int64_t size[kMaxRank] = {};

  int64_t last() const { return size[rank - 1]; }
  int64_t rows() const {
    int64_t n = 1;
    for (int32_t i = 0; i + 1 < rank; ++i) n *= size[i];
    return n;
  }
  int64_t count() const { return rows() * last(); }
};

// An array in the forms in which kernels ask for one; `sequence` is indexed by its first two axes as they come.
struct View {
  Shape shape;
  Strided rows = {}, elements = {};
  Array3 sequence = {};

  void point_to(const void* data) {
    rows.data = elements.data = data;
    sequence.data = const_cast<void*>(data);
  }
};

// `data` in C order.
inline View contiguous(const Shape& shape, const void* data) {
  View view;
  view.shape = shape;
  view.rows.rows = shape.rows();
  view.rows.width = shape.last();
  if (view.rows.rows != 1) {
    view.rows.axes = 1;
    view.rows.size[0] = view.rows.rows;
    view.rows.stride[0] = view.rows.width;
  }
  view.elements.rows = 1;
  view.elements.width = shape.count();
  if (shape.rank == 3) view.sequence = Array3{nullptr, shape.size[1] * shape.size[2], shape.size[2]};
  view.point_to(data);
  return view;
}

}  // namespace fusedrnn::training
