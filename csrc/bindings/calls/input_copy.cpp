// What a training call keeps of its input: a copy, in memory that a step before has used.
#include "bindings/arrays/argument.hpp"
#include "bindings/calls/recorded.hpp"
#include "bindings/gil.hpp"
#include "runtime/memory.hpp"
#include "runtime/team.hpp"

namespace fusedrnn {
namespace {

constexpr size_t kWorthSharing = size_t{32} << 10;  // bytes; less is copied before another thread has begun

// Copies `from` in the order of memory, which for a C-contiguous array is that of its elements.
py::array input_copy(const py::array& from) {
  const py::ssize_t bytes = from.nbytes();
  const py::array memory = fresh(Element::uint8, {bytes}, "x");
  const std::vector<py::ssize_t> sizes(from.shape(), from.shape() + from.ndim());
  py::array copy(from.dtype(), sizes, memory.data(), memory);
  const void* const source = from.data();
  void* const target = copy.mutable_data();
  const GilRelease release;
  TeamLease lease;
  const bool shared = static_cast<size_t>(bytes) >= kWorthSharing && lease.awake();
  shared_copy(target, source, static_cast<size_t>(bytes), shared ? lease.team() : solo_team());
  return copy;
}

}  // namespace

void bind_input_copy(py::module_& m) { m.def("input_copy", &input_copy, py::arg("x")); }

}  // namespace fusedrnn
