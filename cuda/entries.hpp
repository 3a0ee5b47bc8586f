// The entries of the table (backend.hpp) that have a file each: layers/, losses/, optim/, training/.
#pragma once

#include "backend/backend.hpp"

namespace fusedrnn::cuda {

Status check_values(const CheckArgs* args, Stream stream);

Status embedding_forward(const EmbeddingArgs* args, Stream stream);
Status embedding_backward(const EmbeddingArgs* args, Stream stream);
Status layer_norm_forward(const LayerNormArgs* args, Stream stream);
Status layer_norm_backward(const LayerNormArgs* args, Stream stream);
Status dropout(const DropoutArgs* args, Stream stream);
Status last_forward(const LastArgs* args, Stream stream);
Status last_backward(const LastArgs* args, Stream stream);

Status loss(const LossArgs* args, Stream stream);

Status optimizer(const OptimizerArgs* args, Stream stream);
Status norm(const NormArgs* args, Stream stream);
Status clipped_update(const ClippedUpdateArgs* args, Stream stream);
Status scale(DType dtype, int64_t segments, const Segment* segment, const double* factor, Stream stream);
Status clip_value(DType dtype, int64_t segments, const Segment* segment, double limit, Stream stream);

Status gather(const Gather* list, int64_t count, Stream stream);
Status upload(void* to, const void* from, size_t bytes, Stream stream);
Status increment(uint64_t* numbers, int64_t count, Stream stream);

}  // namespace fusedrnn::cuda
