// What lanes.cpp offers for each instruction set.
#pragma once

#include <stdint.h>

constexpr int64_t kReadStep = 8 * 16;  // floats: what `read` takes at a time where registers are widest

// A piece of memory as an optimizer sees it; `states` of `state` exist.
struct BareArrays {
  float* param;
  float* grad;
  float* state[2];
  int64_t states, count;
};

struct BareLoops {
  int64_t multiply_adds;  // of one step
  float (*multiply_add)(int64_t steps);
  float (*read)(const float* p, int64_t count);
  void (*update)(const BareArrays&, int64_t first, int64_t last, float zero);
};
