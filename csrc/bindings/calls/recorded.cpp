#include "bindings/calls/recorded.hpp"

#include <algorithm>
#include <cstring>
#include <unordered_set>
#include <utility>

#include "bindings/calls/references.hpp"

namespace fusedrnn {
namespace {

PyTypeObject* call_type = nullptr;

Call* call_of(PyObject* object) { return reinterpret_cast<Call*>(object); }

int call_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(call_of(self)->version);
  Py_VISIT(call_of(self)->tape);
  Py_VISIT(call_of(self)->sources);
  return 0;
}

int call_clear(PyObject* self) {
  Py_CLEAR(call_of(self)->version);
  Py_CLEAR(call_of(self)->tape);
  Py_CLEAR(call_of(self)->sources);
  return 0;
}

// A loop over a sequence makes a chain of calls, each with the one before among its sources: Python's trashcan frees it
// without a frame of the stack for each.
void call_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  Py_TRASHCAN_BEGIN(self, call_dealloc);
  if (call_of(self)->weak_references != nullptr) PyObject_ClearWeakRefs(self);
  call_clear(self);
  PyTypeObject* const type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
  Py_TRASHCAN_END
}

PyMemberDef call_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Call, weak_references), READONLY, nullptr},
    {"version", T_OBJECT, offsetof(Call, version), READONLY, nullptr},
    {"tape", T_OBJECT, offsetof(Call, tape), READONLY, nullptr},
    {"sources", T_OBJECT, offsetof(Call, sources), READONLY, nullptr},
    {"follows", T_BOOL, offsetof(Call, follows), READONLY, nullptr},
    {"unbatched", T_BOOL, offsetof(Call, unbatched), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot call_slots[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(call_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(call_clear)},
    {Py_tp_dealloc, reinterpret_cast<void*>(call_dealloc)},
    {Py_tp_members, call_members},
    {0, nullptr},
};

PyType_Spec call_spec = {
    "fusedrnn._native.Call",
    sizeof(Call),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    call_slots,
};

}  // namespace

bool Call::comes_from(const std::vector<const Call*>& others) const {
  std::unordered_set<const Call*> wanted(others.begin(), others.end()), seen;
  std::vector<const Call*> stack{this};
  while (!stack.empty() && !wanted.empty()) {
    const Call* const call = stack.back();
    stack.pop_back();
    for (Py_ssize_t i = 0; call->sources != nullptr && i < PyTuple_GET_SIZE(call->sources); ++i) {
      const Call* const source = call_of(PyTuple_GET_ITEM(call->sources, i));
      wanted.erase(source);
      if (seen.insert(source).second) stack.push_back(source);
    }
  }
  return wanted.empty();
}

void Call::drop() {
  // Held until both are replaced: what goes with them may lead back here.
  const py::object was = py::reinterpret_steal<py::object>(std::exchange(tape, Py_NewRef(Py_None)));
  const py::object from = py::reinterpret_steal<py::object>(std::exchange(sources, py::tuple(0).release().ptr()));
}

py::object make_call(py::handle version, py::handle tape, py::tuple sources, bool unbatched) {
  PyObject* const made = call_type->tp_alloc(call_type, 0);
  if (made == nullptr) throw py::error_already_set();
  Call* const call = call_of(made);
  call->version = version.inc_ref().ptr();
  call->tape = tape.inc_ref().ptr();
  call->sources = sources.release().ptr();
  call->unbatched = unbatched;
  return py::reinterpret_steal<py::object>(made);
}

Call* as_call(PyObject* object) { return Py_TYPE(object) == call_type ? call_of(object) : nullptr; }

WeakCall::WeakCall(Call* call) : reference_(weak_reference(call->object())) {}

py::object WeakCall::get() const { return alive(reference_); }

PyTypeObject* add_type(py::module_& m, PyType_Spec spec) {
  const py::object type = py::reinterpret_steal<py::object>(PyType_FromSpec(&spec));
  if (!type) throw py::error_already_set();
  m.attr(std::strrchr(spec.name, '.') + 1) = type;
  return reinterpret_cast<PyTypeObject*>(type.inc_ref().ptr());  // as long as the process: there is one interpreter
}

void bind_call(py::module_& m) { call_type = add_type(m, call_spec); }

}  // namespace fusedrnn
