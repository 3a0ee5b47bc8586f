// The handing round of a state through global memory (handing.hpp) as ThreadSanitizer sees it: this file is compiled
// with it, the emulator without.
//
//   races_handing right   silent, under many schedules and numbers of blocks
//   races_handing PLANT   with one ordering left out: the two lines are named
#include <cstdio>

#include "handing.hpp"

int main(int count, char** arguments) {
  using namespace handing;
  const std::string mode = count == 2 ? arguments[1] : "";
  set_seed(0);
  const How small{2, 1};
  if (mode == "right") {
    under_schedules(5, [] {
      for (const int blocks : {1, 2, 3})
        check::require(run<Plant::none>({blocks, 1, 4, 2}) == Found::nothing, "%d blocks", blocks);
    });
  } else if (mode == "no_poll") {
    (void)run<Plant::no_poll>(small);
  } else if (mode == "epoch_too_low") {
    (void)run<Plant::epoch_too_low>(small);
  } else if (mode == "one_buffer") {
    // Whoever reads too late for one buffer may have polled the flag that came with what it finds: not always a race.
    under_schedules(5, [&] { (void)run<Plant::one_buffer>(small); });
  } else if (mode == "post_before_data") {
    (void)run<Plant::post_before_data>(small);
  } else if (mode == "no_barrier_before_post") {
    (void)run<Plant::no_barrier_before_post>(small);
  } else if (mode == "no_barrier_after_poll") {
    (void)run<Plant::no_barrier_after_poll>(small);
  } else {
    std::fputs(
        "races_handing right | no_poll | epoch_too_low | one_buffer | post_before_data | no_barrier_before_post | "
        "no_barrier_after_poll\n",
        stderr);
    return 2;
  }
  return check::finish(mode.c_str());
}
