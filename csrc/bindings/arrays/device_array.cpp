#include "bindings/arrays/device_array.hpp"

#include <pybind11/stl.h>

#include <limits>

#include "bindings/gil.hpp"
#include "bindings/sealed.hpp"
#include "device/plugin.hpp"
#include "runtime/error.hpp"

namespace fusedrnn {
namespace {

uintptr_t set_stream(py::handle handle) {
  const auto number = static_cast<uintptr_t>(unsigned_integer("handle", handle));
  device_backend();
  return reinterpret_cast<uintptr_t>(set_current_stream(reinterpret_cast<Stream>(number)));
}

std::vector<int64_t> natural_strides(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t i = sizes.size(); i-- > 0; stride *= sizes[i]) strides[i] = stride;
  return strides;
}

std::string shape_of(const std::vector<int64_t>& sizes) { return py::repr(py::tuple(py::cast(sizes))); }

Element element_named(py::handle dtype) {
  const py::dtype wanted = py::dtype::from_args(py::reinterpret_borrow<py::object>(dtype));
  for (const Element element : {Element::float32, Element::float64, Element::int64, Element::boolean})
    if (wanted.equal(numpy_of(element))) return element;
  bad_type("x", "float32, float64, int64 or bool", py::str(static_cast<py::handle>(wanted)));
}

DeviceArray from_numpy(const py::array& array) {
  const Element element = element_named(array.dtype());
  DeviceArray result(device_backend(), element, {array.shape(), array.shape() + array.ndim()}, "x");
  result.assign(array);
  return result;
}

DeviceArray zeros(const std::vector<int64_t>& sizes, py::handle dtype) {
  DeviceArray result(device_backend(), element_named(dtype), sizes, "array");
  result.fill(0);
  return result;
}

// https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html, version 3.
py::dict cuda_array_interface(const DeviceArray& array) {
  py::dict result;
  result["shape"] = py::tuple(py::cast(array.sizes()));
  result["typestr"] = numpy_of(array.element()).attr("str");
  result["data"] = py::make_tuple(reinterpret_cast<uintptr_t>(array.data()), array.readonly());
  result["strides"] = py::none();
  if (!array.contiguous()) {
    py::list strides;
    for (const int64_t stride : array.strides()) strides.append(stride * bytes_of(array.element()));
    result["strides"] = py::tuple(strides);
  }
  result["version"] = 3;
  const auto stream = reinterpret_cast<uintptr_t>(array.block()->writing_stream());
  result["stream"] = stream == 0 ? py::object(py::none()) : py::int_(stream);
  return result;
}

py::tuple dlpack_device(const DeviceArray& array) { return py::make_tuple(array.backend().memory, array.device()); }

py::object dlpack(const DeviceArray& array, py::handle stream, py::handle max_version, py::handle dl_device,
                  py::handle copy) {
  // None is the legacy stream, -1 a consumer that wants nothing to be done.
  const int64_t number = stream.is_none() ? 1 : integer("stream", stream, -1, std::numeric_limits<int64_t>::max());
  if (number == 0)
    bad_value("stream", "None, -1, 1 (legacy), 2 (per thread) or the handle of a CUDA stream", "0, which is ambiguous");
  if (!dl_device.is_none() && !dlpack_device(array).equal(dl_device)) {
    throw py::buffer_error("the array is on " + place_of(array.backend(), array.device()) +
                           " and can be exported there only: use numpy()");
  }
  std::optional<Stream> consumer;
  if (number > 0) consumer = reinterpret_cast<Stream>(number);
  if (!copy.is_none() && copy.cast<bool>()) return to_dlpack(array.copy(), consumer, max_version);
  return to_dlpack(array, consumer, max_version);
}

}  // namespace

const Backend& device_backend() {
  const Plugin& plugin = cuda_plugin();
  if (plugin.backend == nullptr) throw std::runtime_error("CUDA cannot be used: " + plugin.why_not);
  return *plugin.backend;
}

const DeviceArray* as_device_array(py::handle value) {
  return py::isinstance<DeviceArray>(value) ? &value.cast<const DeviceArray&>() : nullptr;
}

size_t span_of(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides, int64_t bytes) {
  int64_t last = 1;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0) return 0;
    last += (sizes[i] - 1) * strides[i];
  }
  return static_cast<size_t>(last * bytes);
}

DeviceArray::DeviceArray(const Backend& backend, Element element, std::vector<int64_t> sizes, const char* name)
    : backend_(&backend),
      element_(element),
      sizes_(std::move(sizes)),
      strides_(natural_strides(sizes_)),
      device_(backend.device()) {
  std::vector<int64_t> with_bytes = sizes_;
  with_bytes.push_back(bytes_of(element));
  const auto bytes = static_cast<size_t>(product(name, with_bytes));
  block_ = Block::allocate(backend, bytes, name);
  data_ = block_->data();
}

DeviceArray::DeviceArray(const Backend& backend, Element element, std::vector<int64_t> sizes,
                         std::vector<int64_t> strides, bool readonly, std::shared_ptr<Block> block)
    : backend_(&backend),
      element_(element),
      sizes_(std::move(sizes)),
      strides_(std::move(strides)),
      data_(block->data()),
      readonly_(readonly),
      block_(std::move(block)),
      device_(backend.device()) {}

DeviceArray DeviceArray::piece(int64_t offset, std::vector<int64_t> sizes, bool readonly) const {
  const int64_t n = product("piece", sizes);
  if (!contiguous() || offset < 0 || offset > count() || n > count() - offset)
    bad_value("offset and shape", "within a contiguous array of " + std::to_string(count()),
              std::to_string(offset) + " and " + shape_of(sizes));
  DeviceArray part = *this;
  part.strides_ = natural_strides(sizes);
  part.sizes_ = std::move(sizes);
  part.data_ = static_cast<char*>(data_) + offset * bytes_of(element_);
  part.readonly_ = readonly || readonly_;
  return part;
}

int64_t DeviceArray::count() const {
  int64_t n = 1;
  for (const int64_t size : sizes_) n *= size;
  return n;
}

bool DeviceArray::contiguous() const {
  const std::vector<int64_t> natural = natural_strides(sizes_);
  for (size_t i = 0; i < sizes_.size(); ++i)
    if (sizes_[i] > 1 && strides_[i] != natural[i]) return count() == 0;
  return true;
}

std::string place_of(const Backend& backend, int32_t device) {
  return std::string(backend.name) + ":" + std::to_string(device);
}

void require_device(const std::string& name, const Backend& backend, int32_t device) {
  const int32_t current = backend.device();
  if (device == current) return;
  const std::string here = place_of(backend, current);
  bad_value(name, "on " + here + ", the calling thread's device",
            device < 0 ? "in no device's memory"
                       : "on " + place_of(backend, device) + ": copy it to " + here + ", or make that one current");
}

py::array DeviceArray::numpy() const {
  const int64_t bytes = bytes_of(element_);
  const bool whole = contiguous();
  const size_t span = whole ? static_cast<size_t>(count() * bytes) : span_of(sizes_, strides_, bytes);
  py::array result =
      whole ? fresh(element_, sizes_, "numpy()") : fresh(Element::boolean, {static_cast<int64_t>(span)}, "numpy()");
  void* to = result.mutable_data();
  {
    const GilRelease release;
    require_no_capture(*backend_, "numpy()");
    block_->use(Access::read);
    copy_to_host(*backend_, to, data_, span, "numpy()");
    drop_uses();
  }
  if (whole) return result;
  std::vector<int64_t> strides;
  for (const int64_t stride : strides_) strides.push_back(stride * bytes);
  return py::array(numpy_of(element_), sizes_, strides, result.data(), result).attr("copy")();
}

DeviceArray DeviceArray::copy() const {
  DeviceArray result(*backend_, element_, sizes_, "copy");
  result.assign(py::cast(*this));
  return result;
}

void DeviceArray::assign(py::handle source) {
  const DeviceArray* device = as_device_array(source);
  if (device != nullptr && !device->contiguous()) return assign(device->numpy());
  const py::array host = device == nullptr ? py::array::ensure(source, py::array::c_style) : py::array();
  if (device == nullptr && !host) throw py::error_already_set();
  const std::vector<int64_t> sizes =
      device != nullptr ? device->sizes() : std::vector<int64_t>(host.shape(), host.shape() + host.ndim());
  const Element element = device != nullptr ? device->element() : element_named(host.dtype());
  if (sizes != sizes_) bad_value("array", "of shape " + shape_of(sizes_), shape_of(sizes));
  if (element != element_) bad_type("array", name_of(element_), name_of(element));
  const void* from = device != nullptr ? device->data() : host.data();
  const GilRelease release;
  if (device == nullptr) require_no_capture(*backend_, "a copy of host memory");
  if (device != nullptr) device->block()->use(Access::read);
  block_->use(Access::write);
  const auto bytes = static_cast<size_t>(count() * bytes_of(element_));
  // A little travels as a kernel's argument: a copy from memory that is not pinned may wait for the stream.
  constexpr size_t kLittle = 2048;
  if (device == nullptr && bytes <= kLittle)
    check(*backend_, backend_->async->upload(data_, from, bytes, current_stream()), "copy");
  else
    check(*backend_, backend_->copy(data_, from, bytes, current_stream()), "copy");
  mark_uses(*backend_);
}

void DeviceArray::fill(double value) {
  if (readonly_) bad_value("array", "writable", "read-only");
  if (value != 0 || !contiguous()) {
    const py::module_ numpy = py::module_::import("numpy");
    return assign(numpy.attr("full")(py::tuple(py::cast(sizes_)), value, numpy_of(element_)));
  }
  const GilRelease release;
  block_->use(Access::write);
  const auto bytes = static_cast<size_t>(count() * bytes_of(element_));
  check(*backend_, backend_->fill(data_, 0, bytes, current_stream()), "fill");
  mark_uses(*backend_);
}

constexpr const char* kDescription = R"(An array in the memory of a CUDA device.

What `fusedrnn.asarray` makes and modules with ``device="cuda"`` take and return. Other libraries read and write it
without a copy, through ``__dlpack__`` (``torch.from_dlpack``, ``cupy.from_dlpack``) or ``__cuda_array_interface__``.
What a call returns may still be in the making: `numpy` and, without axes, ``float()`` wait for it;
`fusedrnn.cuda.stream` says who waits for what. It is made by these calls alone, never by its class.

Raises:
    RuntimeError: by `numpy` and ``float()``: what went wrong on the device. TypeError: NumPy is given it, which
        copies nothing unasked.
)";

void bind_device(py::module_& m) {
  py::class_<DeviceArray> array(m, "DeviceArray", kDescription);
  seal(array);
  array
      .def_property_readonly(
          "shape", [](const DeviceArray& a) { return py::tuple(py::cast(a.sizes())); }, "Sizes of the axes.")
      .def_property_readonly(
          "dtype", [](const DeviceArray& a) { return numpy_of(a.element()); }, "Type of the elements, a NumPy dtype.")
      .def_property_readonly(
          "device", [](const DeviceArray& a) { return place_of(a.backend(), a.device()); },
          "The place that it is in, as \"cuda:0\".")
      .def_property_readonly(
          "ndim", [](const DeviceArray& a) { return a.sizes().size(); }, "How many axes it has.")
      .def_property_readonly("size", &DeviceArray::count, "How many elements it has.")
      .def_property_readonly(
          "nbytes", [](const DeviceArray& a) { return a.count() * bytes_of(a.element()); }, "Bytes of its elements.")
      .def_property_readonly("readonly", &DeviceArray::readonly, "Whether writing to it raises.")
      .def_property_readonly("__cuda_array_interface__", &cuda_array_interface)
      .def("numpy", &DeviceArray::numpy, "A copy as a NumPy array; waits for what is still to write it.")
      .def("copy", &DeviceArray::copy, "A copy on the same device.")
      .def("fill", &DeviceArray::fill, py::arg("value"),
           "Sets every element. Raises ValueError where the array is read-only.")
      .def("_assign", &DeviceArray::assign, py::arg("source"))
      .def("_piece", &DeviceArray::piece, py::arg("offset"), py::arg("shape"), py::arg("readonly"))
      .def("__dlpack__", &dlpack, py::kw_only(), py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
           py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack_device__", &dlpack_device)
      .def("__len__",
           [](const DeviceArray& a) {
             if (a.sizes().empty()) throw py::type_error("len() of an array without axes");
             return a.sizes()[0];
           })
      .def("__float__",
           [](const DeviceArray& a) {
             if (a.count() != 1) throw py::type_error("only an array of one element is a number: use numpy()");
             return py::float_(a.numpy().attr("item")());
           })
      .def("__format__",
           [](const py::object& self, const py::str& spec) -> py::object {
             return py::len(spec) == 0 ? py::object(py::repr(self)) : py::float_(self).attr("__format__")(spec);
           })
      .def("__repr__",
           [](const DeviceArray& a) {
             return "DeviceArray(shape=" + shape_of(a.sizes()) + ", dtype=" + name_of(a.element()) +
                    ", device=" + place_of(a.backend(), a.device()) + ")";
           })
      // Without it NumPy would make an array of one object.
      .def("__array__", [](const DeviceArray&, const py::args&, const py::kwargs&) -> py::object {
        throw py::type_error("a DeviceArray is not turned into a NumPy array unasked: use its numpy()");
      });
  m.def("set_stream", &set_stream, py::arg("handle"));
  m.def("current_stream", [] { return reinterpret_cast<uintptr_t>(current_stream()); });
  m.def("empty_cache", [] {
    const Backend& backend = device_backend();
    const GilRelease release;
    empty_cache(backend);
  });
  m.def("device_array", &from_numpy, py::arg("array"));
  m.def("device_zeros", &zeros, py::arg("shape"), py::arg("dtype"));
  m.def("device_array_from_dlpack", &from_dlpack, py::arg("capsule"));
  m.def("device_array_from_interface", &from_cuda_array_interface, py::arg("interface"), py::arg("owner"));
}

}  // namespace fusedrnn
