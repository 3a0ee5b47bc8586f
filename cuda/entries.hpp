// The entries of the table (backend.hpp) that have a file each: layers/, losses/, optim/.
#pragma once

#include "backend.hpp"

namespace fusedrnn::cuda {

Status embedding_forward(const EmbeddingArgs* args, Stream stream);
Status embedding_backward(const EmbeddingArgs* args, Stream stream);
Status layer_norm_forward(const LayerNormArgs* args, Stream stream);
Status layer_norm_backward(const LayerNormArgs* args, Stream stream);
Status dropout(const DropoutArgs* args, Stream stream);
Status last_forward(const LastArgs* args, Stream stream);
Status last_backward(const LastArgs* args, Stream stream);

}  // namespace fusedrnn::cuda
