// The module `_native`: backends and threads here, the operations in the files beside this one.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/arrays/device_array.hpp"
#include "device/plugin.hpp"
#include "isa/registry.hpp"
#include "runtime/cpu.hpp"
#include "runtime/error.hpp"
#include "runtime/fpenv.hpp"
#include "runtime/memory.hpp"
#include "runtime/threads.hpp"

namespace py = pybind11;

namespace fusedrnn {

void bind_device(py::module_& m);
void bind_store(py::module_& m);
void bind_calls(py::module_& m);
void bind_sequence(py::module_& m);
void bind_layers(py::module_& m);
void bind_losses(py::module_& m);
void bind_optim(py::module_& m);
void bind_step(py::module_& m);

namespace {

std::vector<std::string> names(const std::vector<const Backend*>& backends) {
  std::vector<std::string> result;
  for (const Backend* backend : backends) result.emplace_back(backend->name);
  return result;
}

// Sizes in bytes; 0 where the system does not say. cpu_quota is None without a limit of the control groups.
py::dict cpu_info() {
  py::dict info;
  info["model"] = cpu_model();
  info["isa"] = current_backend().name;
  info["available_isas"] = names(available_backends());
  const char* const why_no_amx = why_no_tiles();
  info["why_no_amx"] = why_no_amx ? py::object(py::str(why_no_amx)) : py::none();
  info["threads"] = num_threads();
  info["threads_from"] = num_threads_from();
  info["logical_cpus"] = logical_cpus();
  info["physical_cores"] = physical_cores();
  const double quota = cpu_quota();
  info["cpu_quota"] = quota > 0 ? py::object(py::float_(quota)) : py::none();
  info["l1d_bytes"] = cache_bytes(1);
  info["l2_bytes"] = cache_bytes(2);
  info["l3_bytes"] = cache_bytes(3);
  return info;
}

// What there is of CUDA. Opens the plugin if that was not done yet. why_not is None where CUDA can be used, path where
// there is no library; memory is the kind in DLPack's numbers, None where CUDA cannot be used. not_used has path and
// reason of each library that was refused before that one was taken.
py::dict cuda_info() {
  const Plugin& plugin = cuda_plugin();
  py::dict info;
  info["why_not"] = plugin.backend == nullptr ? py::object(py::str(plugin.why_not)) : py::none();
  info["path"] = plugin.path.empty() ? py::none() : py::object(py::str(plugin.path));
  info["memory"] = plugin.backend == nullptr ? py::object(py::none()) : py::int_(plugin.backend->memory);
  py::list not_used;
  for (const Plugin::Refused& refused : plugin.not_used) not_used.append(py::make_tuple(refused.path, refused.why));
  info["not_used"] = not_used;
  return info;
}

// The device that arrays are made on, in a few words: "cuda:0, NVIDIA H100 ...".
std::string cuda_device() {
  const Backend& backend = device_backend();
  char text[2048] = "";
  check(backend, backend.describe(text, sizeof text), "describe");
  return std::string(backend.name) + ":" + std::to_string(backend.device()) + ", " + text;
}

void bind_runtime(py::module_& m) {
  m.def("backend", [] { return std::string(current_backend().name); });
  m.def("set_backend", &set_backend, py::arg("name"));
  m.def("load_backend", &load_backend, py::arg("path"));
  m.def("available_backends", [] { return names(available_backends()); });
  m.def("get_num_threads", &num_threads);
  m.def(
      "set_num_threads", [](py::handle n) { set_num_threads(static_cast<int>(integer("n", n, 1, kMaxThreads))); },
      py::arg("n"));
  m.def("set_flush_denormal", [](py::handle mode) { return set_flush_denormals(flag("mode", mode)); }, py::arg("mode"));
  m.def("cpu_info", &cpu_info);
  m.def("host_allocations", &host_allocations);
  m.def("cuda_info", &cuda_info);
  m.def("cuda_device", &cuda_device);
  m.def("cuda_packages", &cuda_packages);
}

}  // namespace
}  // namespace fusedrnn

PYBIND11_MODULE(_native, m) {
  m.attr("__version__") = FUSEDRNN_VERSION;
  fusedrnn::bind_runtime(m);
  fusedrnn::bind_device(m);
  fusedrnn::bind_store(m);
  fusedrnn::bind_calls(m);
  fusedrnn::bind_sequence(m);
  fusedrnn::bind_layers(m);
  fusedrnn::bind_losses(m);
  fusedrnn::bind_optim(m);
  fusedrnn::bind_step(m);
}
