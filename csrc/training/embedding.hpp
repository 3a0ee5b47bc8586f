// The gradient of an embedding, through a backend's kernel, with a row that is left as it is.
#pragma once

#include "backend/backend.hpp"
#include "backend/scratch.hpp"

namespace fusedrnn {

constexpr int64_t kNoPadding = -1;

inline size_t row_bytes(const EmbeddingArgs& a) { return static_cast<size_t>(a.width * bytes_of(a.dtype)); }

inline Status copy_row(const Backend& backend, const EmbeddingArgs& a, void* to, const void* from, Stream stream) {
  if (backend.async == nullptr) return backend.copy(to, from, row_bytes(a), stream);
  const Gather whole = {{from, 1, a.width, 0, {}, {}}, to, bytes_of(a.dtype)};  // which a graph can have
  return backend.async->gather(&whole, 1, stream);
}

// Adds into dweight, but not into the row `padding`, which waits in `kept`, of row_bytes.
inline Status embedding_backward(const Backend& backend, const EmbeddingArgs& a, int64_t padding, void* kept,
                                 Stream stream) {
  if (padding == kNoPadding) return backend.dense->embedding_backward(&a, stream);
  void* const row = static_cast<char*>(a.dweight) + static_cast<size_t>(padding) * row_bytes(a);
  Status status = copy_row(backend, a, kept, row, stream);
  if (status == Status::ok) status = backend.dense->embedding_backward(&a, stream);
  return status == Status::ok ? copy_row(backend, a, row, kept, stream) : status;
}

}  // namespace fusedrnn
