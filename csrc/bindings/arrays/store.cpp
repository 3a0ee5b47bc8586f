// Arrays written as a whole, with the counts that tell of it.
#include "bindings/arrays/device_array.hpp"
#include "bindings/counts.hpp"

namespace fusedrnn {
namespace {

void copy_into(py::handle target, py::handle source) {
  if (as_device_array(target) != nullptr)
    py::cast<DeviceArray&>(target).assign(source);
  else if (PyObject_SetItem(target.ptr(), Py_Ellipsis, source.ptr()) != 0)
    throw py::error_already_set();
}

// pairs: (target, source), arrays of one shape and dtype. Writes are counted
// afterwards, also where a copy fails: packed weights and tapes made of the targets meanwhile, or of halves of them,
// are then known to be old.
void store(const py::list& pairs, const py::list& counted) {
  const Counts counts(counted);
  try {
    for (const py::handle pair : pairs) {
      const py::tuple both = py::cast<py::tuple>(pair);
      copy_into(both[0], both[1]);
    }
  } catch (...) {
    counts.count();
    throw;
  }
  counts.count();
}

}  // namespace

void bind_store(py::module_& m) {
  m.def("store", &store, py::arg("pairs"), py::arg("counted"));
  m.def("integers", &own_integers, py::arg("name"), py::arg("value"));
}

}  // namespace fusedrnn
