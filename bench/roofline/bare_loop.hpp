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

// A kernel's inner pieces, alone.
struct Pieces {
  int64_t panel, panel_multiply_adds;                             // floats of a packed panel; of the tile over one
  void (*tile)(const float* panels, int64_t count, float* into);  // the tallest register tile over each panel in turn
  int64_t lanes;
  void (*lstm)(const float* gates, float* out, int64_t vectors);  // the cell for `vectors` times `lanes` units
};

struct BareLoops {
  int64_t multiply_adds;  // of one step
  float (*multiply_add)(int64_t steps);
  float (*read)(const float* p, int64_t count);
  void (*update)(const BareArrays&, int64_t first, int64_t last, float zero);
  Pieces pieces;
};
