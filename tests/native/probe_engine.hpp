// The products and the recurrent kernels of one ISA over the engine of engine_blocked.hpp.
#pragma once

#include <cstdlib>
#include <cstring>

#include "backend/backend.hpp"
#include "check.hpp"

struct EngineProbe {
  const char* isa;
  const char* (*status_text)();
  const fusedrnn::SequenceOps* sequence;  // float32 and float64: must have the bits of the package's own
  const fusedrnn::DenseOps* dense;        // products alone
  // float64 whose products take their operands as floats; of the cells rnn_relu alone.
  const fusedrnn::SequenceOps* rounded_sequence;
  const fusedrnn::DenseOps* rounded_dense;
  int (*sums_outside_regions)();
};

extern "C" {
extern const EngineProbe fusedrnn_engine_probe_scalar, fusedrnn_engine_probe_avx2, fusedrnn_engine_probe_avx512,
    fusedrnn_engine_probe_neon;
}

// Of a backend's ISA.
inline const EngineProbe& engine_probe(const fusedrnn::Backend& backend) {
#if defined(FUSEDRNN_HAS_SCALAR)
  if (!std::strcmp(backend.name, "scalar")) return fusedrnn_engine_probe_scalar;
#endif
#if defined(FUSEDRNN_HAS_AVX2)
  if (!std::strcmp(backend.name, "avx2")) return fusedrnn_engine_probe_avx2;
#endif
#if defined(FUSEDRNN_HAS_AVX512)
  if (!std::strcmp(backend.name, "avx512") || !std::strcmp(backend.name, "amx")) return fusedrnn_engine_probe_avx512;
#endif
#if defined(FUSEDRNN_HAS_NEON)
  if (!std::strcmp(backend.name, "neon")) return fusedrnn_engine_probe_neon;
#endif
  check::require(false, "no probe was built for %s", backend.name);
  std::abort();
}

// A backend whose products are the other engine's.
inline fusedrnn::Backend over_blocked_engine(const fusedrnn::Backend& backend, bool rounded = false) {
  const EngineProbe& probe = engine_probe(backend);
  fusedrnn::Backend twin = backend;
  twin.name = probe.isa;
  twin.status_text = probe.status_text;
  twin.sequence = rounded ? probe.rounded_sequence : probe.sequence;
  twin.dense = rounded ? probe.rounded_dense : probe.dense;
  return twin;
}
