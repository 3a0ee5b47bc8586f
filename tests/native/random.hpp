// Reproducible test data: the same on every machine and compiler, since the standard library's distributions
// are not, nor is an expression that draws twice.
#pragma once

#include <cmath>
#include <cstdint>

// SplitMix64 (Steele, Lea & Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  int64_t below(int64_t n) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }

  // Uniform in [low, high).
  double uniform(double low, double high) { return low + (high - low) * (static_cast<double>(bits() >> 11) * 0x1p-53); }

  // Sign and digits uniform, times 2 to a power uniform in [lowest, highest].
  double scaled(int lowest, int highest) {
    const double digits = uniform(-1, 1);
    return std::ldexp(digits, lowest + static_cast<int>(below(highest - lowest + 1)));
  }

 private:
  uint64_t state_;
};
