// Cells, precisions and plans by name, and the plan of a stack as data.
#include "bindings/arrays/device_array.hpp"
#include "bindings/ops/sequence.hpp"
#include "isa/plan_override.hpp"
#include "runtime/error.hpp"
#include "runtime/threads.hpp"

namespace fusedrnn {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 62;

// "one of 'a', 'b'" of an array of names.
template <size_t N>
std::string one_of(const char* const (&names)[N]) {
  std::string text = "one of ";
  for (const char* name : names) text += (name == names[0] ? "'" : ", '") + std::string(name) + "'";
  return text;
}

template <size_t N>
py::tuple tuple_of(const char* const (&names)[N]) {
  py::tuple tuple(N);
  for (size_t i = 0; i < N; ++i) tuple[i] = names[i];
  return tuple;
}

// Words divided by spaces.
py::object words(const char* text) { return py::tuple(py::str(text).attr("split")()); }

// What CellTraits says of every cell, for Python.
py::dict cells() {
  py::dict all;
  for (const CellTraits& cell : kCells) {
    py::list weights;
    for (int32_t i = 0; i < cell.weights.count; ++i) {
      const WeightSpec& spec = cell.weights.spec[i];
      weights.append(py::make_tuple(spec.name, kWeightRoles[static_cast<int32_t>(spec.role)], spec.blocks));
    }
    py::dict facts;
    facts["family"] = cell.family;
    facts["gates"] = words(cell.gate_names);
    facts["tape"] = words(cell.tape_names);
    facts["cell_state"] = cell.has_cell_state;
    facts["on_cuda"] = cell.on_cuda;
    facts["weights"] = py::tuple(weights);
    all[cell.name] = facts;
  }
  return all;
}

// The names of those that `wanted` says.
py::tuple precisions(bool (*wanted)(const PrecisionFacts&)) {
  py::list names;
  for (const PrecisionFacts& precision : kPrecisions)
    if (wanted(precision)) names.append(precision.name);
  return py::tuple(names);
}

py::dict sequence_plan(const std::string& cell, const std::string& dtype, py::handle num_layers,
                       py::handle num_directions, py::handle T, py::handle B, py::handle I, py::handle H,
                       py::handle threads, const std::string& precision, const std::string& algo,
                       const std::string& device, py::handle proj_size) {
  if (device != "cpu" && device != "cuda") bad_value("device", "'cpu' or 'cuda'", "'" + device + "'");
  SequenceDesc desc{};
  desc.cell = cell_named(cell).kind;
  desc.dtype = dtype_named(dtype);
  desc.precision = precision_named(precision);
  require_plan(desc, algo);
  desc.layers = static_cast<int32_t>(integer("num_layers", num_layers, 1, kMaxLayers));
  desc.directions = static_cast<int32_t>(integer("num_directions", num_directions, 1, 2));
  offer_threads(desc, static_cast<int32_t>(integer("threads", threads, 1, kMaxThreads)));
  desc.T = integer("T", T, 0, kMaxSize);
  desc.B = integer("B", B, 0, kMaxSize);
  desc.I = integer("I", I, 0, kMaxSize);
  desc.H = integer("H", H, 1, kMaxSize);
  const Backend* const on = device == "cuda" ? &device_backend() : nullptr;
  desc.P = projection_asked(desc, proj_size, on);
  desc.train = 1;
  const Backend& backend = backend_of(on);
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

#define FUSEDRNN_NAME(kind, Type) #kind,
constexpr const char* kCellNames[] = {FUSEDRNN_CELLS(FUSEDRNN_NAME)};
#undef FUSEDRNN_NAME

const CellTraits& cell_named(const std::string& name) {
  for (const CellTraits& cell : kCells)
    if (name == cell.name) return cell;
  bad_value("cell", one_of(kCellNames), "'" + name + "'");
}

Precision precision_named(const std::string& name) {
  int32_t value = 0;
  std::string known;
  for (const PrecisionFacts& precision : kPrecisions) {
    if (name == precision.name) return static_cast<Precision>(value);
    known += (value++ > 0 ? ", " : "") + std::string("'") + precision.name + "'";
  }
  bad_value("precision", "one of " + known, "'" + name + "'");
}

void require_plan(SequenceDesc& desc, const std::string& algo) {
  if (!plan_kind(algo, desc.plan)) bad_value("algo", one_of(kPlanNames), "'" + algo + "'");
  desc.plan_required = desc.plan != PlanKind::automatic;
}

void bind_plan(py::module_& m) {
  m.attr("MAX_LAYERS") = kMaxLayers;
  m.def("cells", &cells);
  m.def("precisions", [] { return precisions([](const PrecisionFacts&) { return true; }); });
  m.def("cpu_precisions", [] { return precisions([](const PrecisionFacts& p) { return p.cpu; }); });
  m.def("cuda_precisions", [] { return precisions([](const PrecisionFacts& p) { return p.cuda; }); });
  m.def("algos", [] { return tuple_of(kPlanNames); });
  m.def("force_plan", &force_plan, py::arg("text"));
  m.def("sequence_plan", &sequence_plan, py::arg("cell"), py::arg("dtype"), py::arg("num_layers"),
        py::arg("num_directions"), py::arg("T"), py::arg("B"), py::arg("I"), py::arg("H"), py::arg("threads"),
        py::arg("precision") = "ieee", py::arg("algo") = "auto", py::arg("device") = "cpu", py::arg("proj_size") = 0);
}

}  // namespace fusedrnn
