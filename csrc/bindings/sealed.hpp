// Classes whose objects are whole from the start: `__new__` alone, which `copy.copy` and `pickle` go by, would leave an
// object of pybind11's without a C++ value in it, and whatever uses one reads address 0.
//
//   py::class_<Tape> tape(m, "Tape");           // made by functions alone: the class cannot be called
//   seal(tape);
//   seal(options, [](...) { return Options{...}; }, py::arg("lengths"), ...);   // called, it returns what that returns
#pragma once

#include <pybind11/pybind11.h>

#include <utility>

namespace fusedrnn {

namespace py = pybind11;

// The class cannot be called, nor its `__new__`: TypeError.
void seal(py::handle cls);

// Calling the class calls `make` instead, which pybind11 takes as any function; `__new__` raises TypeError.
void seal_with(py::handle cls, const py::object& make);

template <class Make, class... Extra>
void seal(py::handle cls, Make&& make, const Extra&... extra) {
  const char* name = reinterpret_cast<PyTypeObject*>(cls.ptr())->tp_name;
  seal_with(cls, py::cpp_function(std::forward<Make>(make), py::name(name), extra...));
}

}  // namespace fusedrnn
