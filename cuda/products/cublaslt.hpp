// Large products by cuBLASLt, where FUSEDRNN_CUBLASLT asks for it and a copy can be opened:
//
//   FUSEDRNN_CUBLASLT=1          the one that the process has already (PyTorch's), the nvidia-cublas package's, the
//                                system's, in this order
//   FUSEDRNN_CUBLASLT=/a/path    this one
//   unset, empty or 0            none: the kernels of gemm.cuh compute all products
//
// Off unless asked for, because it has not run on a GPU yet: tests run it against a library made for them. Which
// copy a process has would decide the bits of its results, too.
#pragma once

#include "products/gemm.hpp"

namespace fusedrnn::cuda::cublaslt {

// Computes the product if it is one of those worth it and the library can: false leaves it to the caller. It has
// nothing for tf32x3.
bool multiply(Element e, const Product& product, Stream stream);

// Who computes large products, and if not cuBLASLt, why not: a few words.
const char* state();

}  // namespace fusedrnn::cuda::cublaslt
