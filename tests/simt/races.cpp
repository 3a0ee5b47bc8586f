// Data races between CUDA threads, as ThreadSanitizer sees them: this file is compiled with it, the emulator without.
//
//   races right      a kernel that orders all its accesses: silent, under many schedules
//   races PLANT      the same kernel with one ordering left out, under the schedule in which nothing goes wrong
#include <cstdio>

#include "fixture.hpp"

namespace {

using namespace fixture;

struct Args {
  const float* x;
  float* y;
};

enum class Plant { none, barrier, barrier_after_read, warp_barrier, barrier_after_copy, own_element };

// Each warp turns its 32 numbers around, then the block its 64; two rounds through the same shared memory. Then once
// more through asynchronous copies.
template <Plant plant>
FR_KERNEL void turn(const FR_CONSTANT Args a) {
  const int i = thread();
  Shared<float> s = shared<float>(0, 64);
  Shared<float> copied = shared<float>(256, 4);
  float v = load(a.x + i);
  s[63 - i] = v;
  barrier();
  for (int round = 0; round < 2; ++round) {
    s[i] = v;
    if (plant != Plant::warp_barrier) warp_barrier();
    v = s[i ^ 31];
    barrier();
    s[i] = v;
    if (plant != Plant::barrier) barrier();
    v = s[i ^ 63];
    if (plant != Plant::barrier_after_read) barrier();
  }
  if (i == 63) {
    copy_async16(copied, a.x);
    commit_copies();
    wait_copies<0>();
  }
  if (plant != Plant::barrier_after_copy) barrier();
  // Blocks share nothing that anybody writes.
  float* y = a.y + (plant == Plant::own_element ? 0 : block_x() * 64);
  const float turned = copied[i % 4];
  store(y + i, v + shuffle_xor(turned, 1));
}

template <Plant plant>
void run() {
  std::vector<float> x(64);
  for (int i = 0; i < 64; ++i) x[i] = static_cast<float>(i);
  Device<float> in(x), out(3 * 64);
  require_ok(launch<turn<plant>>({{3}, 64, 512}, nullptr, {in.data(), out.data()}));
  for (int i = 0; i < 3 * 64; ++i) {
    check::require(out.values()[i] == static_cast<float>(i % 64 + (i % 4 ^ 1)), "element %d", i);
  }
}

}  // namespace

int main(int count, char** arguments) {
  const std::string mode = count == 2 ? arguments[1] : "";
  set_seed(0);
  if (mode == "right") {
    under_schedules(10, run<Plant::none>);
  } else if (mode == "barrier") {
    run<Plant::barrier>();
  } else if (mode == "barrier_after_read") {
    run<Plant::barrier_after_read>();
  } else if (mode == "warp_barrier") {
    run<Plant::warp_barrier>();
  } else if (mode == "barrier_after_copy") {
    run<Plant::barrier_after_copy>();
  } else if (mode == "own_element") {
    run<Plant::own_element>();
  } else {
    std::fputs("races right | barrier | barrier_after_read | warp_barrier | barrier_after_copy | own_element\n",
               stderr);
    return 2;
  }
  return check::finish(mode.c_str());
}
