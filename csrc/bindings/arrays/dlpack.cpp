// Device arrays of other libraries: DLPack (https://dmlc.github.io/dlpack) and __cuda_array_interface__, both ways and
// without a copy.
#include <pybind11/stl.h>

#include "bindings/arrays/device_array.hpp"
#include "bindings/arrays/dlpack.hpp"
#include "runtime/error.hpp"

namespace fusedrnn {
namespace {

constexpr uint64_t kReadOnly = 1;
constexpr const char* kPlain = "dltensor";
constexpr const char* kVersioned = "dltensor_versioned";

// What lives as long as an exported tensor.
template <class Managed>
struct Export {
  Managed managed;
  std::vector<int64_t> sizes, strides;
  std::shared_ptr<Block> block;
  std::optional<StreamId> consumer;

  ~Export() {
    if (!consumer) return;
    try {
      block->left_by(*consumer);
    } catch (const std::exception&) {  // its stream's failure, which its own calls tell
    }
  }
};

template <class Managed>
py::object exported(const DeviceArray& array, const std::optional<Stream>& consumer, const char* name) {
  auto* e = new Export<Managed>{{}, array.sizes(), array.strides(), array.block(), {}};
  e->managed.context = e;
  e->managed.deleter = [](Managed* managed) { delete static_cast<Export<Managed>*>(managed->context); };
  e->managed.tensor = {array.data(),
                       {array.backend().memory, array.device()},
                       static_cast<int32_t>(e->sizes.size()),
                       type_of(array.element()),
                       e->sizes.data(),
                       e->strides.data(),
                       0};
  if constexpr (std::is_same_v<Managed, DlVersioned>) {
    e->managed.major = 1;
    e->managed.flags = array.readonly() ? kReadOnly : 0;
  }
  PyObject* capsule = PyCapsule_New(&e->managed, name, [](PyObject* self) {
    // A consumer that took the tensor has renamed the capsule, and calls the deleter itself.
    const char* own = PyCapsule_GetName(self);
    if (own == nullptr || (std::string(own) != kPlain && std::string(own) != kVersioned)) return;
    auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(self, own));
    managed->deleter(managed);
  });
  if (capsule == nullptr) {
    delete e;
    throw py::error_already_set();
  }
  auto result = py::reinterpret_steal<py::object>(capsule);
  if (consumer) e->consumer = array.block()->given_to(*consumer);
  return result;
}

// The array of that memory. ValueError unless it is the calling thread's device's, whatever the producer claims; of an
// array without elements the claim is all there is.
DeviceArray adopted(const Backend& backend, int32_t claimed, Element element, const std::vector<int64_t>& sizes,
                    const std::vector<int64_t>& strides, void* data, bool readonly, std::shared_ptr<void> owner) {
  const bool empty = span_of(sizes, strides, 1) == 0;
  int32_t device = claimed;
  if (!empty && device == backend.device()) check(backend, backend.device_of(data, &device), "asarray");
  require_device("x", backend, device);
  for (const int64_t stride : strides)
    if (stride < 0) bad_value("x", "an array of strides that are not negative", std::to_string(stride) + " in one");
  return {backend, element, sizes, strides, readonly, Block::adopt(backend, data, std::move(owner))};
}

// The element that a tensor has. TypeError where calls take no such thing.
Element element_of(DlType type) {
  const Element element = element_or_any(type);
  if (element == Element::any_float || element == Element::uint8)
    bad_type("x", "float32, float64, int64 or bool",
             "of DLPack's type " + std::to_string(type.code) + " with " + std::to_string(type.bits) + " bits");
  return element;
}

template <class Managed>
DeviceArray imported(Managed* managed, bool readonly) {
  const std::shared_ptr<void> owner(managed, [](void* p) {
    auto* m = static_cast<Managed*>(p);
    if (m->deleter != nullptr) m->deleter(m);
  });
  const DlTensor& t = managed->tensor;
  const Backend& backend = device_backend();
  const Element element = element_of(t.type);
  const std::vector<int64_t> sizes(t.sizes, t.sizes + t.axes);
  std::vector<int64_t> strides(sizes.size());
  int64_t natural = 1;
  for (size_t i = sizes.size(); i-- > 0; natural *= sizes[i])
    strides[i] = t.strides != nullptr ? t.strides[i] : natural;
  if (t.device.type != backend.memory)
    bad_value("x", "in memory of DLPack's kind " + std::to_string(backend.memory), std::to_string(t.device.type));
  void* data = static_cast<char*>(t.data) + t.offset;
  return adopted(backend, t.device.index, element, sizes, strides, data, readonly, owner);
}

}  // namespace

DlType type_of(Element element) {
  const auto bits = static_cast<uint8_t>(8 * bytes_of(element));
  if (element == Element::int64) return {0, bits, 1};
  if (element == Element::uint8) return {1, bits, 1};
  if (element == Element::boolean) return {6, bits, 1};
  return {2, bits, 1};
}

Element element_or_any(DlType type) {
  for (const Element element : {Element::float32, Element::float64, Element::int64, Element::boolean, Element::uint8}) {
    const DlType own = type_of(element);
    if (own.code == type.code && own.bits == type.bits && own.lanes == type.lanes) return element;
  }
  return any_float;
}

py::object to_dlpack(const DeviceArray& array, const std::optional<Stream>& consumer, py::handle max_version) {
  if (!max_version.is_none() && max_version.cast<std::pair<int, int>>().first >= 1)
    return exported<DlVersioned>(array, consumer, kVersioned);
  if (array.readonly())
    throw py::buffer_error("the array is read-only, which DLPack before version 1.0 cannot say: use copy()");
  return exported<DlManaged>(array, consumer, kPlain);
}

DeviceArray from_dlpack(const py::capsule& capsule) {
  const std::string name = capsule.name() == nullptr ? "" : capsule.name();
  if (name == kVersioned) {
    auto* managed = capsule.get_pointer<DlVersioned>();
    if (managed->major != 1) bad_value("x", "of DLPack version 1", "of " + std::to_string(managed->major));
    PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
    return imported(managed, (managed->flags & kReadOnly) != 0);
  }
  if (name != kPlain) bad_value("capsule", "a DLPack tensor", "named '" + name + "'");
  auto* managed = capsule.get_pointer<DlManaged>();
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  return imported(managed, false);
}

DeviceArray from_cuda_array_interface(const py::dict& interface, py::object owner) {
  const Backend& backend = device_backend();
  const py::dtype dtype = py::dtype::from_args(interface["typestr"]);
  Element element = Element::any_float;
  for (const Element each : {Element::float32, Element::float64, Element::int64, Element::boolean})
    if (dtype.equal(numpy_of(each))) element = each;
  if (element == Element::any_float)
    bad_type("x", "float32, float64, int64 or bool", py::str(static_cast<py::handle>(dtype)));
  const auto sizes = interface["shape"].cast<std::vector<int64_t>>();
  std::vector<int64_t> strides(sizes.size());
  int64_t natural = 1;
  for (size_t i = sizes.size(); i-- > 0; natural *= sizes[i]) strides[i] = natural;
  if (interface.contains("strides") && !interface["strides"].is_none()) {
    strides = interface["strides"].cast<std::vector<int64_t>>();
    for (int64_t& stride : strides) {
      if (stride % bytes_of(element) != 0)
        bad_value("strides", "multiples of the element size", std::to_string(stride));
      stride /= bytes_of(element);
    }
  }
  const auto [address, readonly] = interface["data"].cast<std::pair<uintptr_t, bool>>();
  // What wrote the array may still be under way on the stream that it names.
  if (interface.contains("stream") && !interface["stream"].is_none()) {
    wait_for(backend, reinterpret_cast<Stream>(interface["stream"].cast<uintptr_t>()));
  }
  auto* kept = new py::object(std::move(owner));
  const std::shared_ptr<void> keeper(kept, [](void* p) {
    const py::gil_scoped_acquire acquire;
    delete static_cast<py::object*>(p);
  });
  return adopted(backend, backend.device(), element, sizes, strides, reinterpret_cast<void*>(address), readonly,
                 keeper);
}

}  // namespace fusedrnn
