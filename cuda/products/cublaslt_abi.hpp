// What is used of cuBLASLt's C interface. Declared here because its header does not come with nvcc, and because nothing
// is linked: numbers and structs are those of version 11.4 (2021) and all since.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.hpp"

namespace fusedrnn::cuda::cublaslt {

using Result = int32_t;  // 0: success
using Handle = void*;
using Operation = void*;
using Layout = void*;
using Preference = void*;

enum class Type : int32_t { r32f = 0, r64f = 1, r16f = 2, r16bf = 14 };
enum class Compute : int32_t { f32 = 68, f32_pedantic = 69, f64 = 70, f32_fast_tf32 = 77 };
enum class OperationAttribute : int32_t { transpose_a = 3, transpose_b = 4, epilogue = 7, bias = 8 };
enum class PreferenceAttribute : int32_t {
  reduction_schemes = 3,
  alignment_a = 5,
  alignment_b,
  alignment_c,
  alignment_d
};
constexpr uint32_t kEpilogueBias = 4;

struct Algorithm {
  uint64_t data[8];
};

struct Heuristic {
  Algorithm algorithm;
  size_t workspace;
  Result state;
  float waves;
  int32_t reserved[4];
};

struct Functions {
  size_t (*version)();
  Result (*create)(Handle*);
  Result (*operation_create)(Operation*, Compute, Type scale);
  Result (*operation_set)(Operation, OperationAttribute, const void* value, size_t bytes);
  Result (*operation_destroy)(Operation);
  Result (*layout_create)(Layout*, Type, uint64_t rows, uint64_t columns, int64_t ld);
  Result (*layout_destroy)(Layout);
  Result (*preference_create)(Preference*);
  Result (*preference_set)(Preference, PreferenceAttribute, const void* value, size_t bytes);
  Result (*preference_destroy)(Preference);
  Result (*heuristic)(Handle, Operation, Layout a, Layout b, Layout c, Layout d, Preference, int wanted, Heuristic*,
                      int* found);
  Result (*matmul)(Handle, Operation, const void* alpha, const void* a, Layout, const void* b, Layout, const void* beta,
                   const void* c, Layout, void* d, Layout, const Algorithm*, void* workspace, size_t workspace_bytes,
                   Stream);
};

}  // namespace fusedrnn::cuda::cublaslt
