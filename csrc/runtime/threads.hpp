// How many threads a call uses.
#pragma once

#include <string>

namespace fusedrnn {

constexpr int kMaxThreads = 256;

int num_threads();               // throws std::runtime_error when FUSEDRNN_NUM_THREADS is no number in 1..kMaxThreads
void set_num_threads(int n);     // throws std::invalid_argument unless 1 <= n <= kMaxThreads
std::string num_threads_from();  // where the number came from, for people

}  // namespace fusedrnn
