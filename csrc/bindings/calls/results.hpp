// Which calls returned an array: they live as long as it does.
#pragma once

#include <pybind11/pybind11.h>

namespace fusedrnn {

namespace py = pybind11;

// The calls that returned the array, a layer's and its containers', or the array that it is a view of: a tuple.
py::tuple makers(py::handle array);

// Has the call live as long as the array. TypeError where there can be no weak reference to the array.
void returned(py::handle array, py::handle call);

void bind_results(py::module_& m);

}  // namespace fusedrnn
