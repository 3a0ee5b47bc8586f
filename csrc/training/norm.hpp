// The global norm of gradients of both types, through the backend's entry for each.
#pragma once

#include <cmath>
#include <vector>

#include "backend/backend.hpp"
#include "runtime/error.hpp"

namespace fusedrnn::training {

// Gradients by dtype: float32 first.
struct Gradients {
  std::vector<Segment> of[2];

  void add(const Segment& segment, DType dtype) { of[dtype == DType::float64].push_back(segment); }

  int64_t count() const {
    int64_t elements = 0;
    for (const auto& segments : of)
      for (const Segment& s : segments) elements += s.count;
    return elements;
  }

  // Doubles of scratch that norm_of needs, at least one.
  size_t partials() const {
    int64_t chunks[2] = {1, 1};
    for (int d = 0; d < 2; ++d)
      for (const Segment& s : of[d]) chunks[d] += s.count / kReduceChunk + 1;
    return static_cast<size_t>(chunks[0] > chunks[1] ? chunks[0] : chunks[1]);
  }
};

struct Norm {
  double norm, factor;
};

inline Norm norm_of(const Backend& backend, const Gradients& g, double max_norm, double* partials, Team* team) {
  Norm result[2] = {{0, 1}, {0, 1}};
  for (int d = 0; d < 2; ++d) {
    const NormArgs a = {d == 0 ? DType::float32 : DType::float64,
                        static_cast<int64_t>(g.of[d].size()),
                        g.of[d].data(),
                        max_norm,
                        &result[d].norm,
                        &result[d].factor,
                        partials};
    check(backend, backend.optim->norm(&a, team), "global_norm");
  }
  if (g.of[1].empty()) return result[0];
  if (g.of[0].empty()) return result[1];
  const double norm = std::hypot(result[0].norm, result[1].norm), factor = max_norm / (norm + 1e-6);
  return {norm, factor > 1 ? 1 : factor};
}

}  // namespace fusedrnn::training
