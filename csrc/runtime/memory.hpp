// Host memory of the CPU backends, and of every array the bindings return. One allocation function, so that one switch
// shows reads of memory that was never written: with FUSEDRNN_POISON=1 in the environment fresh memory is filled with
// 0xFF bytes, which are NaN as float32 and as float64.
#pragma once

#include "backend/backend.hpp"

namespace fusedrnn {

constexpr size_t kAlignment = 64;

Status host_alloc(size_t bytes, void** memory);  // aligned to kAlignment; bytes may be 0
void host_free(void* memory);                    // memory may be nullptr
uint64_t host_allocations();                     // calls of host_alloc so far, for tests
Status host_copy(void* to, const void* from, size_t bytes, Stream);
void shared_copy(void* to, const void* from, size_t bytes, Team* team);  // each thread its part
Status host_fill(void* to, int value, size_t bytes, Stream);
Status host_synchronize(Stream);
int32_t host_device();
Status host_device_of(const void* memory, int32_t* device);
Status host_describe(char* text, size_t bytes);

}  // namespace fusedrnn
