// Why CUDA cannot be used, for every machine where it cannot: each sentence tells what is the matter and what to do.
#include <string>

#include "../../cuda/hw/machine.hpp"
#include "check.hpp"

namespace {

using fusedrnn::cuda::Machine;
using fusedrnn::cuda::usable;

Machine good() { return {13000, 13020, 1, nullptr, nullptr, "NVIDIA A100", 80, 80}; }

std::string why(const Machine& machine) {
  char text[1024] = "";
  const bool can = usable(machine, text, sizeof text);
  check::require(can == (text[0] == '\0'), "a reason exactly where it cannot be used: %s", text);
  return text;
}

void expect(const Machine& machine, std::initializer_list<const char*> parts) {
  const std::string text = why(machine);
  for (const char* part : parts)
    check::require(text.find(part) != std::string::npos, "'%s' does not say '%s'", text.c_str(), part);
}

void what_can_be_used() {
  Machine m = good();
  check::require(why(m).empty(), "a GPU of the least capability");
  m.driver = 13000;
  check::require(why(m).empty(), "a driver of the very version");
  m.driver = 12090;
  m.runtime = 12080;
  m.capability = 120;
  check::require(why(m).empty(), "a later GPU, a minor version apart");
  m.runtime = 12090;
  m.driver = 12000;
  check::require(why(m).empty(), "an earlier driver of the same major version");
}

void what_cannot() {
  Machine m = good();
  m.driver = 0;
  expect(m, {"no NVIDIA driver is found", "install one for CUDA 13", "docker run --gpus all"});
  m = good();
  m.driver = 12040;
  expect(m, {"driver is too old", "CUDA up to 12.4", "built with the toolkit of CUDA 13.0", "a driver for CUDA 13.0 or",
             "later: install fusedrnn-cuda12, which has the same kernels (cuda/README.md), or such a driver (https"});
  m.driver = 11080;
  expect(m, {"CUDA up to 11.8"});
  check::require(why(m).find("fusedrnn-cuda") == std::string::npos, "no toolkit of CUDA 11 builds it");
  m = good();
  m.failure = "system not yet initialized";
  expect(m, {"does not answer: system not yet initialized", "nvidia-smi"});
  m = good();
  m.devices = 0;
  expect(m, {"finds no GPU: see whether nvidia-smi -L lists one"});
  m.visible = "7";
  expect(m, {"no GPU among CUDA_VISIBLE_DEVICES=\"7\"", "unset it"});
  m = good();
  m.capability = 75;
  expect(m, {"NVIDIA A100 has compute capability 7.5", "kernels for 8.0 and later only", "device=\"cpu\""});
}

}  // namespace

int main() {
  what_can_be_used();
  what_cannot();
  return check::finish("machine");
}
