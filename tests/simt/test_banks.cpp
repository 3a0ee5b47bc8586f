// The meter of bank conflicts: what it says of known patterns, and that it finds them in a kernel.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "banks.hpp"
#include "fixture.hpp"

namespace {

using namespace fixture;
using simt::bank_passes;

template <class Offset>
int passes(size_t bytes, const Offset& offset, uint32_t lanes = ~0u) {
  uint32_t offsets[32];
  for (uint32_t lane = 0; lane < 32; ++lane) offsets[lane] = offset(lane);
  return bank_passes(offsets, lanes, bytes);
}

void patterns() {
  const auto words = [](uint32_t stride) { return [stride](uint32_t lane) { return 4 * stride * lane; }; };
  check::require(passes(4, words(1)) == 1 && passes(4, words(33)) == 1, "neighbours, or 33 words apart");
  check::require(passes(4, words(2)) == 2 && passes(4, words(8)) == 8 && passes(4, words(32)) == 32, "powers of two");
  check::require(passes(4, words(0)) == 1 && passes(2, [](uint32_t lane) { return 2 * lane; }) == 1,
                 "one word for many");
  check::require(passes(4, words(32), 0x80000001) == 2, "two lanes alone");
  check::require(passes(8, words(2)) == 1 && passes(16, words(4)) == 1, "vectors side by side");
  check::require(passes(8, words(4)) == 2 && passes(16, words(8)) == 2, "vectors apart");
  // A warp's sums as `mma` has them, by pairs: rows of 72 words keep to a pass, rows of 66 do not.
  const auto pairs = [](uint32_t pitch) {
    return [pitch](uint32_t lane) { return 4 * (lane / 4 * pitch + lane % 4 * 2); };
  };
  check::require(passes(8, pairs(72)) == 1 && passes(8, pairs(66)) == 4, "pairs of sums");
}

struct Args {
  float* out;
  int stride;
};

// Lanes write one after the other, in whichever order, some of them in a branch of their own.
FR_KERNEL void strided(const FR_CONSTANT Args a) {
  const hw::Shared<float> s = hw::shared<float>(0, 32 * 32);
  for (int turn = 0; turn < 3; ++turn) {
    if (hw::lane() != 7) s[hw::lane() * a.stride] = 1;
    hw::warp_barrier();
  }
  if (hw::lane() == 0) {
    const float first = s[0];
    a.out[0] = first;
  }
}

// What the notes of a process say of the kernel, which writes them when it ends.
int noted(int stride) {
  char path[] = "/tmp/banks-XXXXXX";
  const int file = mkstemp(path);
  check::require(file >= 0, "no file for notes");
  close(file);
  const pid_t child = fork();
  if (child == 0) {
    setenv("FUSEDRNN_SIMT_LAUNCHES", path, 1);
    const Device<float> out(1);
    require_ok(hw::launch<strided>({{1}, 32, 4096}, nullptr, {out.data(), stride}));
    require_ok(hw::synchronize(nullptr));
    std::exit(0);
  }
  int status = -1, threads = 0, found = 0;
  waitpid(child, &status, 0);
  std::FILE* notes = std::fopen(path, "r");
  check::require(
      status == 0 && notes != nullptr && std::fscanf(notes, "%*s %d %*d %d", &threads, &found) == 2 && threads == 32,
      "the notes are not as cuda_budgets.py wants them");
  if (notes != nullptr) std::fclose(notes);
  unlink(path);
  return found;
}

}  // namespace

int main() {
  patterns();
  check::require(noted(1) == 1 && noted(4) == 4 && noted(32) == 31, "passes in a kernel");
  return check::finish("bank conflicts");
}
