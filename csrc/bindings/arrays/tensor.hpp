// Tensors of other libraries in host memory, through DLPack's table of C functions (DLPack 1.3): read where they lie,
// without a copy, a reference or a line of Python. Gradients that a library may want of a tensor are its own business.
#pragma once

#include <optional>

#include "bindings/arrays/dlpack.hpp"

namespace fusedrnn {

// nullopt where the type of `value` has no table, or `value` is elsewhere. What the result points to is the tensor's.
std::optional<DlTensor> host_tensor(py::handle value);

}  // namespace fusedrnn
