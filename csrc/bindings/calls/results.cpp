#include "bindings/calls/results.hpp"

#include "bindings/calls/references.hpp"

#include <unordered_map>

namespace fusedrnn {
namespace {

struct Returned {
  py::object reference;  // to the array, whose end calls `forget`
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

// The entry of the array; null where there is none. One whose array is gone, but where `forget` could not run, as at
// the end of Python's stack, is taken out: another array may lie at that address now.
Returned* entry_of(py::handle array) {
  const auto found = results().find(array.ptr());
  if (found == results().end()) return nullptr;
  if (alive(found->second.reference).is(array)) return &found->second;
  arrays().erase(found->second.reference.ptr());
  const auto stale = results().extract(found);
  return nullptr;
}

}  // namespace

py::tuple makers(py::handle array) {
  if (const Returned* entry = entry_of(array)) return entry->calls;
  const py::object base = py::reinterpret_steal<py::object>(PyObject_GetAttr(array.ptr(), base_name));
  if (!base) {
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) throw py::error_already_set();
    PyErr_Clear();
    return py::tuple(0);
  }
  const Returned* const entry = entry_of(base);
  return entry != nullptr ? entry->calls : py::tuple(0);
}

void returned(py::handle array, py::handle call) {
  // Python's objects first: making one may run a garbage collector, and whatever that runs may come here.
  const py::tuple made = py::make_tuple(call);
  Returned entry{weak_reference(array, forgetting()), made};
  if (const Returned* known = entry_of(array)) {
    py::tuple all = py::tuple(py::tuple(known->calls) + made);
    if (Returned* again = entry_of(array)) again->calls = std::move(all);
    return;
  }
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
