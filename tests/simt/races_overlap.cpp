// Kernels that overlap, as ThreadSanitizer sees them: this file is compiled with it, the emulator without.
//
//   races_overlap right    each kernel waits before it touches what the one before has to do with: silent
//   races_overlap PLANT    one access comes before the wait
#include <cstdio>

#include "overlap.hpp"

namespace {

template <overlap::Plant plant>
void run() {
  std::vector<float> got, expected;
  overlap::require_ok(overlap::run<plant>(&got, &expected));
  if (plant == overlap::Plant::none) check::require(got == expected, "a right chain of kernels");
}

}  // namespace

int main(int count, char** arguments) {
  using overlap::Plant;
  const std::string mode = count == 2 ? arguments[1] : "";
  if (mode == "right") {
    overlap::under_schedules(5, run<Plant::none>);
  } else if (mode == "read_early") {
    overlap::under_schedules(5, run<Plant::read_early>);
  } else if (mode == "copy_early") {
    overlap::under_schedules(5, run<Plant::copy_early>);
  } else if (mode == "write_early") {
    overlap::under_schedules(5, run<Plant::write_early>);
  } else {
    std::fputs("races_overlap right | read_early | copy_early | write_early\n", stderr);
    return 2;
  }
  return check::finish(mode.c_str());
}
