// What Python's bookkeeping of training calls (_core/calls.py) does when an array that a call returned is gone.
#include <pybind11/pybind11.h>

namespace py = pybind11;

namespace fusedrnn {
namespace {

// Takes the weak reference of an array out of the dict that has it by its `key`. Native, for Python would have an
// exception of a signal handler's raised and lost in such a callback, with the entry left behind.
py::object forgetting(const py::dict& results) {
  return py::cpp_function([results](const py::object& reference) {
    const py::object key = reference.attr("key");
    if (results.contains(key) && py::object(results[key]).is(reference)) PyDict_DelItem(results.ptr(), key.ptr());
  });
}

}  // namespace

void bind_results(py::module_& m) { m.def("forgetting", &forgetting, py::arg("results")); }

}  // namespace fusedrnn
