// What the native tests see of code compiled per ISA: probe.cpp is compiled once for each, with the options of the
// kernels, and exports one table of functions over arrays.
#pragma once

#include <cstdint>

// in holds `inputs` blocks of n elements, out has room for `outputs` of them.
struct ProbeFunction {
  const char* name;
  int inputs, outputs;
  void (*f32)(const float* in, float* out, int64_t n);
  void (*f64)(const double* in, double* out, int64_t n);
};

struct Probe {
  const char* isa;
  int lanes32, lanes64;
  int count;
  const ProbeFunction* functions;
};
