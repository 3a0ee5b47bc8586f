// The exchange of a state within a cluster (exchange.hpp) as ThreadSanitizer sees it: this file is compiled with it,
// the emulator without.
//
//   races_exchange right   silent, under many schedules and cluster sizes
//   races_exchange PLANT   with one ordering left out: the two lines are named
#include <cstdio>

#include "exchange.hpp"

int main(int count, char** arguments) {
  using namespace exchange;
  const std::string mode = count == 2 ? arguments[1] : "";
  set_seed(0);
  if (mode == "right") {
    under_schedules(5, [] {
      for (const int blocks : {1, 2, 3}) require_ok(run<Plant::none>(blocks));
    });
  } else if (mode == "one_lane_waits") {
    (void)run<Plant::one_lane_waits>(2, 1);
  } else if (mode == "no_barrier") {
    (void)run<Plant::no_barrier>(2, 1);
  } else if (mode == "one_buffer") {
    (void)run<Plant::one_buffer>(2, 1);
  } else {
    std::fputs("races_exchange right | one_lane_waits | no_barrier | one_buffer\n", stderr);
    return 2;
  }
  return check::finish(mode.c_str());
}
