// Rows of a table by index, and the gradient of the table.
#pragma once

#include "gemm/parallel.hpp"
#include "simd/strided.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr int64_t kIdsAtOnce = 512;

// body(i, id) for the ids [first, last) in order.
template <class Body>
FR_INLINE void for_ids(const Strided& ids, int64_t first, int64_t last, const Body& body) {
  int64_t buffer[kIdsAtOnce];
  for (int64_t at = first; at < last; at += kIdsAtOnce) {
    const int64_t n = last - at < kIdsAtOnce ? last - at : kIdsAtOnce;
    const int64_t* id = elements_of(ids, at, n, buffer);
    for (int64_t i = 0; i < n; ++i) body(at + i, id[i]);
  }
}

template <class T>
void run_embedding_forward(const EmbeddingArgs& a, Team* team) {
  const int32_t threads = useful_threads(team, a.count * a.width, a.count);
  parallel(team, threads, [&](int32_t t) {
    for_ids(a.ids, share(a.count, threads, t), share(a.count, threads, t + 1), [&](int64_t i, int64_t id) {
      const T* from = static_cast<const T*>(a.weight) + id * a.width;
      T* to = static_cast<T*>(a.y) + i * a.width;
      for (int64_t k = 0; k < a.width; ++k) to[k] = from[k];
    });
  });
}

// Every thread walks all ids in order and adds its own columns, so that each sum is one chain in the order of the ids.
template <class T>
void run_embedding_backward(const EmbeddingArgs& a, Team* team) {
  constexpr int64_t kLine = 64 / sizeof(T);  // columns that share a cache line stay together
  const int64_t lines = (a.width + kLine - 1) / kLine;
  const int32_t threads = useful_threads(team, a.count * a.width, lines);
  parallel(team, threads, [&](int32_t t) {
    const int64_t begin = share(lines, threads, t) * kLine, stop = share(lines, threads, t + 1) * kLine;
    const int64_t end = stop < a.width ? stop : a.width;
    for_ids(a.ids, 0, a.count, [&](int64_t i, int64_t id) {
      const T* from = row_of<T>(a.dy, i);
      T* to = static_cast<T*>(a.dweight) + id * a.width;
      for (int64_t k = begin; k < end; ++k) to[k] += from[k];
    });
  });
}

inline Status embedding_forward(const EmbeddingArgs* a, Stream stream) {
  return with_type(a->dtype, [&](auto type) { run_embedding_forward<decltype(type)>(*a, static_cast<Team*>(stream)); });
}

inline Status embedding_backward(const EmbeddingArgs* a, Stream stream) {
  return with_type(a->dtype,
                   [&](auto type) { run_embedding_backward<decltype(type)>(*a, static_cast<Team*>(stream)); });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
