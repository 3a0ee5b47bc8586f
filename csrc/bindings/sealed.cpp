#include "bindings/sealed.hpp"

#include <string>

namespace fusedrnn {
namespace {

constexpr const char* kMake = "_make";

PyTypeObject* type_of(py::handle cls) { return reinterpret_cast<PyTypeObject*>(cls.ptr()); }

PyObject* refuse(PyTypeObject* type, PyObject*, PyObject*) {
  PyErr_Format(PyExc_TypeError, "a %s cannot be made or copied by its class: functions of fusedrnn return them",
               type->tp_name);
  return nullptr;
}

// What calling the class does first. `__new__` does not lead here: Python finds pybind11's there, and refuses it for a
// class that has another in this place.
PyObject* make(PyTypeObject* type, PyObject* arguments, PyObject* named) {
  const py::object function =
      py::reinterpret_steal<py::object>(PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), kMake));
  return function ? PyObject_Call(function.ptr(), arguments, named) : nullptr;
}

int nothing(PyObject*, PyObject*, PyObject*) { return 0; }

}  // namespace

void seal(py::handle cls) { type_of(cls)->tp_new = refuse; }

void seal_with(py::handle cls, const py::object& function) {
  cls.attr(kMake) = py::staticmethod(function);
  type_of(cls)->tp_new = make;
  type_of(cls)->tp_init = nothing;
}

}  // namespace fusedrnn
