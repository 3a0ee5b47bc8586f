// What a plan takes on an H200, as JSON lines: what sass_counts.py multiplies loops by.
//
//   shapes CELL ELEMENT B H    a line for each pass; none where the plan does not fit
//
// Built once for `cluster` and, with FUSEDRNN_GRID, once for `grid`, from the plans' own sources, so that there is one
// truth about shapes and clocks.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#if defined(FUSEDRNN_GRID)
#include "../../cuda/recurrent/grid/grid.cu"
#else
#include "../../cuda/recurrent/cluster/cluster.cu"
#endif

namespace fusedrnn::cuda {

// There is room for every shape that shared memory holds, for a block on each multiprocessor.
constexpr hw::Limits kH200{9, 132, 227 * 1024};

#if defined(FUSEDRNN_GRID)
constexpr PlanKind kPlan = PlanKind::grid;
using Chosen = GridPlan;
GridSteps steps_with_room() {
  GridSteps steps{};
  steps.room = [](Element, bool, const GridShape&, int32_t* blocks) {
    *blocks = kH200.multiprocessors;
    return Status::ok;
  };
  return steps;
}
#define FUSEDRNN_DEFINE(kind, Type) \
  GridSteps kind##_grid() { return steps_with_room(); }
FUSEDRNN_CELLS(FUSEDRNN_DEFINE)
#undef FUSEDRNN_DEFINE
Status choose(const SequenceDesc& desc, Element e, Chosen* plan) { return plan_grid(desc, e, kH200, plan); }
int most_held(Element e, const GridShape& s) { return grid_held(e, s.tiles); }
int64_t slot(Element e, const GridShape& s) { return kGridSlotBytes / (grid_fragment(e).depth * s.rows * bytes_of(e)); }
#else
constexpr PlanKind kPlan = PlanKind::cluster;
using Chosen = ClusterPlan;
CellSteps steps_of(CellKind) {
  CellSteps steps{};
  steps.cluster_room = [](Element, bool, const ClusterShape& shape, int32_t* clusters) {
    *clusters = kH200.multiprocessors / shape.blocks;
    return Status::ok;
  };
  return steps;
}
Status choose(const SequenceDesc& desc, Element e, Chosen* plan) { return plan_clusters(desc, e, kH200, plan); }
int most_held(Element e, const ClusterShape& s) { return held_fragments(e, s.rows); }
int64_t slot(Element, const ClusterShape&) { return 0; }
#endif

namespace {

template <class Shape>
void print(const char* pass, const Shape& s, Element e) {
  std::printf(
      "{\"pass\": \"%s\", \"blocks\": %d, \"rows\": %d, \"units\": %d, \"gates\": %d, \"handed\": %d, \"tiles\": %d, "
      "\"splits\": %d, \"jobs\": %d, \"job_depth\": %d, \"held\": %d, \"most_held\": %d, \"slot\": %lld, "
      "\"bytes\": %lld, \"resident\": %lld, \"element\": %d, \"clocks\": %lld}\n",
      pass, s.blocks, s.rows, s.units, s.gates, s.handed, s.tiles, s.splits, s.jobs, s.job_depth, s.held,
      most_held(e, s), static_cast<long long>(slot(e, s)), static_cast<long long>(s.bytes),
      static_cast<long long>(s.bytes - s.r_at), static_cast<int>(bytes_of(e)),
      static_cast<long long>(clocks_of_step(e, s)));
}

int run(const char* cell, const char* element, int64_t B, int64_t H) {
  SequenceDesc desc{};
  desc.plan = kPlan;
  bool known = false;
  for (const CellTraits& each : kCells)
    if (std::strcmp(cell, each.name) == 0) desc.cell = each.kind, known = true;
  if (!known) return 1;
  desc.layers = desc.directions = 1;
  desc.T = 512;
  desc.B = B;
  desc.I = desc.H = H;
  constexpr std::pair<const char*, Element> kElements[] = {{"ieee", Element::f32},
                                                           {"tf32", Element::tf32},
                                                           {"tf32x3", Element::tf32x3},
                                                           {"bf16", Element::bf16},
                                                           {"fp16", Element::fp16}};
  Element e{};
  for (const auto& [name, named] : kElements)
    if (std::strcmp(element, name) == 0) e = named;
  Chosen plan;
  if (choose(desc, e, &plan) != Status::ok) return 1;
  if (plan.forward_used) print("forward", plan.forward, e);
  if (plan.backward_used) print("backward", plan.backward, e);
  return 0;
}

}  // namespace
}  // namespace fusedrnn::cuda

int main(int count, char** texts) {
  if (count != 5) {
    std::fprintf(stderr, "shapes CELL ELEMENT B H\n");
    return 2;
  }
  return fusedrnn::cuda::run(texts[1], texts[2], std::atoll(texts[3]), std::atoll(texts[4]));
}
