// Each fault planted in a kernel that is otherwise right is found and named; the same kernel without it is silent.
#include <cmath>

#include "fixture.hpp"

namespace {

using namespace fixture;

struct Args {
  float* x;
  int count;
};

enum class Plant {
  none,
  read_past_shared,
  read_before_shared,
  write_past_shared,
  array_past_shared,
  unwritten_shared,
  misaligned_shared,
  load_past_global,
  load_before_global,
  store_past_global,
  plain_read_past_global,
  plain_write_past_global,
  plain_write_before_global,
  host_memory,
  misaligned_global,
  one_barrier_less,
  returned_thread,
  divergent_warp,
  different_meetings,
  no_wait,
  wait_for_older_group,
  no_commit,
  copy_past_shared,
  copy_past_global,
  misaligned_copy,
  shuffle_lane,
  endless_stack,
};

float deep(const volatile float* above, int depth) {
  volatile float here[256];
  here[depth % 256] = above[0];
  return depth == 0 ? 0.0f : deep(here, depth - 1) + here[depth % 256];
}

// One block of 64 threads turns x around, twice: through shared memory that is written, and through asynchronous
// copies.
template <Plant plant>
FR_KERNEL void reverse(const FR_CONSTANT Args a) {
  const auto planted = [](Plant p) { return p == plant; };
  const int i = thread();
  const bool culprit = block_x() == 0 && i == 37;
  const int n = a.count;
  Shared<float> s = shared<float>(0, 64);
  float* x = a.x + block_x() * n;

  if (culprit && planted(Plant::array_past_shared)) s = shared<float>(1024 - 128, 33);
  if (culprit && planted(Plant::misaligned_shared)) s = shared<float>(2, 8);
  const float mine = culprit && planted(Plant::load_past_global)     ? load(a.x + 2 * n)
                     : culprit && planted(Plant::load_before_global) ? load(a.x - 1)
                     : culprit && planted(Plant::host_memory)
                         ? load(&a.x[0] + (reinterpret_cast<const float*>(&a) - a.x))
                     : culprit && planted(Plant::misaligned_global)
                         ? load(reinterpret_cast<const float*>(reinterpret_cast<const char*>(x) + 2))
                     : culprit && planted(Plant::plain_read_past_global) ? a.x[2 * n + 1000]
                                                                         : load(x + i);
  if (!(culprit && planted(Plant::unwritten_shared))) {
    if (culprit && planted(Plant::write_past_shared)) {
      s[64] = mine;
    } else {
      s[i] = mine;
    }
  }
  if (culprit && planted(Plant::returned_thread)) return;
  barrier();
  const int from = culprit && planted(Plant::read_past_shared)     ? 64
                   : culprit && planted(Plant::read_before_shared) ? -1
                                                                   : 63 - i;
  const float turned = s[from];
  barrier();
  if (culprit && planted(Plant::plain_write_past_global)) a.x[2 * n] = 1;
  if (culprit && planted(Plant::plain_write_before_global)) a.x[-1] = 1;
  store(culprit && planted(Plant::store_past_global) ? a.x + 2 * n : x + i, turned);
  barrier();

  Shared<float> t = shared<float>(512, 64);
  if (i < 16) {
    const bool c = block_x() == 0 && i == 9;
    const auto to = c && planted(Plant::copy_past_shared)  ? t + 61
                    : c && planted(Plant::misaligned_copy) ? t + 2
                                                           : t + 4 * i;
    copy_async16(to, c && planted(Plant::copy_past_global) ? a.x + 2 * n - 2 : x + 4 * i);
    if (!planted(Plant::no_commit)) commit_copies();
  }
  if (planted(Plant::wait_for_older_group)) {
    wait_copies<1>();
  } else if (!planted(Plant::no_wait)) {
    wait_copies<0>();
  }
  barrier();
  const float again = t[63 - i];
  float deepest = 0;
  if (planted(Plant::endless_stack) && culprit) deepest = deep(&again, 1 << 20);
  if (planted(Plant::divergent_warp)) {
    if (i != 37) warp_barrier();
  } else if (planted(Plant::different_meetings) && i == 37) {
    warp_barrier();
  } else {
    const float other = shuffle(again, planted(Plant::shuffle_lane) && culprit ? 32 : lane());
    store(x + i, other + deepest);
  }
  if (!(culprit && planted(Plant::one_barrier_less))) barrier();
}

template <Plant plant>
Status run() {
  constexpr int n = 64;
  std::vector<float> values(2 * n);
  for (int i = 0; i < 2 * n; ++i) values[i] = static_cast<float>(i);
  void* memory;
  require_ok(alloc(values.size() * sizeof(float), &memory));
  require_ok(copy(memory, values.data(), values.size() * sizeof(float), nullptr));
  const Status status = done(launch<reverse<plant>>({{2}, n, 1024}, nullptr, {static_cast<float*>(memory), n}));
  if (plant == Plant::none) {
    require_ok(status);
    check::require(std::memcmp(memory, values.data(), values.size() * sizeof(float)) == 0, "turned around twice");
  }
  // The text of the failure is kept: freeing must not fail as well.
  const Status freed = hw::free(memory);
  check::require(freed == Status::ok, "%s", status_text());
  return status;
}

const char* const kCulprit = "block (0, 0, 0), thread 37: ";

void shared_memory() {
  require_fault(run<Plant::read_past_shared>(),
                {kCulprit, "accesses 4 bytes of shared memory at byte 256, outside its array of bytes 0 to 256"});
  require_fault(run<Plant::read_before_shared>(), {kCulprit, "accesses 4 bytes of shared memory at byte -4, outside"});
  require_fault(run<Plant::write_past_shared>(), {kCulprit, "accesses 4 bytes of shared memory at byte 256, outside"});
  require_fault(run<Plant::array_past_shared>(),
                {kCulprit, "asks for bytes 896 to 1028 of shared memory: the block has 1024"});
  require_fault(run<Plant::misaligned_shared>(), {kCulprit, "asks for shared memory at byte 2, not a multiple of 4"});
  require_fault(run<Plant::unwritten_shared>(),
                {"block (0, 0, 0), thread 26: reads 4 bytes of shared memory at byte 148, which nobody has written"});
}

void global_memory() {
  require_fault(
      run<Plant::load_past_global>(),
      {kCulprit, "reads 4 bytes: accesses global memory 0 bytes behind the end of an allocation of 512 bytes"});
  require_fault(run<Plant::load_before_global>(),
                {kCulprit, "reads 4 bytes: accesses global memory 4 bytes before an allocation of 512 bytes"});
  require_fault(run<Plant::store_past_global>(),
                {kCulprit, "writes 4 bytes: accesses global memory 0 bytes behind the end of"});
  require_fault(run<Plant::host_memory>(), {kCulprit, "which is no device memory"});
  require_fault(run<Plant::misaligned_global>(), {kCulprit, "reads 4 bytes of global memory at", "not aligned"});
  require_fault(run<Plant::plain_read_past_global>(),
                {kCulprit, "accesses global memory 4000 bytes behind the end of an allocation of 512 bytes"});
  // The block ends where its page does, so the page behind it is hit at once.
  require_fault(run<Plant::plain_write_past_global>(),
                {kCulprit, "accesses global memory 0 bytes behind the end of an allocation of 512 bytes"});
  require_fault(run<Plant::plain_write_before_global>(),
                {"launch of", "reverse<", "4 bytes before an allocation of 512 bytes was written to"});
}

void meetings() {
  require_fault(run<Plant::one_barrier_less>(),
                {"waits for ever at barrier()", "63 of 64 have come, thread 37 has returned"});
  require_fault(run<Plant::returned_thread>(),
                {"waits for ever at barrier(): 63 of 64 have come, thread 37 has returned"});
  require_fault(run<Plant::divergent_warp>(),
                {"waits for ever at warp_barrier(): 31 of 32 have come, thread 37 waits at barrier()"});
  require_fault(run<Plant::different_meetings>(), {"waits for it at"});
  require_fault(run<Plant::shuffle_lane>(), {kCulprit, "shuffles with lane 32"});
}

void asynchronous_copies() {
  for (const Status status : {run<Plant::no_wait>(), run<Plant::wait_for_older_group>(), run<Plant::no_commit>()}) {
    require_fault(status, {"where an asynchronous copy is under way: no wait_copies() came in between"});
  }
  require_fault(run<Plant::copy_past_shared>(), {"thread 9: accesses 16 bytes of shared memory at byte 756, outside"});
  require_fault(run<Plant::misaligned_copy>(), {"thread 9: copies 16 bytes to shared memory at byte 520, not aligned"});
  require_fault(run<Plant::copy_past_global>(), {"thread 9: copies 16 bytes from", "not aligned"});
}

// What lies just behind a block that does not end with its page's last bytes.
struct Slack {
  float* x;
};
FR_KERNEL void write_slack(const FR_CONSTANT Slack a) { a.x[3] = 1; }
FR_KERNEL void read_slack(const FR_CONSTANT Slack a) {
  if (thread() == 0) a.x[0] = a.x[3];
}

void slack() {
  Device<float> x(3);
  require_fault(launch<write_slack>({{1}, 32}, nullptr, {x.data()}),
                {"0 bytes behind the end of an allocation of 12 bytes was written to"});
  require_ok(launch<read_slack>({{1}, 32}, nullptr, {x.data()}));
  check::require(std::isnan(x.values()[0]), "a plain read just behind a block finds NaN");
  x.data()[3] = 1;
  void* memory;
  require_ok(alloc(12, &memory));
  static_cast<float*>(memory)[3] = 1;
  require_fault(hw::free(memory), {"0 bytes behind the end of an allocation of 12 bytes was written to"});
  std::memcpy(&x.data()[3], "\xf9\xff\xf9\xff", 4);
}

void host_calls() {
  Device<float> x(3);
  require_fault(copy(x.data(), std::vector<float>(4).data(), 16, nullptr), {"copy(", "leaves an allocation"});
  require_fault(fill(x.data(), 0, 13, nullptr), {"fill(", "not inside an allocation"});
  require_fault(hw::free(x.data() + 1), {"free(", "not an allocation"});
  const auto uncountable = [&](Blocks blocks) {
    const Status status = launch<write_slack>({blocks, 32}, nullptr, {x.data()});
    check::require(status == Status::unsupported, "%d x %d blocks are no launch", blocks.y, blocks.z);
    check::require(std::strstr(status_text(), "blocks are more than a GPU counts") != nullptr, "%s", status_text());
  };
  uncountable({1, 65536});
  uncountable({1, 1, 65536});
  uncountable({int64_t{1} << 31});
  uncountable({(int64_t{1} << 32) + 1});
  uncountable({-1});
  const auto impossible = [&](Grid grid) {
    require_fault(launch<write_slack>(grid, nullptr, {x.data()}),
                  {"launch of", "write_slack at tests/simt/test_faults.cpp:", "no device runs"});
  };
  impossible({{1}, 33});
  impossible({{1}, 0});
  impossible({{1}, 1056});
  impossible({{1}, 32, 228 * 1024});
}

}  // namespace

int main() {
  under_schedules(10, [] {
    require_ok(run<Plant::none>());
    shared_memory();
    require_ok(run<Plant::none>());
    global_memory();
    require_ok(run<Plant::none>());
    meetings();
    require_ok(run<Plant::none>());
    asynchronous_copies();
    require_fault(run<Plant::endless_stack>(), {kCulprit, "overflows its stack of 64 KiB"});
    require_ok(run<Plant::none>());
    slack();
    host_calls();
  });
  return check::finish("faults");
}
