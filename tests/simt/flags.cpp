// Flags in global memory by which the blocks of a cooperative launch tell each other how far they are.
#include "races.hpp"
#include "scheduler.hpp"

namespace fusedrnn::cuda::simt {
namespace {

constexpr uint32_t kFresh = 0xffffffff;  // memory that nobody has written

FlagState& flag_at(const uint32_t* flag, bool posts) {
  const char* const deed = posts ? "posts to" : "polls";
  require_global(flag, sizeof *flag, posts);
  Launch& launch = current_launch();
  if (!launch.cooperative())
    fault("%s a flag in a launch that is not cooperative: the others may not have begun", deed);
  if (*flag == kFresh) fault("%s a flag that nobody has cleared", deed);
  return launch.flag(flag);
}

bool reached(uint32_t posted, uint32_t value) { return static_cast<int32_t>(posted - value) >= 0; }

}  // namespace

// Others may come between what the thread has done and what it does next: data that is written after the flag is late.
void flag_post(uint32_t* flag, uint32_t value) {
  FlagState& state = flag_at(flag, true);
  if (reached(*flag, value)) fault("posts %u to a flag that is at %u: what is posted only grows", value, *flag);
  races::release(&state.tag);
  *flag = value;
  current_launch().wake(state.waiting);
  current_launch().maybe_give_way();
}

void flag_poll(const uint32_t* flag, uint32_t value) {
  FlagState& state = flag_at(flag, false);
  Launch& launch = current_launch();
  CudaThread* self = launch.current;
  launch.maybe_give_way();
  self->at_flag = &state;
  self->polled = value;
  while (!reached(*flag, value)) launch.sleep(state.waiting);
  self->at_flag = nullptr;
  races::acquire(&state.tag);
}

}  // namespace fusedrnn::cuda::simt
