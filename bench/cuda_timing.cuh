// What the programs that measure a GPU share: checked calls, timing by events, results as JSON.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "hw/device.cuh"

namespace fusedrnn::bench {

inline void require(Status status) {
  if (status == Status::ok) return;
  std::fprintf(stderr, "%s\n", cuda::status_text());
  std::exit(1);
}

inline void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
  std::exit(1);
}

// Milliseconds of run() on the device: the least of five, after one that does not count.
template <class Run>
float milliseconds(Run run, cudaStream_t stream = nullptr) {
  cudaEvent_t begin, end;
  require(cudaEventCreate(&begin));
  require(cudaEventCreate(&end));
  float least = 1e30f;
  for (int i = 0; i < 6; ++i) {
    require(cudaEventRecord(begin, stream));
    run();
    require(cudaEventRecord(end, stream));
    require(cudaEventSynchronize(end));
    float time;
    require(cudaEventElapsedTime(&time, begin, end));
    if (i > 0 && time < least) least = time;
  }
  require(cudaEventDestroy(begin));
  require(cudaEventDestroy(end));
  return least;
}

// One JSON object on standard output: "name": value, ...
class Results {
 public:
  ~Results() { std::printf("%s\n}\n", empty_ ? "{" : ""); }

  __attribute__((format(printf, 3, 4))) void add(double value, const char* name, ...) {
    char text[128];
    std::va_list arguments;
    va_start(arguments, name);
    std::vsnprintf(text, sizeof text, name, arguments);
    va_end(arguments);
    std::printf("%s\n \"%s\": %.6g", empty_ ? "{" : ",", text, value);
    empty_ = false;
  }

 private:
  bool empty_ = true;
};

}  // namespace fusedrnn::bench
