// One training call of a module, as Python has it: `_native.Call`. What it keeps, and what it came from.
#pragma once

#include <pybind11/pybind11.h>
#include <structmember.h>

#include <initializer_list>
#include <vector>

namespace fusedrnn {

namespace py = pybind11;

struct Call {
  PyObject_HEAD PyObject* weak_references;
  PyObject* version;  // of the weights it was made with
  PyObject* tape;     // what backward reads; None once it is gone
  PyObject* sources;  // a tuple: the calls its inputs came from, and for a container those it is made of
  char follows;       // it is known to come from every call of its module that waited when it was made
  char beside;        // its module has it among those that stood beside a later one
  char unbatched;     // its arrays have no batch axis, which what the tape is of has

  // Whether all of `others` are among the sources, or theirs.
  bool comes_from(const std::vector<const Call*>& others) const;

  // Frees what backward would read.
  void drop();

  PyObject* object() { return reinterpret_cast<PyObject*>(this); }
};

// A call that nothing has come from yet.
py::object make_call(py::handle version, py::handle tape, py::tuple sources, bool unbatched);

// The Call that `object` is, nullptr where it is none.
Call* as_call(PyObject* object);

// A reference that does not keep its call alive.
class WeakCall {
 public:
  explicit WeakCall(Call* call);
  // The call, null once it is gone.
  py::object get() const;
  // Whether it is the one referred to, and alive.
  bool is(const Call* call) const { return reinterpret_cast<Call*>(get().ptr()) == call; }

 private:
  py::object reference_;
};

// A type of `size` bytes an object, made by its slots; in `m` by the last part of its name.
PyTypeObject* add_type(py::module_& m, PyType_Spec spec);

void bind_call(py::module_& m);

}  // namespace fusedrnn
