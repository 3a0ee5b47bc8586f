// Running a lambda on the threads of a Team, and sharing work out evenly.
#pragma once

#include "backend/backend.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// body(i) for i in [0, n), all at once, each on its own thread; n <= team->size.
template <class Body>
void parallel(Team* team, int32_t n, const Body& body) {
  if (n <= 1) {
    body(0);
    return;
  }
  struct Call {
    static void run(void* context, int32_t index) { (*static_cast<const Body*>(context))(index); }
  };
  team->parallel(team, n, Call::run, const_cast<Body*>(&body));
}

// Where part i of n begins when `count` things are shared out in order; part i is [share(i), share(i + 1)).
inline __attribute__((always_inline)) int64_t share(int64_t count, int64_t n, int64_t i) {
  return count / n * i + (count % n * i) / n;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
