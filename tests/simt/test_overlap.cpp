// Kernels that overlap: right ones give the right numbers under any schedule, and each planted fault is found.
#include "overlap.hpp"

namespace {

using namespace overlap;

// Under some schedule the fault changes what comes out.
template <Plant plant>
void require_wrong(const char* name) {
  int wrong = 0;
  for (int seed = 0; seed < 10; ++seed) {
    set_seed(seed);
    std::vector<float> got, expected;
    require_ok(run<plant>(&got, &expected));
    wrong += got != expected;
  }
  check::require(wrong > 0, "%s changes nothing", name);
}

template <Plant plant>
void require_found(const char* words) {
  for (int seed = 0; seed < 10; ++seed) {
    set_seed(seed);
    std::vector<float> got, expected;
    require_fault(run<plant>(&got, &expected), {"launch of", words});
    require_ok(run<Plant::none>(&got, &expected));  // nothing of it is left behind
    check::require(got == expected, "after a fault, seed %d", seed);
  }
}

// The same kernels as nodes of a graph.
void in_a_graph() {
  for (int seed = 0; seed < 10; ++seed) {
    set_seed(seed);
    Device<float> factors(std::vector<float>(kCount, 1)), first(std::vector<float>(kCount, 2)), second(kCount);
    Stream stream = nullptr;
    Graph graph = nullptr;
    require_ok(capture_begin(&stream));
    for (int step = 0; step < 4; ++step) {
      Grid grid{{kBlocks}, kThreads, sizeof(float) * kThreads};
      grid.overlaps = step > 0;
      const Args args = step % 2 == 0 ? Args{factors.data(), first.data(), second.data()}
                                      : Args{factors.data(), second.data(), first.data()};
      require_ok(launch<turn<Plant::none>>(grid, stream, args));
    }
    require_ok(capture_end(stream, &graph));
    for (int i = 0; i < 3; ++i) require_ok(graph_launch(graph, nullptr));
    require_ok(graph_free(graph));
    check::require(first.values() == std::vector<float>(kCount, 14), "replays, seed %d", seed);
  }
}

void before_compute_capability_9() {
  setenv("FUSEDRNN_SIMT_COMPUTE", "8", 1);
  std::vector<float> got, expected;
  require_fault(run<Plant::none>(&got, &expected), {"no device runs", "that overlaps"});
  unsetenv("FUSEDRNN_SIMT_COMPUTE");
}

}  // namespace

int main() {
  under_schedules(20, [] {
    std::vector<float> got, expected;
    require_ok(run<Plant::none>(&got, &expected));
    check::require(got == expected, "a right chain of kernels");
  });
  require_wrong<Plant::read_early>("reading before the wait");
  require_wrong<Plant::copy_early>("copying before the wait");
  require_wrong<Plant::write_early>("writing before the wait");
  require_found<Plant::store_early>("writes global memory before wait_on_dependency()");
  require_found<Plant::begin_early>("is at launch_dependents() before wait_on_dependency()");
  require_found<Plant::no_wait>("returns without wait_on_dependency()");
  in_a_graph();
  before_compute_capability_9();
  return check::finish("test_overlap");
}
