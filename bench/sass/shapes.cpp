// The clusters that the plan `cluster` takes on an H200, as JSON lines: what sass_counts.py multiplies loops by.
//
//   shapes CELL ELEMENT B H    a line for forward and one for backward; none where nothing fits
//
// Built from the plan's own source (cuda/cluster.cu), so that there is one truth about shapes and clocks.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "../../cuda/cluster.cu"

namespace fusedrnn::cuda {

CellSteps steps_of(CellKind) {
  CellSteps steps{};
  steps.cluster_room = [](Element, bool, const ClusterShape&, int32_t* clusters) {
    *clusters = 1;
    return Status::ok;
  };
  return steps;
}

namespace {

void print(const char* pass, const ClusterShape& s, Element e) {
  std::printf(
      "{\"pass\": \"%s\", \"blocks\": %d, \"rows\": %d, \"units\": %d, \"gates\": %d, \"handed\": %d, \"tiles\": %d, "
      "\"splits\": %d, \"jobs\": %d, \"job_depth\": %d, \"held\": %d, \"bytes\": %lld, \"resident\": %lld, "
      "\"element\": %d, \"clocks\": %lld}\n",
      pass, s.blocks, s.rows, s.units, s.gates, s.handed, s.tiles, s.splits, s.jobs, s.job_depth, s.held,
      static_cast<long long>(s.bytes), static_cast<long long>(s.bytes - s.r_at), static_cast<int>(bytes_of(e)),
      static_cast<long long>(clocks_of_step(e, s)));
}

int run(const char* cell, const char* element, int64_t B, int64_t H) {
  SequenceDesc desc{};
  desc.plan = PlanKind::cluster;
  desc.cell = std::strcmp(cell, "lstm") == 0  ? CellKind::lstm
              : std::strcmp(cell, "gru") == 0 ? CellKind::gru
                                              : CellKind::rnn_tanh;
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
  const door::Limits h200{9, 132, 227 * 1024};
  ClusterPlan plan;
  if (plan_clusters(desc, e, h200, &plan) != Status::ok) return 1;
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
