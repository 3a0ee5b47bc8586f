// Streams of the emulator: right programs are right under every schedule, and a dependency that is left out shows.
#include <cmath>
#include <thread>

#include "fixture.hpp"
#include "streams.hpp"

namespace {

using namespace fixture;

constexpr int kCount = 32;

Stream stream(uintptr_t number) { return reinterpret_cast<Stream>(number); }
const Stream kA = stream(0xa0), kB = stream(0xb0);

struct Add {
  const float* from;
  float* to;
  float by;
};
FR_KERNEL void add(const FR_CONSTANT Add a) { store(a.to + thread(), load(a.from + thread()) + a.by); }

Status add_on(Stream on, const float* from, float* to, float by) {
  return launch<add>({{1}, kCount}, on, {from, to, by});
}

FR_KERNEL void faulty(const FR_CONSTANT Add a) { store(a.to + kCount + thread(), a.by); }

float* fresh(Stream on) {
  void* memory = nullptr;
  require_ok(alloc_on(kCount * sizeof(float), &memory, on));
  return static_cast<float*>(memory);
}

std::vector<float> read(const float* from, Stream on) {
  std::vector<float> values(kCount);
  require_ok(copy(values.data(), from, kCount * sizeof(float), on));
  return values;
}

bool all_are(const std::vector<float>& values, float value) {
  for (const float v : values)
    if (v != value) return false;
  return true;
}

class RecordedEvent {
 public:
  RecordedEvent() { require_ok(event_create(&event_)); }
  ~RecordedEvent() { require_ok(event_free(event_)); }
  void set(Stream on) { require_ok(hw::event_record(event_, on)); }
  void wait(Stream on) { require_ok(event_wait(on, event_)); }
  bool reached() {
    bool yes = false;
    require_ok(hw::event_query(event_, &yes));
    return yes;
  }
  Event event() const { return event_; }

 private:
  Event event_ = nullptr;
};

// `body()` says whether what it saw is right. A right program is so under every schedule, a wrong one not under some,
// and under that of seed 0 for certain.
template <class Body>
void require_right(const char* what, Body body) {
  under_schedules(20, [&] { check::require(body(), "%s", what); });
}
template <class Body>
void require_wrong(const char* what, Body body) {
  set_seed(0);
  check::require(!body(), "%s shows", what);
  unsetenv("FUSEDRNN_SIMT_SEED");
}

// -------------------------------------------------------------------------------------------- from stream to stream
enum class Plant { none, no_wait_for_producer, no_wait_for_reader, no_wait_for_memory, waits_too_early };

// A makes 1, B adds 1, A frees. B's result.
template <Plant plant>
bool relay() {
  Device<float> zeros(std::vector<float>(kCount, 0.0f)), out(kCount);
  require_ok(synchronize(nullptr));
  RecordedEvent made, used;
  float* x = fresh(kA);
  if (plant == Plant::waits_too_early) made.set(kA);
  require_ok(add_on(kA, zeros.data(), x, 1));
  if (plant != Plant::waits_too_early) made.set(kA);
  if (plant != Plant::no_wait_for_producer) made.wait(kB);
  require_ok(add_on(kB, x, out.data(), 1));
  used.set(kB);
  if (plant != Plant::no_wait_for_reader) used.wait(kA);
  require_ok(free_on(x, kA));
  require_ok(plant == Plant::no_wait_for_reader ? synchronize(kA) : Status::ok);
  const bool ran = synchronize(kB) == Status::ok;
  require_ok(synchronize(kA));
  return ran && all_are(out.values(), 2);
}

// B writes to memory that A has allocated.
template <Plant plant>
bool borrow() {
  Device<float> zeros(std::vector<float>(kCount, 0.0f));
  require_ok(synchronize(nullptr));
  RecordedEvent there, written;
  float* x = fresh(kA);
  there.set(kA);
  if (plant != Plant::no_wait_for_memory) there.wait(kB);
  require_ok(add_on(kB, zeros.data(), x, 3));
  require_ok(synchronize(kB));
  const bool right = all_are(read(x, kA), 3);
  require_ok(free_on(x, kA));
  require_ok(synchronize(kA));
  return right;
}

void from_stream_to_stream() {
  require_right("a relay", relay<Plant::none>);
  require_wrong("a missing wait for the producer", relay<Plant::no_wait_for_producer>);
  require_wrong("an event that is recorded before the work", relay<Plant::waits_too_early>);
  require_wrong("a missing wait for the reader", relay<Plant::no_wait_for_reader>);
  require_right("borrowed memory", borrow<Plant::none>);
  require_wrong("a missing wait for memory", borrow<Plant::no_wait_for_memory>);
}

// The legacy stream and a thread's default stream wait for each other, other streams for nobody.
bool follows(Stream first, Stream second) {
  Device<float> x(std::vector<float>(kCount, 0.0f)), y(kCount);
  simt::run_everything();
  require_ok(add_on(first, x.data(), x.data(), 1));
  require_ok(add_on(second, x.data(), y.data(), 0));
  const bool right = all_are(read(y.data(), second), 1);
  simt::run_everything();
  return right;
}

void default_streams() {
  const Stream legacy = nullptr, named = stream(1), of_thread = stream(2);
  require_right("one legacy stream", [&] { return follows(legacy, named) && follows(named, legacy); });
  require_right("legacy before the thread's", [&] { return follows(legacy, of_thread); });
  require_right("the thread's before legacy", [&] { return follows(of_thread, legacy); });
  require_wrong("that A does not wait for legacy", [&] { return follows(legacy, kA); });
  require_wrong("that legacy does not wait for A", [&] { return follows(kA, legacy); });
  require_wrong("that each thread has a stream of its own", [&] {
    Device<float> x(std::vector<float>(kCount, 0.0f)), y(kCount);
    simt::run_everything();
    std::thread([&] { require_ok(add_on(of_thread, x.data(), x.data(), 1)); }).join();
    require_ok(add_on(of_thread, x.data(), y.data(), 0));
    const bool right = all_are(read(y.data(), of_thread), 1);
    simt::run_everything();
    return right;
  });
}

void events() {
  under_schedules(10, [] {
    Device<float> x(std::vector<float>(kCount, 0.0f));
    require_ok(synchronize(nullptr));
    RecordedEvent never, event;
    never.wait(kA);
    check::require(never.reached(), "an event that is nowhere is reached");
    for (int i = 0; i < 3; ++i) require_ok(add_on(kA, x.data(), x.data(), 1));
    event.set(kA);
    int asked = 1;
    while (!event.reached()) ++asked;
    check::require(asked <= 5, "asked %d times", asked);
    require_ok(add_on(kA, x.data(), x.data(), 1));
    event.set(kA);
    require_ok(synchronize(kA));
    check::require(event.reached(), "reached when all is done");
    check::require(all_are(read(x.data(), kA), 4), "each kernel ran once");
  });
  set_seed(0);
  Device<float> x(std::vector<float>(kCount, 0.0f));
  RecordedEvent event;
  require_ok(add_on(kA, x.data(), x.data(), 1));
  event.set(kA);
  check::require(!event.reached(), "nothing runs before it must");
  require_ok(synchronize(kA));
  unsetenv("FUSEDRNN_SIMT_SEED");
}

// ------------------------------------------------------------------------------------------------------ host side
void host_memory() {
  under_schedules(10, [] {
    float* x = fresh(kA);
    std::vector<float> values(kCount, 1.0f);
    require_ok(copy(x, values.data(), kCount * sizeof(float), kA));
    values.assign(kCount, 2.0f);
    require_ok(add_on(kA, x, x, 1));
    check::require(all_are(read(x, kA), 2), "the bytes of when copy was called");
    float* y = fresh(kA);
    require_ok(copy(y, x, kCount * sizeof(float), kA));
    require_ok(fill(x, 0, kCount * sizeof(float), kA));
    check::require(all_are(read(y, kA), 2) && all_are(read(x, kA), 0), "copy and fill in order");
    require_ok(free_on(x, kA));
    require_fault(free_on(x, kA), {"free_on(", "not an allocation"});
    require_ok(free_on(nullptr, kA));
    require_ok(hw::free(y));
    require_ok(synchronize(kA));
  });
}

void failures() {
  under_schedules(10, [] {
    Device<float> x(std::vector<float>(kCount, 0.0f));
    require_ok(synchronize(nullptr));
    float* y = fresh(kA);
    require_ok(launch<faulty>({{1}, kCount}, kA, {nullptr, x.data(), 1}));
    require_ok(add_on(kA, x.data(), x.data(), 1));
    require_ok(free_on(y, kA));
    RecordedEvent event;
    event.set(kA);
    event.wait(kB);
    require_fault(synchronize(kB), {"launch of", "faulty", "behind the end of an allocation"});
    require_ok(synchronize(kA));
    check::require(all_are(x.values(), 0), "nothing runs behind a failure");
    require_fault(free_on(y, kA), {"not an allocation"});
    require_ok(add_on(kA, x.data(), x.data(), 1));
    check::require(all_are(read(x.data(), kA), 1), "but what comes when it was told");
  });
}

void memory_comes_back_in_time() {
  setenv("FUSEDRNN_SIMT_MEMORY", "5000", 1);
  under_schedules(5, [] {
    for (int i = 0; i < 5; ++i) {
      void* x = nullptr;
      require_ok(alloc_on(4000, &x, kA));
      require_ok(free_on(x, kA));
    }
    simt::run_everything();
  });
  unsetenv("FUSEDRNN_SIMT_MEMORY");
}

// --------------------------------------------------------------------------------------------------------- graphs
// y = x + 1 + 10 by a fork to B, of which `join` is left out or not, and the order there.
Status recorded(const float* x, float* between, float* y, bool fork_waits, bool join, Graph* graph) {
  Stream on;
  RecordedEvent fork, joint;
  require_ok(capture_begin(&on));
  bool yes = false;
  require_ok(capturing(on, &yes));
  check::require(yes, "the new stream is captured");
  if (!fork_waits) fork.set(on);
  require_ok(add_on(on, x, between, 1));
  if (fork_waits) fork.set(on);
  fork.wait(kB);
  require_ok(capturing(kB, &yes));
  check::require(yes, "B has joined");
  require_ok(add_on(kB, between, y, 10));
  joint.set(kB);
  if (join) joint.wait(on);
  const Status status = capture_end(on, graph);
  require_ok(capturing(kB, &yes));
  check::require(!yes, "B's part has ended with the capture");
  return status;
}

bool replays(bool fork_waits) {
  Device<float> x(std::vector<float>(kCount, 0.0f)), between(kCount), y(kCount);
  require_ok(synchronize(nullptr));
  Graph graph;
  require_ok(recorded(x.data(), between.data(), y.data(), fork_waits, true, &graph));
  bool right = true;
  for (int i = 0; i < 3; ++i) {
    require_ok(graph_launch(graph, kA));
    right &= all_are(read(y.data(), kA), static_cast<float>(i + 11));
    require_ok(add_on(kA, x.data(), x.data(), 1));
  }
  require_ok(graph_launch(graph, kA));
  require_ok(graph_free(graph));  // with a launch under way
  right &= all_are(read(y.data(), kA), 14);
  return right;
}

void graphs() {
  require_right("a graph with new inputs", [] { return replays(true); });
  require_wrong("a missing edge of a graph", [] { return replays(false); });
  Device<float> x(std::vector<float>(kCount, 0.0f)), y(kCount);
  Graph graph;
  require_fault(recorded(x.data(), y.data(), y.data(), true, false, &graph),
                {"the capture of stream", "has failed: a stream that joined it was not waited for in the end"});
  check::require(graph == nullptr, "no graph of it");
}

int released = 0;

void what_graphs_hold() {
  under_schedules(5, [] {
    released = 0;
    Device<float> x(std::vector<float>(kCount, 0.0f));
    require_ok(synchronize(nullptr));
    const auto release = [](void* count) { ++*static_cast<int*>(count); };
    require_fault(capture_hold(kA, &released, release), {"capture_hold", "is not being captured"});
    Stream on;
    Graph graph;
    for (const bool keep : {true, false}) {
      require_ok(capture_begin(&on));
      require_ok(capture_hold(on, &released, release));
      require_ok(add_on(on, x.data(), x.data(), 1));
      check::require(released == 0, "held while it is recorded");
      require_ok(capture_end(on, keep ? &graph : nullptr));
      if (!keep) break;
      require_ok(graph_launch(graph, kA));
      check::require(released == 0, "held while there is a graph");
      require_ok(graph_free(graph));
      require_ok(synchronize(kA));
      check::require(std::exchange(released, 0) == 1, "released with the graph");
    }
    check::require(released == 1, "released with what was thrown away");
    check::require(all_are(read(x.data(), kA), 1), "what was thrown away does not run");
  });
}

// What a captured stream cannot be used for fails, and so does the capture.
void what_captures_forbid() {
  Device<float> x(std::vector<float>(kCount, 0.0f));
  require_ok(synchronize(nullptr));
  std::vector<float> host(kCount);
  RecordedEvent outside;
  outside.set(kB);
  const auto forbidden = [&](auto call, const char* words) {
    require_ok(simt::capture(kA, SourceLocation::here()));
    require_ok(add_on(kA, x.data(), x.data(), 1));
    require_fault(call(), {words});
    Graph graph;
    require_fault(capture_end(kA, &graph), {"capture_end", "has failed"});
    bool yes = true;
    require_ok(capturing(kA, &yes));
    check::require(!yes, "the capture has ended");
  };
  void* memory = nullptr;
  forbidden([&] { return synchronize(kA); }, "synchronize at tests/simt/test_streams.cpp");
  forbidden([&] { return alloc_on(64, &memory, kA); }, "stream 0xa0 is being captured into a graph");
  forbidden([&] { return free_on(x.data(), kA); }, "is being captured");
  forbidden([&] { return copy(host.data(), x.data(), 4, kA); }, "copy of host memory");
  forbidden([&] { return copy(x.data(), host.data(), 4, kA); }, "copy of host memory");
  forbidden([&] { return event_wait(kA, outside.event()); }, "the event was recorded outside of the capture");
  RecordedEvent inside;
  forbidden(
      [&] {
        inside.set(kA);
        bool yes;
        return hw::event_query(inside.event(), &yes);
      },
      "the event was recorded in a captured stream");
  require_fault(simt::capture(nullptr, SourceLocation::here()), {"the legacy stream, which cannot be captured"});
  require_ok(simt::capture(kA, SourceLocation::here()));
  require_fault(simt::capture(kA, SourceLocation::here()), {"is being captured already"});
  require_ok(capture_end(kA, nullptr));
  Graph graph;
  require_fault(capture_end(kA, &graph), {"no capture began on stream 0xa0"});
  check::require(all_are(x.values(), 0), "nothing of it has run");
}

}  // namespace

int main() {
  from_stream_to_stream();
  default_streams();
  events();
  host_memory();
  failures();
  memory_comes_back_in_time();
  graphs();
  what_graphs_hold();
  what_captures_forbid();
  return check::finish("streams");
}
