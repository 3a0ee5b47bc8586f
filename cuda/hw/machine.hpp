// Whether CUDA can be used on a machine, from what its driver says of it; if not, a sentence that tells the next step.
#pragma once

#include <stddef.h>

#include <cstdio>

#include "backend/toolkits.hpp"

namespace fusedrnn::cuda {

struct Machine {
  int runtime;           // CUDA version of this build, 13000 for 13.0
  int driver;            // the latest one that the driver supports, 0 where there is no driver
  int devices;           // how many the driver finds
  const char* failure;   // in the runtime's words, why it cannot be asked for devices; nullptr where it can
  const char* visible;   // CUDA_VISIBLE_DEVICES, nullptr where it is not set
  char name[256];        // of the calling thread's device
  int capability;        // its compute capability, 90 for 9.0
  int least_capability;  // of the devices that this build has kernels for
};

// Writes the sentence to `why` where it is false.
inline bool usable(const Machine& m, char* why, size_t bytes) {
  const int major = m.runtime / 1000;
  if (m.driver == 0) {
    std::snprintf(why, bytes,
                  "no NVIDIA driver is found: install one for CUDA %d (https://www.nvidia.com/drivers), or give the "
                  "container the GPU (docker run --gpus all)",
                  major);
    return false;
  }
  if (m.driver / 1000 < major) {
    const int has = m.driver / 1000;
    char other[96] = "";
    for (const int toolkit : kCudaToolkits)
      if (toolkit == has)
        std::snprintf(other, sizeof other, "fusedrnn-cuda%d, which has the same kernels (cuda/README.md), or ",
                      toolkit);
    std::snprintf(
        why, bytes,
        "the NVIDIA driver is too old: it supports CUDA up to %d.%d, the plugin was built with the toolkit of "
        "CUDA %d.%d, which needs a driver for CUDA %d.0 or later: install %s%s (https://www.nvidia.com/drivers)",
        has, m.driver % 1000 / 10, major, m.runtime % 1000 / 10, major, other, *other != 0 ? "such a driver" : "one");
    return false;
  }
  if (m.failure != nullptr) {
    std::snprintf(why, bytes, "the NVIDIA driver does not answer: %s: see whether nvidia-smi does", m.failure);
    return false;
  }
  if (m.devices == 0 && m.visible != nullptr) {
    std::snprintf(why, bytes,
                  "the NVIDIA driver finds no GPU among CUDA_VISIBLE_DEVICES=\"%s\": unset it, or name one that "
                  "nvidia-smi -L lists",
                  m.visible);
    return false;
  }
  if (m.devices == 0) {
    std::snprintf(why, bytes, "the NVIDIA driver finds no GPU: see whether nvidia-smi -L lists one");
    return false;
  }
  if (m.capability < m.least_capability) {
    std::snprintf(why, bytes,
                  "%s has compute capability %d.%d, and this build has kernels for %d.%d and later only: use another "
                  "GPU (CUDA_VISIBLE_DEVICES chooses) or device=\"cpu\"",
                  m.name, m.capability / 10, m.capability % 10, m.least_capability / 10, m.least_capability % 10);
    return false;
  }
  return true;
}

}  // namespace fusedrnn::cuda
