// What of a call's arrays its checks depend on: whoever has seen a call with the same signature succeed need not check
// types, shapes and strides again.
#pragma once

#include <vector>

#include "bindings/array.hpp"

namespace fusedrnn {

class Signature {
 public:
  void clear() { words_.clear(); }
  void add(int64_t word) { words_.push_back(word); }

  // A NumPy array, or None. False for anything else, which no signature describes.
  bool add(py::handle value) {
    if (value.is_none()) {
      words_.push_back(-1);
      return true;
    }
    if (Py_TYPE(value.ptr()) != py::detail::npy_api::get().PyArray_Type_) return false;
    const auto array = py::reinterpret_borrow<py::array>(value);
    const py::dtype dtype = array.dtype();
    const bool aligned = (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
    words_.push_back(dtype.num());
    words_.push_back(dtype.byteorder() * 2 + aligned);
    words_.push_back(array.ndim());
    for (py::ssize_t i = 0; i < array.ndim(); ++i) {
      words_.push_back(array.shape(i));
      words_.push_back(array.strides(i));
    }
    return true;
  }

  bool operator==(const Signature& other) const { return words_ == other.words_; }
  bool operator<(const Signature& other) const { return words_ < other.words_; }

 private:
  std::vector<int64_t> words_;
};

}  // namespace fusedrnn
