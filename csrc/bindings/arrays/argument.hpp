// Arguments of the bindings, checked: what comes in is used as it is or refused, never converted or copied.
//
//   // read by the call: positive strides, 1 on the last axis
//   const Argument x = input("x", x_object, any_float, {{"T"}, {"B"}, {"I", sizes.I}});
//   const Argument w = input("weight", w_object, x.element(), {{"N"}, {"I", x.size(2)}});
//   // written by the call: contiguous and writable
//   const Argument d = output("dweight", d_object, x.element(), {{"N", N}, {"I", x.size(2)}});
//   // the same, absent when None (optional_output likewise)
//   const Argument b = optional_input("bias", b_object, x.element(), {{"N", N}});
//   // outputs share no memory with inputs or each other
//   disjoint({&d}, {&x, &w});
//   // 64-byte aligned, not initialised
//   py::array y = fresh(x.element(), {T, B, H}, "y");
//   {
//     GilRelease release;
//     TeamLease lease;
//     check(backend, backend.dense->gemm(...), "linear_forward");
//   }
//
// Axes are written as in the documentation; one without a size accepts any, and {"..."} in front stands for any number
// of leading axes. A wrong type or dtype raises TypeError; a wrong shape, stride or value ValueError. Each message
// names the argument, what it must be, what it is and, where there is one, the fix. A Location with a device asks for
// device arrays (device_array.hpp) instead of NumPy arrays, and neither is taken for the other:
//   x must be (T, B, I) = (T, B, 7), it is (5, 3, 8)
//   x must be float32, it is float64: use x.astype(np.float32)
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.hpp"

namespace fusedrnn {

namespace py = pybind11;

class Block;

// What elements may be. `any_float` in a request means float32 or float64; an Argument's own element is never that.
enum class Element { any_float, float32, float64, int64, boolean, uint8 };
constexpr Element any_float = Element::any_float;

const char* name_of(Element element);
int64_t bytes_of(Element element);
DType dtype_of(Element element);             // of float32 and float64
Element element_of(DType dtype);             // of float32 and float64
DType dtype_named(const std::string& name);  // one of those two, else ValueError
py::dtype numpy_of(Element element);

struct Axis {
  const char* name;
  int64_t size = -1;  // -1: any
};

// Where the arrays of a call are, and whose they may be.
struct Location {
  Location(const Backend* device = nullptr) : device(device) {}

  const Backend* device;  // device arrays of this one; nullptr: in host memory
  bool tensors = false;   // in host memory: tensors of other libraries (tensor.hpp) beside NumPy's arrays
};

// An array that passed its checks. Keeps a reference to it. Absent (a None) when data() is nullptr and !present().
class Argument {
 public:
  Argument() = default;

  bool present() const { return static_cast<bool>(array_); }
  const std::string& name() const { return name_; }
  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  Element element() const { return element_; }
  DType dtype() const { return dtype_of(element_); }
  int64_t rank() const { return static_cast<int64_t>(sizes_.size()); }
  int64_t size(int64_t axis) const { return sizes_[static_cast<size_t>(axis)]; }
  const std::vector<int64_t>& sizes() const { return sizes_; }
  int64_t stride(int64_t axis) const { return strides_[static_cast<size_t>(axis)]; }  // elements
  int64_t count() const;                                                              // of elements

  bool contiguous() const;
  void require_contiguous() const;  // ValueError otherwise

  // The leading axes as one: `count` rows, `stride` elements apart. ValueError where one stride cannot walk them.
  struct Rows {
    int64_t count, stride;
  };
  Rows rows() const;

  // Whether `value` is a tensor (tensor.hpp), contiguous, of this one's memory, sizes and element, and so needs no
  // check again; it is then the one that is kept alive.
  bool is_still(py::handle value);

  // What a device array lies in, nullptr otherwise: a call that did not check the argument itself has to say that it
  // uses it.
  std::shared_ptr<Block> block() const;

  // Rank 3 as kernels index it, (i, j, feature) with the first two axes exchanged on demand (batch_first).
  Array3 array3(bool exchange = false) const;

 private:
  friend Argument checked(std::string name, py::handle value, Element element, const Axis* axes, size_t count,
                          bool write, Location location);

  std::string name_;
  py::object array_;  // null when absent
  void* data_ = nullptr;
  Element element_ = Element::any_float;
  std::vector<int64_t> sizes_, strides_;
};

using Axes = std::initializer_list<Axis>;

// Read by the call: unit stride on the last axis, positive strides on the others.
Argument input(std::string name, py::handle value, Element element, Axes axes, Location location = {});
Argument optional_input(std::string name, py::handle value, Element element, Axes axes, Location location = {});

// Integers that choose elements (ids, classes, lengths), of any integer type and strides, or a list of them: a copy of
// the call's own in host memory, so that what is checked is what is used. On a device int64, as `input`.
Argument integers(std::string name, py::handle value, Axes axes, Location location = {});
py::array own_integers(const std::string& name, py::handle value);

// Written, or added into: writable and contiguous.
Argument output(std::string name, py::handle value, Element element, Axes axes, Location location = {});
Argument optional_output(std::string name, py::handle value, Element element, Axes axes, Location location = {});

// ValueError when an output shares a byte with an input or with another output. Absent arguments are passed over.
void disjoint(std::initializer_list<const Argument*> outputs, std::initializer_list<const Argument*> inputs);
void disjoint(const std::vector<const Argument*>& outputs, const std::vector<const Argument*>& inputs);

// A new array of the caller's own: 64-byte aligned, not initialised (NaN under FUSEDRNN_POISON=1). ValueError when its
// size in bytes overflows, MemoryError when there is not that much; `name` says which result it was to be.
py::array fresh(Element element, const std::vector<int64_t>& sizes, const char* name);

// The product of sizes, each >= 0; ValueError, naming `what`, when it exceeds 2^62.
int64_t product(const char* what, const std::vector<int64_t>& sizes);

// Scalars. TypeError when `value` is no number of the kind, ValueError when it is NaN or outside [low, high].
int64_t integer(const char* name, py::handle value, int64_t low, int64_t high);
uint64_t unsigned_integer(const char* name, py::handle value);
double real(const char* name, py::handle value, double low, double high);
bool flag(const char* name, py::handle value);  // True or False, of Python's or NumPy's

// Names in quotes, as in "'a', 'b' or 'c'" with `last` "or".
std::string quoted(const std::vector<const char*>& names, const std::string& last);

// "name must be <must>, it is <was>" as a ValueError or TypeError.
[[noreturn]] void bad_value(const std::string& name, const std::string& must, const std::string& was);
[[noreturn]] void bad_type(const std::string& name, const std::string& must, const std::string& was);

}  // namespace fusedrnn
