// A module's training calls, as Python has them: `_native.Calls`.
//
// A call that a module makes in training mode keeps what its backward reads, its tape. It lives as long as one of its
// results does, or a later call whose input came from it; a module's newest call lives in any case. Backward takes the
// newest call that it has not taken yet. Where another one waits that the newest does not come from, it cannot be known
// which of them is meant: that raises, unless the caller says which (`of`, a result of the call). What backward has
// taken stays for another backward until the module is called again, but where its results have gone, and a call beside
// it has that backward never took: the results of both were there at a time, so the other backward may be meant for
// that.
//
// Native, so that nothing that Python is interrupted by comes between its parts, and because a loop of small steps
// spends much of its time here.
#include <string>
#include <utility>

#include "bindings/calls/recorded.hpp"
#include "bindings/calls/results.hpp"

namespace fusedrnn {
namespace calls {
namespace {

constexpr size_t kRoom = 16;  // references before those of calls that are gone are swept out

Call* call_of(const py::object& object) { return reinterpret_cast<Call*>(object.ptr()); }

// What Python's object holds.
struct Kept {
  py::object owner;               // name of the module's class, for messages
  py::object newest;              // a Call, or null
  std::vector<WeakCall> waiting;  // for backward, oldest first, the newest among them
  std::vector<WeakCall> taken;    // by backward since the newest was made, in that order
  std::vector<WeakCall> beside;   // that waited when one was made that does not come from them
  bool lost = false;              // one of those has gone, and backward never took it
  size_t room = kRoom, room_beside = kRoom;

  // Of `beside` those that live are left.
  void sweep_beside() {
    std::vector<WeakCall> alive;
    for (const WeakCall& reference : beside) reference.get() ? alive.push_back(reference) : void(lost = true);
    room_beside = 2 * alive.size() + kRoom;
    beside = std::move(alive);
  }

  void forget_beside() {
    for (const WeakCall& reference : beside)
      if (const py::object call = reference.get()) call_of(call)->beside = 0;
    beside.clear();
    lost = false;
    room_beside = kRoom;
  }

  // The last call that waits; null where none does.
  py::object last_waiting() {
    while (!waiting.empty()) {
      py::object call = waiting.back().get();
      if (call) return call;
      waiting.pop_back();
    }
    return {};
  }

  // Those that live, but not `without`.
  std::vector<py::object> alive(const std::vector<WeakCall>& of, const Call* without) const {
    std::vector<py::object> calls;
    for (const WeakCall& reference : of) {
      py::object call = reference.get();
      if (call && call.ptr() != reinterpret_cast<const PyObject*>(without)) calls.push_back(std::move(call));
    }
    return calls;
  }
};

struct Calls {
  PyObject_HEAD char unfinished;  // the last call was begun and did not come to its end
  Kept* kept;
};

Calls* calls_of(PyObject* self) { return reinterpret_cast<Calls*>(self); }
Kept& kept_of(PyObject* self) { return *calls_of(self)->kept; }

std::vector<const Call*> plain(const std::vector<py::object>& calls) {
  std::vector<const Call*> result;
  for (const py::object& call : calls) result.push_back(call_of(call));
  return result;
}

// Runs `body`, and has Python raise what it throws.
template <class Body>
PyObject* guarded(const Body& body) {
  try {
    return body().release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

[[noreturn]] void fail(PyObject* type, const std::string& text) {
  PyErr_SetString(type, text.c_str());
  throw py::error_already_set();
}

std::string owner_of(const Kept& kept) { return py::cast<std::string>(kept.owner); }

void require_arguments(const char* method, Py_ssize_t count, Py_ssize_t least, Py_ssize_t most) {
  if (count < least || count > most) fail(PyExc_TypeError, std::string(method) + " got a wrong number of arguments");
}

// --------------------------------------------------------------------------------------------------------- methods
// Backward finds none any more.
PyObject* clear(PyObject* self, PyObject*) {
  Kept& kept = kept_of(self);
  const py::object newest = std::exchange(kept.newest, py::object());  // freed last: more may go with it
  kept.waiting.clear();
  kept.taken.clear();
  kept.forget_beside();
  kept.room = kRoom;
  calls_of(self)->unfinished = 0;
  Py_RETURN_NONE;
}

// Before a new call is made: frees the tapes that nothing waits for.
PyObject* make_room(PyObject* self, PyObject*) {
  return guarded([&]() -> py::object {
    Kept& kept = kept_of(self);
    calls_of(self)->unfinished = 1;
    const py::object newest = std::exchange(kept.newest, py::object());
    const std::vector<WeakCall> taken = std::exchange(kept.taken, {});
    if (!taken.empty()) kept.forget_beside();
    for (const py::object& call : kept.alive(taken, nullptr)) call_of(call)->drop();
    return py::none();
  });
}

// record(version, tape, inputs, results, parts=(), unbatched=False): keeps a call that has just been made, after
// `make_room`, and returns it. `inputs` are the arrays it read, None where absent; `results` those it returned; `parts`
// the calls that a container's is made of.
PyObject* record(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  return guarded([&]() -> py::object {
    require_arguments("record", count, 4, 6);
    Kept& kept = kept_of(self);
    const py::object before = kept.last_waiting();
    std::vector<py::object> sources;
    if (count > 4)
      for (const py::handle part : py::handle(arguments[4])) {
        if (as_call(part.ptr()) == nullptr) fail(PyExc_TypeError, "parts must be Calls");
        sources.push_back(py::reinterpret_borrow<py::object>(part));
      }
    for (const py::handle array : py::handle(arguments[2]))
      if (!array.is_none())
        for (const py::handle call : makers(array)) sources.push_back(py::reinterpret_borrow<py::object>(call));
    py::tuple all(sources.size());
    for (size_t i = 0; i < sources.size(); ++i) all[i] = sources[i];
    const py::object call = make_call(arguments[0], arguments[1], std::move(all), count > 5 && arguments[5] == Py_True);
    const bool linked = before && call_of(call)->comes_from({call_of(before)});
    call_of(call)->follows = !before || (linked && call_of(before)->follows);
    // References are made before they go into vectors: that may run a garbage collector, and with it a call of this
    // module.
    WeakCall reference(call_of(call));
    if (before && !linked && !call_of(before)->beside) {
      WeakCall other(call_of(before));
      if (kept.beside.size() >= kept.room_beside) kept.sweep_beside();
      kept.beside.push_back(std::move(other));
      call_of(before)->beside = 1;
    }
    if (kept.waiting.size() >= kept.room) {
      std::vector<WeakCall> alive;
      for (const WeakCall& reference : kept.waiting)
        if (reference.get()) alive.push_back(reference);
      kept.room = 2 * alive.size() + kRoom;
      kept.waiting = std::move(alive);
    }
    for (const py::handle array : py::handle(arguments[3]))
      if (!array.is_none()) returned(array, call);
    kept.waiting.push_back(std::move(reference));
    kept.newest = call;
    calls_of(self)->unfinished = 0;
    return call;
  });
}

// The call that `of` is a result of.
py::object named(const Kept& kept, py::handle of) {
  const py::tuple made = makers(of);
  for (const py::handle call : made)
    for (const std::vector<WeakCall>* references : {&kept.waiting, &kept.taken})
      for (const WeakCall& reference : *references)
        if (reference.is(as_call(call.ptr()))) return py::reinterpret_borrow<py::object>(call);
  fail(PyExc_ValueError, "of must be a result of a training call of this " + owner_of(kept) +
                             " whose tape lives, it is none: a tape goes with the call's results, with the next call "
                             "after its backward, and with eval()");
}

// select(of=None): the call that backward means, None where there is none. `of` is a result of the call, or the call
// itself; None for the newest that backward has not taken. ValueError where `of` is no result of a call of this module
// whose tape lives; RuntimeError where it is None, and another call might be meant.
PyObject* select(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  return guarded([&]() -> py::object {
    require_arguments("select", count, 0, 1);
    Kept& kept = kept_of(self);
    if (count == 1 && arguments[0] != Py_None) {
      const Call* const call = as_call(arguments[0]);
      if (call == nullptr) return named(kept, arguments[0]);
      return call->tape == Py_None ? py::none() : py::reinterpret_borrow<py::object>(arguments[0]);
    }
    const py::object call = kept.last_waiting();
    if (call) {
      if (call_of(call)->follows) return call;
      const std::vector<py::object> others = kept.alive(kept.waiting, call_of(call));
      if (!call_of(call)->comes_from(plain(others)))
        fail(PyExc_RuntimeError,
             owner_of(kept) + ".backward: " + std::to_string(others.size() + 1) +
                 " training calls wait for it, and the newest does not come from the others, so it cannot be known "
                 "which one is meant: say which by of=, a result of that call; calls that need no backward belong in "
                 "eval mode");
      return call;
    }
    const py::object again = kept.taken.empty() ? py::object() : kept.taken.back().get();
    if (!again) return py::none();
    for (const py::object& other : kept.alive(kept.taken, call_of(again)))
      if (call_of(other)->comes_from({call_of(again)}) || call_of(again)->comes_from({call_of(other)}))
        fail(PyExc_RuntimeError, owner_of(kept) +
                                     ".backward has taken every call of a loop, so it cannot be known which one is "
                                     "meant: say which by of=, a result of that call");
    kept.sweep_beside();
    // The module and this function have references to it; all others are of its results, or of calls that came from it.
    const bool results_live = Py_REFCNT(again.ptr()) > 1 + static_cast<Py_ssize_t>(kept.newest.is(again));
    if (kept.lost && !results_live)
      fail(PyExc_RuntimeError, owner_of(kept) +
                                   ".backward has taken its newest call, and another has gone with its results, so it "
                                   "cannot be known which one is meant: keep the results of each, and say which by "
                                   "of=, a result of that call; calls that need no backward belong in eval mode");
    return again;
  });
}

// took(call): backward of it is done.
PyObject* took(PyObject* self, PyObject* argument) {
  return guarded([&]() -> py::object {
    Call* const call = as_call(argument);
    if (call == nullptr) fail(PyExc_TypeError, "call must be a Call");
    Kept& kept = kept_of(self);
    kept.taken.reserve(kept.taken.size() + 1);
    WeakCall reference(call);
    for (std::vector<WeakCall>* references : {&kept.waiting, &kept.taken, &kept.beside}) {
      if (references == &kept.beside && !call->beside) continue;
      for (size_t i = references->size(); i-- > 0;)  // mostly the last
        if ((*references)[i].is(call)) {
          references->erase(references->begin() + static_cast<std::ptrdiff_t>(i));
          break;
        }
    }
    call->beside = 0;
    kept.taken.push_back(std::move(reference));
    return py::none();
  });
}

// The call made last, or where that failed the last before it that waits.
PyObject* newest(PyObject* self, void*) {
  return guarded([&]() -> py::object {
    Kept& kept = kept_of(self);
    const py::object call = kept.newest ? kept.newest : kept.last_waiting();
    return call ? call : py::none();
  });
}

// An iterator over those that live, in no order that means anything.
PyObject* iterate(PyObject* self) {
  return guarded([&]() -> py::object {
    py::list living;
    for (const std::vector<WeakCall>* references : {&kept_of(self).waiting, &kept_of(self).taken})
      for (const py::object& call : kept_of(self).alive(*references, nullptr)) living.append(call);
    return py::iter(living);
  });
}

// ------------------------------------------------------------------------------------------------------------ type
PyObject* make(PyTypeObject* type, PyObject* arguments, PyObject* named) {
  static const char* names[] = {"owner", nullptr};
  PyObject* owner = nullptr;
  if (!PyArg_ParseTupleAndKeywords(arguments, named, "U", const_cast<char**>(names), &owner)) return nullptr;
  return guarded([&]() -> py::object {
    py::object self = py::reinterpret_steal<py::object>(type->tp_alloc(type, 0));
    if (!self) throw py::error_already_set();
    calls_of(self.ptr())->kept = new Kept;
    kept_of(self.ptr()).owner = py::reinterpret_borrow<py::object>(owner);
    return self;
  });
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (calls_of(self)->kept != nullptr) Py_VISIT(kept_of(self).newest.ptr());
  return 0;
}

int forget_all(PyObject* self) {
  if (calls_of(self)->kept != nullptr) Py_XDECREF(clear(self, nullptr));
  return 0;
}

void dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  forget_all(self);
  delete std::exchange(calls_of(self)->kept, nullptr);
  PyTypeObject* const type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyCFunction method(PyObject* (*function)(PyObject*, PyObject* const*, Py_ssize_t)) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef methods[] = {
    {"clear", clear, METH_NOARGS, nullptr},
    {"make_room", make_room, METH_NOARGS, nullptr},
    {"record", method(record), METH_FASTCALL, nullptr},
    {"select", method(select), METH_FASTCALL, nullptr},
    {"took", took, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef members[] = {
    {"unfinished", T_BOOL, offsetof(Calls, unfinished), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyGetSetDef properties[] = {
    {"newest", newest, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

constexpr const char* kDoc =
    "Calls(owner)\n--\n\nA module's training calls: which live, and which of them backward means.";

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>(kDoc)},
    {Py_tp_new, reinterpret_cast<void*>(make)},
    {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(forget_all)},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_iter, reinterpret_cast<void*>(iterate)},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, properties},
    {0, nullptr},
};

PyType_Spec spec = {"fusedrnn._native.Calls", sizeof(Calls), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};

}  // namespace
}  // namespace calls

void bind_input_copy(py::module_& m);

void bind_calls(py::module_& m) {
  bind_call(m);
  bind_results(m);
  add_type(m, calls::spec);
  bind_input_copy(m);
}

}  // namespace fusedrnn
