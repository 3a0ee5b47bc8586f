// Small pieces of work side by side: what is too little for a team each, but enough for it together.
#pragma once

#include <atomic>

#include "runtime/team.hpp"

namespace fusedrnn::training {

// run(i) for i in [0, count), each by whichever thread is free, which has itself alone for a team. Returns the first
// failure of any. `run` must not throw.
template <class Run>
Status side_by_side(Team* team, int32_t count, const Run& run) {
  struct Work {
    const Run& run;
    const int32_t count;
    std::atomic<int32_t> next{0};
    std::atomic<Status> status{Status::ok};

    static void body(void* context, int32_t) {
      Work& work = *static_cast<Work*>(context);
      for (int32_t i; (i = work.next.fetch_add(1, std::memory_order_relaxed)) < work.count;) {
        const Status status = work.run(i);
        if (status != Status::ok) work.status.store(status, std::memory_order_relaxed);
      }
    }
  };
  Work work{run, count};
  const int32_t threads = count < team->size ? count : team->size;
  if (threads > 1)
    team->parallel(team, threads, Work::body, &work);
  else
    Work::body(&work, 0);
  return work.status.load(std::memory_order_relaxed);
}

}  // namespace fusedrnn::training
