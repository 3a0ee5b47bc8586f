// Cooperative launches on the emulator: right kernels give right results under any schedule, and each fault planted in
// the handing round of a state (handing.hpp) is found.
#include "handing.hpp"

namespace {

using namespace handing;

void require_right(const How& how) {
  const Found found = run<Plant::none>(how);
  check::require(found != Found::failure, "%s", status_text());
  check::require(found == Found::nothing, "%d blocks, %d groups, %d launches: wrong numbers", how.blocks, how.groups,
                 how.launches);
}

void right_ones() {
  under_schedules(10, [] {
    for (const int blocks : {1, 2, 3, 8}) require_right({blocks});
    require_right({3, 1, 1});
    require_right({3, 2, 3, 4});  // one launch after the other: flags are not cleared between them
  });
  require_right({20, 3, 3});
}

template <Plant plant>
void require_failure(const How& how, const char* words) {
  if (!check::require(run<plant>(how) == Found::failure, "no fault was found, expected \"%s\"", words)) return;
  check::require(std::strstr(status_text(), words) != nullptr, "\"%s\" does not say \"%s\"", status_text(), words);
}

void faults_that_every_schedule_shows() {
  under_schedules(10, [] {
    require_failure<Plant::epoch_too_high>({}, "waits for ever at flag_poll(): the flag at");
    require_failure<Plant::never_posted>({}, "is 1, and has to become 2");
    require_failure<Plant::posted_twice>({}, "posts 1 to a flag that is at 1: what is posted only grows");
    How stale{3, 2, 5, 2};
    stale.epochs_grow = false;
    require_failure<Plant::none>(stale, "posts 1 to a flag that is at 5: what is posted only grows");
    How alone;
    alone.cooperative = false;
    require_failure<Plant::none>(alone, "a flag in a launch that is not cooperative");
    How fresh;
    fresh.cleared = false;
    require_failure<Plant::none>(fresh, "a flag that nobody has cleared");
  });
}

// Who reads too early, or what is written over too early, gives wrong numbers under some schedules; more often, the
// steps get out of step.
template <Plant plant>
void require_wrong_under_some_schedule(const char* name) {
  int found = 0;
  under_schedules(20, [&] { found += run<plant>({}) != Found::nothing; });
  check::require(found > 0, "%s gives right numbers under every schedule", name);
}

void faults_of_order() {
  require_wrong_under_some_schedule<Plant::no_poll>("no poll");
  require_wrong_under_some_schedule<Plant::one_flag_unpolled>("a flag that is not polled");
  require_wrong_under_some_schedule<Plant::epoch_too_low>("an epoch too low");
  require_wrong_under_some_schedule<Plant::one_buffer>("one buffer");
  require_wrong_under_some_schedule<Plant::post_before_data>("a flag before its data");
  require_wrong_under_some_schedule<Plant::no_barrier_before_post>("no barrier before a flag");
}

// A graph of a pass, run again and again: what clears the flags has to be in it.
void replays() {
  under_schedules(5, [] {
    for (const bool cleared : {true, false}) {
      How how{3, 2, 4, 2};
      how.cleared = cleared;
      const Device<uint32_t> values(first_values(how)), memory(memory_bytes(how) / sizeof(uint32_t));
      require_ok(fill(memory.data(), 0, memory_bytes(how), nullptr));
      require_ok(synchronize(nullptr));
      Stream on = nullptr;
      Graph graph{};
      require_ok(capture_begin(&on));
      require_ok(put<Plant::none>(how, values.data(), memory.data(), on));
      require_ok(capture_end(on, &graph));
      for (int pass = 0; pass < 3; ++pass) require_ok(graph_launch(graph, nullptr));
      if (cleared)
        check::require(values.values() == last_values(how, 3), "wrong numbers after three runs of a graph");
      else
        require_fault(Status::ok, {"posts 1 to a flag that is at 9: what is posted only grows"});
      require_ok(graph_free(graph));
    }
  });
}

void room() {
  int32_t blocks = 0;
  require_ok(blocks_at_once<hand_on<Plant::none>>({{1}, kThreads, 256}, &blocks));
  check::require(blocks == 132, "%d blocks at once", blocks);
  setenv("FUSEDRNN_SIMT_BLOCKS", "6", 1);
  require_ok(blocks_at_once<hand_on<Plant::none>>({{1}, kThreads, 256}, &blocks));
  check::require(blocks == 6, "%d blocks at once", blocks);
  require_right({3, 2});
  require_failure<Plant::none>({7, 1}, "has room for 6 blocks of a cooperative launch, this has 7");
  unsetenv("FUSEDRNN_SIMT_BLOCKS");
  Grid large{{97}, 256, 256};
  large.cooperative = true;
  require_fault(launch<hand_on<Plant::none>>(large, nullptr, {}),
                {"runs 24576 threads at once, this cooperative launch has 24832"});
  Grid both{{2}, kThreads, 256, 2};
  both.cooperative = true;
  require_fault(launch<hand_on<Plant::none>>(both, nullptr, {}), {"no device runs", "clusters of 2", "cooperative"});
}

}  // namespace

int main() {
  right_ones();
  faults_that_every_schedule_shows();
  faults_of_order();
  replays();
  room();
  return check::finish("handing");
}
