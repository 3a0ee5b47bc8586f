// What of a call's arrays its checks depend on: where a call with the same signature has succeeded there is no need to
// check types, shapes and strides again.
#pragma once

#include <vector>

#include "bindings/arrays/device_array.hpp"

namespace fusedrnn {

class Signature {
 public:
  void clear() { words_.clear(); }
  void add(int64_t word) { words_.push_back(word); }

  // A NumPy array, a device's, or None. False for anything else, which no signature describes.
  bool add(py::handle value) {
    if (value.is_none()) {
      words_.push_back(-1);
      return true;
    }
    if (Py_TYPE(value.ptr()) != py::detail::npy_api::get().PyArray_Type_) {
      const DeviceArray* there = as_device_array(value);
      if (there != nullptr) add(*there);
      return there != nullptr;
    }
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
  void add(const DeviceArray& array) {
    words_.push_back(-2 - array.device());
    words_.push_back(static_cast<int64_t>(array.element()));
    words_.push_back(static_cast<int64_t>(array.sizes().size()));
    words_.insert(words_.end(), array.sizes().begin(), array.sizes().end());
    words_.insert(words_.end(), array.strides().begin(), array.strides().end());
  }

  std::vector<int64_t> words_;
};

}  // namespace fusedrnn
