// Weak references of Python's.
#pragma once

#include <pybind11/pybind11.h>

namespace fusedrnn {

namespace py = pybind11;

// To `object`; its end calls `callback`, if there is one. TypeError where there can be none.
inline py::object weak_reference(py::handle object, py::handle callback = {}) {
  py::object reference = py::reinterpret_steal<py::object>(PyWeakref_NewRef(object.ptr(), callback.ptr()));
  if (!reference) throw py::error_already_set();
  return reference;
}

// What the reference is to; null once that is gone.
inline py::object alive(const py::object& reference) {
#if PY_VERSION_HEX >= 0x030D0000
  PyObject* object = nullptr;
  if (PyWeakref_GetRef(reference.ptr(), &object) < 0) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(object);
#else
  PyObject* const object = PyWeakref_GET_OBJECT(reference.ptr());
  return object == Py_None ? py::object() : py::reinterpret_borrow<py::object>(object);
#endif
}

}  // namespace fusedrnn
