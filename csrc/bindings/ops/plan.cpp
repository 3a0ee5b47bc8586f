// Cells by name, and the plan of a stack as data.
#include "bindings/arrays/device_array.hpp"
#include "bindings/ops/sequence.hpp"
#include "isa/plan_override.hpp"
#include "runtime/error.hpp"
#include "runtime/threads.hpp"

namespace fusedrnn {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 62;

constexpr CellName kCells[] = {{"rnn_tanh", CellKind::rnn_tanh, 1},
                               {"rnn_relu", CellKind::rnn_relu, 1},
                               {"gru", CellKind::gru, 3},
                               {"lstm", CellKind::lstm, 4}};

py::dict sequence_plan(const std::string& cell, const std::string& dtype, py::handle num_layers,
                       py::handle num_directions, py::handle T, py::handle B, py::handle I, py::handle H,
                       py::handle threads, const std::string& precision, const std::string& algo,
                       const std::string& device) {
  if (device != "cpu" && device != "cuda") bad_value("device", "'cpu' or 'cuda'", "'" + device + "'");
  if (dtype != "float32" && dtype != "float64") bad_value("dtype", "'float32' or 'float64'", "'" + dtype + "'");
  SequenceDesc desc{};
  desc.cell = cell_named(cell).kind;
  desc.dtype = dtype == "float32" ? DType::float32 : DType::float64;
  desc.precision = precision_named(precision);
  require_plan(desc, algo);
  desc.layers = static_cast<int32_t>(integer("num_layers", num_layers, 1, kMaxLayers));
  desc.directions = static_cast<int32_t>(integer("num_directions", num_directions, 1, 2));
  offer_threads(desc, static_cast<int32_t>(integer("threads", threads, 1, kMaxThreads)));
  desc.T = integer("T", T, 0, kMaxSize);
  desc.B = integer("B", B, 0, kMaxSize);
  desc.I = integer("I", I, 0, kMaxSize);
  desc.H = integer("H", H, 1, kMaxSize);
  desc.train = 1;
  const Backend& backend = backend_of(device == "cuda" ? &device_backend() : nullptr);
  Plan plan;
  check(backend, backend.sequence->plan(&desc, &plan), "plan");
  py::dict result;
  result["name"] = plan.name;
  result["direction_groups"] = plan.direction_groups;
  result["row_groups"] = plan.row_groups;
  result["unit_groups"] = plan.unit_groups;
  result["chunk_steps"] = plan.chunk_steps;
  if (plan.cluster_rows > 0) {
    result["cluster_rows"] = plan.cluster_rows;
    result["shared_bytes"] = plan.shared_bytes;
    result["layers_at_once"] = plan.layers_at_once;
  }
  return result;
}

}  // namespace

const CellName& cell_named(const std::string& name) {
  for (const CellName& cell : kCells)
    if (name == cell.name) return cell;
  bad_value("cell", "one of 'rnn_tanh', 'rnn_relu', 'gru', 'lstm'", "'" + name + "'");
}

Precision precision_named(const std::string& name) {
  constexpr const char* kNames[] = {"ieee", "tf32", "tf32x3", "bf16", "fp16"};
  for (int32_t i = 0; i < 5; ++i)
    if (name == kNames[i]) return static_cast<Precision>(i);
  bad_value("precision", "one of 'ieee', 'tf32', 'tf32x3', 'bf16', 'fp16'", "'" + name + "'");
}

void require_plan(SequenceDesc& desc, const std::string& algo) {
  if (!plan_kind(algo, desc.plan))
    bad_value("algo", "one of 'auto', 'reference', 'step', 'cluster', 'grid'", "'" + algo + "'");
  desc.plan_required = desc.plan != PlanKind::automatic;
}

void bind_plan(py::module_& m) {
  m.def("force_plan", &force_plan, py::arg("text"));
  m.def("sequence_plan", &sequence_plan, py::arg("cell"), py::arg("dtype"), py::arg("num_layers"),
        py::arg("num_directions"), py::arg("T"), py::arg("B"), py::arg("I"), py::arg("H"), py::arg("threads"),
        py::arg("precision") = "ieee", py::arg("algo") = "auto", py::arg("device") = "cpu");
}

}  // namespace fusedrnn
