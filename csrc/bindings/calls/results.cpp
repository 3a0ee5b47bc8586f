#include "bindings/calls/results.hpp"

#include <unordered_map>

namespace fusedrnn {
namespace {

struct Returned {
  py::object reference;  // to the array; its end calls `forget`
  py::tuple calls;
};

// By the array, while it lives. As long as the process: arrays may outlive the module.
std::unordered_map<PyObject*, Returned>& results() {
  static auto* const all = new std::unordered_map<PyObject*, Returned>;
  return *all;
}

// Of those arrays, by the references to them.
std::unordered_map<PyObject*, PyObject*>& arrays() {
  static auto* const all = new std::unordered_map<PyObject*, PyObject*>;
  return *all;
}

// What the end of an array calls. Native, for Python would have an exception of a signal handler's raised and lost in
// such a callback, with the entry left behind. The entry is taken out first and freed last: calls and tapes that go
// with it may hold arrays whose end leads here again.
PyObject* forget(PyObject*, PyObject* reference) {
  const auto array = arrays().find(reference);
  if (array == arrays().end()) Py_RETURN_NONE;
  const auto entry = results().extract(array->second);
  arrays().erase(array);
  Py_RETURN_NONE;
}

PyMethodDef forget_method = {"forget", forget, METH_O, nullptr};

py::handle forgetting() {
  static PyObject* const function = PyCFunction_New(&forget_method, nullptr);
  if (function == nullptr) throw py::error_already_set();
  return function;
}

PyObject* base_name = nullptr;

}  // namespace

py::tuple makers(py::handle array) {
  const auto& all = results();
  auto found = all.find(array.ptr());
  if (found == all.end()) {
    const py::object base = py::reinterpret_steal<py::object>(PyObject_GetAttr(array.ptr(), base_name));
    if (base)
      found = all.find(base.ptr());
    else if (PyErr_ExceptionMatches(PyExc_AttributeError))
      PyErr_Clear();
    else
      throw py::error_already_set();
  }
  return found == all.end() ? py::tuple(0) : found->second.calls;
}

void returned(py::handle array, py::handle call) {
  const auto known = results().find(array.ptr());
  if (known != results().end()) {
    known->second.calls = py::tuple(known->second.calls + py::make_tuple(call));
    return;
  }
  Returned entry{py::reinterpret_steal<py::object>(PyWeakref_NewRef(array.ptr(), forgetting().ptr())),
                 py::make_tuple(call)};
  if (!entry.reference) throw py::error_already_set();
  PyObject* const reference = entry.reference.ptr();
  arrays().emplace(reference, array.ptr());
  try {
    results().emplace(array.ptr(), std::move(entry));
  } catch (...) {
    arrays().erase(reference);
    throw;
  }
}

void bind_results(py::module_& m) {
  base_name = PyUnicode_InternFromString("base");
  m.def("makers", &makers, py::arg("array"));
}

}  // namespace fusedrnn
