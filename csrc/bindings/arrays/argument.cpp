#include "bindings/arrays/argument.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <stdexcept>
#include <utility>

#include "backend/scratch.hpp"
#include "bindings/arrays/device_array.hpp"
#include "bindings/arrays/tensor.hpp"
#include "runtime/error.hpp"
#include "runtime/memory.hpp"

namespace fusedrnn {
namespace {

struct Kind {
  char kind;  // numpy's dtype.kind
  int64_t bytes;
};

Kind kind_of(Element element) {
  switch (element) {
    case Element::float32:
      return {'f', bytes_of(DType::float32)};
    case Element::float64:
      return {'f', bytes_of(DType::float64)};
    case Element::int64:
      return {'i', 8};
    case Element::uint8:
      return {'u', 1};
    case Element::boolean:
      return {'b', 1};
    case Element::any_float:
      break;
  }
  return {0, 0};  // of an absent argument
}

std::string quoted_type(py::handle value) {
  const py::handle type = py::type::handle_of(value);
  const std::string module = py::str(type.attr("__module__"));
  const std::string name = py::str(type.attr("__qualname__"));
  return module == "builtins" ? name : module + "." + name;
}

bool is_array(py::handle value) {
  if (!py::isinstance<py::array>(value)) return false;
  const PyTypeObject* exact = py::detail::npy_api::get().PyArray_Type_;
  return Py_TYPE(value.ptr()) == exact || py::isinstance(value, py::module_::import("numpy").attr("memmap"));
}

// What `value` is, and what to do to have what is wanted: an array on `device`, or with nullptr a NumPy array.
[[noreturn]] void not_an_array(const std::string& name, py::handle value, const Backend* device) {
  const std::string type = quoted_type(value);
  const DeviceArray* found = as_device_array(value);
  std::string must = "a NumPy array", was = value.is_none() ? "None" : "of type " + type,
              fix = "np.asarray(" + name + ")";
  if (device != nullptr) {
    must = "a DeviceArray on " + place_of(*device, device->device());
    fix = "fr.asarray(" + name + ", device=\"cuda\")";
    if (is_array(value)) was = "a NumPy array";
  } else if (found != nullptr) {
    was = "a DeviceArray on " + place_of(found->backend(), found->device());
    fix = name + ".numpy()";
  } else if (type.rfind("numpy.ma.", 0) == 0) {
    fix = name + ".filled(value)";
  } else if (type == "torch.Tensor") {
    fix = name + ".detach().numpy()";
  }
  throw py::type_error(name + " must be " + must + ", it is " + was + ": use " + fix);
}

// What is looked at of an array, wherever it is.
struct Shape {
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;  // bytes
};

Shape shape_of(const py::array& array) {
  return {{array.shape(), array.shape() + array.ndim()}, {array.strides(), array.strides() + array.ndim()}};
}

Shape shape_of(const DeviceArray& array) {
  Shape shape{array.sizes(), array.strides()};
  for (int64_t& stride : shape.strides) stride *= bytes_of(array.element());
  return shape;
}

Shape shape_of(const DlTensor& tensor, int64_t bytes) {
  Shape shape{{tensor.sizes, tensor.sizes + tensor.axes}, std::vector<int64_t>(static_cast<size_t>(tensor.axes))};
  int64_t natural = bytes;
  for (size_t i = shape.sizes.size(); i-- > 0; natural *= shape.sizes[i])
    shape.strides[i] = tensor.strides != nullptr ? tensor.strides[i] * bytes : natural;
  return shape;
}

bool native_order(const py::dtype& dtype) {
  const char order = dtype.byteorder();
  constexpr char native = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>';
  return order == '=' || order == '|' || order == native;
}

bool matches(const py::dtype& dtype, Element element) {
  const Kind kind = kind_of(element);
  return dtype.kind() == kind.kind && dtype.itemsize() == kind.bytes && native_order(dtype);
}

Element checked_element(const std::string& name, const py::dtype& dtype, Element wanted) {
  if (wanted == any_float) {
    if (matches(dtype, Element::float32)) return Element::float32;
    if (matches(dtype, Element::float64)) return Element::float64;
  } else if (matches(dtype, wanted)) {
    return wanted;
  }
  const std::string must = name_of(wanted);
  const std::string target = wanted == any_float ? "float32" : wanted == Element::boolean ? "bool_" : must;
  std::string was = py::str(static_cast<py::handle>(dtype));
  if (!native_order(dtype)) was += " in foreign byte order";
  throw py::type_error(name + " must be " + must + ", it is " + was + ": use " + name + ".astype(np." + target + ")");
}

Element checked_element(const std::string& name, DlType type, Element wanted) {
  const Element element = element_or_any(type);
  const bool floating = element == Element::float32 || element == Element::float64;
  if (wanted == any_float ? !floating : element != wanted)
    bad_type(name, name_of(wanted), element == any_float ? "of another type" : name_of(element));
  return element;
}

std::string tuple_text(const std::vector<std::string>& parts) {
  std::string text = "(";
  for (size_t i = 0; i < parts.size(); ++i) text += (i == 0 ? "" : ", ") + parts[i];
  return text + (parts.size() == 1 ? ",)" : ")");
}

[[noreturn]] void bad_shape(const std::string& name, const std::vector<int64_t>& sizes, const Axis* axes,
                            size_t count) {
  std::vector<std::string> symbols, expected, actual;
  bool any_known = false;
  for (size_t i = 0; i < count; ++i) {
    symbols.emplace_back(axes[i].name);
    expected.push_back(axes[i].size < 0 ? axes[i].name : std::to_string(axes[i].size));
    any_known = any_known || axes[i].size >= 0;
  }
  for (const int64_t size : sizes) actual.push_back(std::to_string(size));
  throw py::value_error(name + " must be " + tuple_text(symbols) + (any_known ? " = " + tuple_text(expected) : "") +
                        ", it is " + tuple_text(actual));
}

void check_shape(const std::string& name, const std::vector<int64_t>& sizes, const Axis* axes, size_t count) {
  const size_t rank = sizes.size();
  const bool open = count > 0 && axes[0].name[0] == '.';
  const size_t fixed = open ? count - 1 : count;
  if (open ? rank < fixed : rank != fixed) bad_shape(name, sizes, axes, count);
  for (size_t i = 0; i < fixed; ++i) {
    const int64_t wanted = axes[count - fixed + i].size;
    if (wanted >= 0 && sizes[rank - fixed + i] != wanted) {
      bad_shape(name, sizes, axes, count);
    }
  }
}

// First and one-past-last byte touched; empty when there is no element.
std::pair<uintptr_t, uintptr_t> byte_range(const Argument& argument) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(argument.data());
  if (argument.count() == 0) return {begin, begin};
  int64_t last = 0;
  for (int64_t axis = 0; axis < argument.rank(); ++axis) last += (argument.size(axis) - 1) * argument.stride(axis);
  return {begin, begin + static_cast<uintptr_t>((last + 1) * bytes_of(argument.element()))};
}

[[noreturn]] void shares_memory(const Argument& output, const Argument& other) {
  throw py::value_error(output.name() + " must not share memory with " + other.name() + ", it does: use " +
                        output.name() + ".copy()");
}

std::string shown(py::handle value) { return py::repr(value); }

}  // namespace

const char* name_of(Element element) {
  switch (element) {
    case Element::any_float:
      return "float32 or float64";
    case Element::float32:
      return "float32";
    case Element::float64:
      return "float64";
    case Element::int64:
      return "int64";
    case Element::uint8:
      return "uint8";
    case Element::boolean:
      return "bool";
  }
  throw std::logic_error("an element that is none");
}

int64_t bytes_of(Element element) { return kind_of(element).bytes; }

DType dtype_of(Element element) { return element == Element::float32 ? DType::float32 : DType::float64; }

DType dtype_named(const std::string& name) {
  for (const DType dtype : {DType::float32, DType::float64})
    if (name == name_of(element_of(dtype))) return dtype;
  bad_value("dtype", "'float32' or 'float64'", "'" + name + "'");
}

Element element_of(DType dtype) { return dtype == DType::float32 ? Element::float32 : Element::float64; }

py::dtype numpy_of(Element element) {
  switch (element) {
    case Element::float32:
      return py::dtype::of<float>();
    case Element::float64:
      return py::dtype::of<double>();
    case Element::int64:
      return py::dtype::of<int64_t>();
    case Element::uint8:
      return py::dtype::of<uint8_t>();
    case Element::boolean:
      return py::dtype::of<bool>();
    case Element::any_float:
      break;
  }
  throw std::logic_error("any_float is a request, not what elements are");
}

int64_t Argument::count() const {
  int64_t n = 1;
  for (const int64_t size : sizes_) n *= size;
  return n;
}

bool Argument::contiguous() const {
  int64_t expected = 1;
  for (size_t i = sizes_.size(); i-- > 0;) {
    if (sizes_[i] > 1 && strides_[i] != expected) return count() == 0;
    expected *= sizes_[i];
  }
  return true;
}

void Argument::require_contiguous() const {
  if (!contiguous()) {
    throw py::value_error(name_ + " must be C-contiguous, it is not: use np.ascontiguousarray(" + name_ + ")");
  }
}

Argument::Rows Argument::rows() const {
  const size_t leading = sizes_.size() - 1;
  Rows rows{1, sizes_.back()};
  bool first = true;
  for (size_t i = leading; i-- > 0;) {
    if (sizes_[i] == 0) return {0, sizes_.back()};
    if (sizes_[i] != 1) {
      if (first) rows.stride = strides_[i];
      if (strides_[i] != rows.stride * rows.count) {
        throw py::value_error(name_ +
                              " must have leading axes that one stride walks, it has not: use np.ascontiguousarray(" +
                              name_ + ")");
      }
      first = false;
    }
    rows.count *= sizes_[i];
  }
  return rows;
}

Array3 Argument::array3(bool exchange) const {
  if (!present()) return {nullptr, 0, 0};
  return exchange ? Array3{data_, strides_[1], strides_[0]} : Array3{data_, strides_[0], strides_[1]};
}

Argument checked(std::string name, py::handle value, Element element, const Axis* axes, size_t count, bool write,
                 Location location) {
  Argument argument;
  argument.name_ = std::move(name);
  const Backend* const device = location.device;
  const DeviceArray* const on_device = device != nullptr ? as_device_array(value) : nullptr;
  const std::optional<DlTensor> tensor = location.tensors && !is_array(value) ? host_tensor(value) : std::nullopt;
  bool writable = true;  // DLPack's table cannot say that a tensor is not
  Shape shape;
  if (tensor) {
    argument.element_ = checked_element(argument.name_, tensor->type, element);
    argument.data_ = static_cast<char*>(tensor->data) + tensor->offset;
    shape = shape_of(*tensor, bytes_of(argument.element_));
  } else if (on_device != nullptr) {
    require_device(argument.name_, *device, on_device->device());
    argument.element_ = checked_element(argument.name_, numpy_of(on_device->element()), element);
    argument.data_ = on_device->data();
    shape = shape_of(*on_device);
    writable = !on_device->readonly();
  } else {
    if (device != nullptr || !is_array(value)) not_an_array(argument.name_, value, device);
    const auto array = py::reinterpret_borrow<py::array>(value);
    argument.element_ = checked_element(argument.name_, array.dtype(), element);
    argument.data_ = const_cast<void*>(array.data());
    shape = shape_of(array);
    writable = array.writeable();
  }
  argument.array_ = py::reinterpret_borrow<py::object>(value);
  check_shape(argument.name_, shape.sizes, axes, count);
  argument.sizes_ = std::move(shape.sizes);

  const int64_t bytes = bytes_of(argument.element_);
  const size_t rank = argument.sizes_.size();
  const bool empty = argument.count() == 0;
  const auto compact = [&] {
    return device != nullptr ? argument.name_ + ".copy()" : "np.ascontiguousarray(" + argument.name_ + ")";
  };
  argument.strides_.resize(rank);
  // The strides of an axis of size 0 or 1 are arbitrary; those become what a contiguous array would have.
  int64_t natural = 1;
  for (size_t i = rank; i-- > 0;) {
    int64_t stride = shape.strides[i];
    if (empty || argument.sizes_[i] <= 1) {
      stride = natural * bytes;
    } else if (i == rank - 1 && stride != bytes) {
      throw py::value_error(argument.name_ + " must have unit stride on its last axis, it has a stride of " +
                            std::to_string(stride) + " bytes: use " + compact());
    } else if (stride <= 0 || stride % bytes != 0) {
      throw py::value_error(argument.name_ + " must have positive strides, multiples of its element size; axis " +
                            std::to_string(i) + " has a stride of " + std::to_string(stride) + " bytes: use " +
                            compact());
    }
    argument.strides_[i] = stride / bytes;
    natural = empty ? natural : argument.strides_[i] * argument.sizes_[i];
  }
  if (reinterpret_cast<uintptr_t>(argument.data_) % static_cast<uintptr_t>(bytes) != 0) {
    throw py::value_error(argument.name_ + " must be aligned to its element size, it is not: use " + argument.name_ +
                          ".copy()");
  }
  if (write) {
    if (!writable) throw py::value_error(argument.name_ + " must be writable, it is read-only");
    argument.require_contiguous();
  }
  if (on_device != nullptr) on_device->block()->use(write ? Access::write : Access::read);
  return argument;
}

bool Argument::is_still(py::handle value) {
  const std::optional<DlTensor> tensor = is_array(value) ? std::nullopt : host_tensor(value);
  if (!tensor || static_cast<char*>(tensor->data) + tensor->offset != data_) return false;
  if (tensor->axes != rank() || element_or_any(tensor->type) != element_ || !contiguous()) return false;
  int64_t natural = 1;
  for (int64_t i = rank(); i-- > 0; natural *= size(i)) {
    if (tensor->sizes[i] != size(i)) return false;
    if (tensor->strides != nullptr && size(i) != 1 && tensor->strides[i] != natural) return false;
  }
  array_ = py::reinterpret_borrow<py::object>(value);
  return true;
}

std::shared_ptr<Block> Argument::block() const {
  const DeviceArray* on_device = present() ? as_device_array(array_) : nullptr;
  return on_device != nullptr ? on_device->block() : nullptr;
}

Argument input(std::string name, py::handle value, Element element, Axes axes, Location location) {
  return checked(std::move(name), value, element, axes.begin(), axes.size(), false, location);
}

Argument optional_input(std::string name, py::handle value, Element element, Axes axes, Location location) {
  return value.is_none() ? Argument() : input(std::move(name), value, element, axes, location);
}

py::array own_integers(const std::string& name, py::handle value) {
  py::object given = py::reinterpret_borrow<py::object>(value);
  if (py::isinstance<py::list>(value) || py::isinstance<py::tuple>(value)) {
    given = py::array::ensure(value);
    const std::string what = name + " must be an array of integers, or a list that NumPy makes one of";
    if (!given) throw py::type_error(what);
    const py::dtype made = py::reinterpret_borrow<py::array>(given).dtype();
    if (made.kind() != 'i' && made.kind() != 'u')
      throw py::type_error(what + ": it makes one of " + py::str(made).cast<std::string>());
  }
  if (!is_array(given)) not_an_array(name, given, nullptr);
  const auto array = py::reinterpret_borrow<py::array>(given);
  const py::dtype dtype = array.dtype();
  if (dtype.kind() != 'i' && dtype.kind() != 'u') checked_element(name, dtype, Element::int64);  // which raises
  if (dtype.kind() == 'u' && dtype.itemsize() == 8 && array.size() > 0) {
    const auto largest = py::cast<uint64_t>(array.attr("max")());
    if (largest > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      throw py::value_error(name + " must be integers of int64, the largest is " + std::to_string(largest));
  }
  py::array copy(numpy_of(Element::int64), std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()));
  if (py::detail::npy_api::get().PyArray_CopyInto_(copy.ptr(), array.ptr()) != 0) throw py::error_already_set();
  return copy;
}

Argument integers(std::string name, py::handle value, Axes axes, Location location) {
  if (location.device != nullptr || location.tensors)
    return input(std::move(name), value, Element::int64, axes, location);
  const py::array own = own_integers(name, value);
  return input(std::move(name), own, Element::int64, axes);
}

Argument output(std::string name, py::handle value, Element element, Axes axes, Location location) {
  return checked(std::move(name), value, element, axes.begin(), axes.size(), true, location);
}

Argument optional_output(std::string name, py::handle value, Element element, Axes axes, Location location) {
  return value.is_none() ? Argument() : output(std::move(name), value, element, axes, location);
}

// In the order of their first bytes: an array that shares memory with one before it begins before the furthest of those
// ends. A gradient's check for thousands of weights is no matter of all pairs.
void disjoint(const std::vector<const Argument*>& outputs, const std::vector<const Argument*>& inputs) {
  struct Piece {
    uintptr_t begin, end;
    const Argument* argument;
    bool written;
  };
  std::vector<Piece> pieces;
  for (const bool written : {true, false})
    for (const Argument* argument : written ? outputs : inputs) {
      const auto [begin, end] = byte_range(*argument);
      if (argument->present() && begin != end) pieces.push_back({begin, end, argument, written});
    }
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
  const Piece *any = nullptr, *written = nullptr;  // those of the pieces so far, or outputs so far, that end last
  for (const Piece& piece : pieces) {
    const Piece* before = piece.written ? any : written;
    if (before != nullptr && piece.begin < before->end) {
      if (piece.written) shares_memory(*piece.argument, *before->argument);
      shares_memory(*before->argument, *piece.argument);
    }
    if (any == nullptr || piece.end > any->end) any = &piece;
    if (piece.written && (written == nullptr || piece.end > written->end)) written = &piece;
  }
}

void disjoint(std::initializer_list<const Argument*> outputs, std::initializer_list<const Argument*> inputs) {
  disjoint(std::vector<const Argument*>(outputs), std::vector<const Argument*>(inputs));
}

int64_t product(const char* what, const std::vector<int64_t>& sizes) {
  constexpr int64_t limit = int64_t{1} << 62;
  int64_t n = 1;
  bool overflow = false;
  for (const int64_t size : sizes) {
    if (size == 0) return 0;
    overflow = overflow || __builtin_mul_overflow(n, size, &n) || n > limit;
  }
  if (overflow) {
    std::vector<std::string> parts;
    for (const int64_t size : sizes) parts.push_back(std::to_string(size));
    throw py::value_error(std::string(what) + " must have a size that fits in 62 bits, it would be " +
                          tuple_text(parts));
  }
  return n;
}

py::array fresh(Element element, const std::vector<int64_t>& sizes, const char* name) {
  std::vector<int64_t> with_bytes = sizes;
  with_bytes.push_back(bytes_of(element));
  void* memory = nullptr;
  const auto bytes = static_cast<size_t>(product(name, with_bytes));
  if (host_alloc(bytes, &memory) != Status::ok) no_memory(name, bytes);
  const py::capsule owner(memory, [](void* p) { host_free(p); });
  return py::array(numpy_of(element), sizes, memory, owner);
}

namespace {

// `value` as an int of Python's; TypeError for what is none, True and False among it.
template <class Must>
py::object index_of(const char* name, py::handle value, const Must& must) {
  py::object index;
  if (!PyBool_Check(value.ptr())) index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) {
    PyErr_Clear();
    bad_type(name, must(), "of type " + quoted_type(value));
  }
  return index;
}

}  // namespace

int64_t integer(const char* name, py::handle value, int64_t low, int64_t high) {
  const auto must = [&] { return "an integer in " + std::to_string(low) + ".." + std::to_string(high); };
  const py::object index = index_of(name, value, must);
  int overflow = 0;
  const long long n = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0 || n < low || n > high) bad_value(name, must(), shown(index));
  return n;
}

uint64_t unsigned_integer(const char* name, py::handle value) {
  constexpr const char* must = "an integer in 0..2**64 - 1";
  const py::object index = index_of(name, value, [] { return must; });
  const unsigned long long n = PyLong_AsUnsignedLongLong(index.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    bad_value(name, must, shown(index));
  }
  return n;
}

bool flag(const char* name, py::handle value) {
  if (value.ptr() == Py_True || value.ptr() == Py_False) return value.ptr() == Py_True;
  if (py::isinstance(value, py::dtype::of<bool>().attr("type"))) return py::cast<bool>(value);
  bad_type(name, "True or False", shown(value));
}

double real(const char* name, py::handle value, double low, double high) {
  const double x = PyFloat_AsDouble(value.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    bad_type(name, "a number", "of type " + quoted_type(value));
  }
  if (!(x >= low && x <= high)) {
    const bool open = high == std::numeric_limits<double>::infinity();
    const std::string from = py::str(py::float_(low)), to = py::str(py::float_(high));
    bad_value(name, open ? "a number >= " + from : "in [" + from + ", " + to + "]", shown(value));
  }
  return x;
}

std::string quoted(const std::vector<const char*>& names, const std::string& last) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) text += i + 1 < names.size() ? ", " : " " + last + " ";
    text += "'" + std::string(names[i]) + "'";
  }
  return text;
}

void bad_value(const std::string& name, const std::string& must, const std::string& was) {
  throw py::value_error(name + " must be " + must + ", it is " + was);
}

void bad_type(const std::string& name, const std::string& must, const std::string& was) {
  throw py::type_error(name + " must be " + must + ", it is " + was);
}

}  // namespace fusedrnn
