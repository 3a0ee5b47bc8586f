// The division of the device's activations (cuda/math.cuh) has IEEE's bits for everything that they divide by, whatever
// the hardware's reciprocal is within an ulp.
//   simt_test_activations [DISTANCE]   significands so far apart (101; 1 for every one)
#include <cmath>
#include <cstdlib>
#include <limits>

#include "../native/check.hpp"
#include "math.cuh"

namespace {

using namespace fusedrnn::cuda;
using simt::bits_of;
using simt::float_of;

// All v of one binade.
void binade(float power, int exponent, uint32_t distance) {
  uint32_t wrong = 0;
  float at = 0;
  for (uint32_t significand = 0; significand < 1u << 23; significand += distance) {
    const float v = float_of(static_cast<uint32_t>(exponent + 127) << 23 | significand);
    const uint32_t near = bits_of(1.0f / v), want = bits_of(power / v);
    for (const uint32_t r : {near - 1, near, near + 1}) {
      if (bits_of(Quotient<float>::refined(power, v, float_of(r))) == want) continue;
      ++wrong;
      at = v;
    }
  }
  check::require(wrong == 0, "%a / v differs from IEEE's %u times, at %a for one", double(power), wrong, double(at));
}

}  // namespace

int main(int count, char** arguments) {
  const uint32_t distance = count > 1 ? static_cast<uint32_t>(std::strtoul(arguments[1], nullptr, 10)) : 101;
  // sigmoid: c (1 + e^-x) for x from kSigmoidHigh to kSigmoidLow; tanh: 1 + e^2|x| up to kTanhHigh.
  using P = ExpParts<float>;
  const int most = std::ilogb(P::kSigmoidOne) + static_cast<int>(-P::kSigmoidLow * P::kLog2E) + 1;
  for (int exponent = std::ilogb(P::kSigmoidOne); exponent <= most; ++exponent)
    binade(P::kSigmoidOne, exponent, distance);
  for (int exponent = 0; exponent <= static_cast<int>(2 * P::kTanhHigh * P::kLog2E) + 1; ++exponent)
    binade(2, exponent, distance);
  constexpr float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  using M = Math<float>;
  check::require(M::sigmoid(-infinity) == 0 && M::sigmoid(infinity) == 1 && M::tanh(-infinity) == -1,
                 "activations of infinities");
  check::require(std::isnan(M::sigmoid(nan)) && std::isnan(M::tanh(nan)), "activations of NaN");
  return check::finish("activations");
}
