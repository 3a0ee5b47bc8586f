#include "streams.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "scheduler.hpp"

namespace fusedrnn::cuda::simt {
namespace {

using Key = std::pair<uintptr_t, int>;  // the number, and of a thread's default stream that thread's
constexpr uintptr_t kLegacy = 1, kOfThread = 2, kOwn = uintptr_t{1} << 40;

struct Capture;

// Where an event was recorded: in a queue, or in a graph.
struct Point {
  Key key;
  bool reached = false;
  std::shared_ptr<Capture> capture;
  std::set<size_t> behind;  // nodes of the graph
};

// What is to be done: a kernel, or `work`, which is nothing for an event.
struct Job {
  Work kind;
  std::function<Status()> work;
  std::shared_ptr<const KernelCall> kernel;
};

struct Entry {
  uint64_t number;  // in the order in which all work came
  Job job;
  std::shared_ptr<Point> sets, waits_for;
};

struct Node {
  Job job;
  std::set<size_t> behind;
};

struct Held {
  void* object;
  void (*release)(void*);
};

// A graph, under way or complete.
struct Capture {
  Key origin;
  std::vector<Node> nodes;
  std::vector<Held> held;
  std::string failure;  // why nothing can become of it

  ~Capture() {
    for (const Held& h : held) h.release(h.object);
  }
};

struct Queue {
  std::deque<Entry> entries;
  std::shared_ptr<Capture> capture;  // that it is recorded into
  std::set<size_t> last;             // the nodes that its next one comes behind
};

struct EventState {
  std::shared_ptr<Point> point;
};
struct GraphState {
  std::shared_ptr<Capture> capture;
};

struct Streams {
  std::recursive_mutex mutex;  // `release` of what a graph holds may come from any call
  std::map<Key, Queue> queues;
  uint64_t entries = 0;
  uintptr_t own = kOwn;
  std::atomic<int> threads{0};
  Status failed = Status::ok;  // what nobody has been told of
  std::string failure;
  uint64_t seed = 0, random = 0;
};

Streams& streams() {
  static Streams* s = new Streams;  // never destroyed, as the launch
  return *s;
}

using Guard = std::lock_guard<std::recursive_mutex>;

uintptr_t number(Stream stream) { return reinterpret_cast<uintptr_t>(stream); }

Key key_of(Stream stream) {
  thread_local const int thread = ++streams().threads;
  const uintptr_t n = number(stream);
  return n <= kLegacy ? Key{kLegacy, 0} : Key{n, n == kOfThread ? thread : 0};
}

// `next`: what will be done behind it and behind nothing else, or nullptr.
Status do_job(const Job& job, const Job* next) {
  Streams& s = streams();
  if (s.failed != Status::ok && job.kind == Work::ordinary) {
    if (job.kernel != nullptr) abandon_kernel(*job.kernel);
    return Status::ok;
  }
  if (!job.work && job.kernel == nullptr) return Status::ok;
  const Status status =
      job.kernel != nullptr ? run_kernel(*job.kernel, next != nullptr ? next->kernel.get() : nullptr) : job.work();
  if (status != Status::ok && s.failed == Status::ok) {
    s.failed = status;
    s.failure = status_text();
  }
  return status;
}

// What became of the device's work, once.
Status tell() {
  Streams& s = streams();
  const Status status = std::exchange(s.failed, Status::ok);
  return status == Status::ok ? status : fail(status, "%s", s.failure.c_str());
}

void run_before(const Key& key, uint64_t number);

// The first of a queue, behind all that it waits for.
void run_next(const Key& key, Queue& queue) {
  Streams& s = streams();
  const Entry entry = std::move(queue.entries.front());
  queue.entries.pop_front();
  if (key.first == kOfThread) run_before({kLegacy, 0}, entry.number);
  if (key.first == kLegacy) {
    for (const auto& [other, theirs] : s.queues)
      if (other.first == kOfThread) run_before(other, entry.number);
  }
  if (entry.waits_for != nullptr) {
    const Key there = entry.waits_for->key;
    Queue& theirs = s.queues[there];
    while (!entry.waits_for->reached) run_next(there, theirs);
  }
  const bool known = !queue.entries.empty() && queue.entries.front().waits_for == nullptr;
  do_job(entry.job, known ? &queue.entries.front().job : nullptr);
  if (entry.sets != nullptr) entry.sets->reached = true;
}

void run_before(const Key& key, uint64_t number) {
  Queue& queue = streams().queues[key];
  while (!queue.entries.empty() && queue.entries.front().number < number) run_next(key, queue);
}

void run_all_of(const Key& key) {
  Queue& queue = streams().queues[key];
  while (!queue.entries.empty()) run_next(key, queue);
}

uint32_t draw(uint32_t below) {
  Streams& s = streams();
  s.random = s.random * 6364136223846793005u + 1442695040888963407u;
  return static_cast<uint32_t>((s.random >> 32) * below >> 32);
}

// Some of what is there already, as the seed has it: a device does not wait to be asked.
void maybe_run() {
  Streams& s = streams();
  const char* text = std::getenv("FUSEDRNN_SIMT_SEED");
  const uint64_t seed = text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
  if (seed != s.seed) s.random = s.seed = seed;
  if (seed == 0 || draw(4) != 0) return;
  auto chosen = s.queues.begin();
  std::advance(chosen, draw(static_cast<uint32_t>(s.queues.size())));
  for (uint32_t n = 1 + draw(4); n > 0 && !chosen->second.entries.empty(); --n) run_next(chosen->first, chosen->second);
}

void put(Queue& queue, Entry entry) {
  entry.number = ++streams().entries;
  queue.entries.push_back(std::move(entry));
  maybe_run();
}

// All nodes of a graph, in an order that its edges allow: the latest first, or a drawn one.
Status run_graph(const Capture& graph) {
  std::vector<size_t> open(graph.nodes.size());
  for (size_t i = 0; i < open.size(); ++i) open[i] = i;
  std::vector<bool> done(open.size());
  while (!open.empty()) {
    std::vector<size_t> ready;
    for (const size_t i : open) {
      const std::set<size_t>& behind = graph.nodes[i].behind;
      if (std::all_of(behind.begin(), behind.end(), [&](size_t b) { return done[b]; })) ready.push_back(i);
    }
    const size_t next = streams().seed == 0 ? ready.back() : ready[draw(static_cast<uint32_t>(ready.size()))];
    const auto alone_behind = [&](size_t i) { return graph.nodes[i].behind == std::set<size_t>{next}; };
    const auto behind = std::find_if(open.begin(), open.end(), alone_behind);
    do_job(graph.nodes[next].job, behind != open.end() ? &graph.nodes[*behind].job : nullptr);
    done[next] = true;
    open.erase(std::find(open.begin(), open.end(), next));
  }
  return Status::ok;
}

Status refuse(Capture& capture, const char* call, Stream stream, SourceLocation location) {
  capture.failure = std::string(call) + " was called on a stream of it";
  return fail(Status::device_error, "%s at %s:%d: stream %#zx is being captured into a graph", call,
              source_name(location.file), location.line, static_cast<size_t>(number(stream)));
}

}  // namespace

Status require_stream(const char* call, Stream stream, SourceLocation location) {
  const char* text = std::getenv("FUSEDRNN_SIMT_STREAM");
  if (text == nullptr || number(stream) == std::strtoull(text, nullptr, 0) || number(stream) > kOwn) return Status::ok;
  return fail(Status::device_error, "%s on stream %#zx at %s:%d: FUSEDRNN_SIMT_STREAM allows %s alone", call,
              static_cast<size_t>(number(stream)), source_name(location.file), location.line, text);
}

Status require_no_capture(const char* call, Stream stream, SourceLocation location) {
  const Guard guard(streams().mutex);
  Queue& queue = streams().queues[key_of(stream)];
  return queue.capture == nullptr ? Status::ok : refuse(*queue.capture, call, stream, location);
}

namespace {

Status enqueue(const char* call, Stream stream, SourceLocation location, Job job) {
  const Status status = require_stream(call, stream, location);
  if (status != Status::ok) return status;
  const Guard guard(streams().mutex);
  const Key key = key_of(stream);
  Queue& queue = streams().queues[key];
  if (queue.capture == nullptr) {
    put(queue, {0, std::move(job), nullptr, nullptr});
    return Status::ok;
  }
  queue.capture->nodes.push_back({std::move(job), queue.last});
  queue.last = {queue.capture->nodes.size() - 1};
  return Status::ok;
}

}  // namespace

Status enqueue(const char* call, Stream stream, SourceLocation location, Work kind, std::function<Status()> work) {
  return enqueue(call, stream, location, {kind, std::move(work), nullptr});
}

Status enqueue_kernel(Stream stream, std::shared_ptr<const KernelCall> kernel) {
  const SourceLocation location = kernel->location;
  return enqueue("launch", stream, location, {Work::ordinary, nullptr, std::move(kernel)});
}

int64_t pending(Stream stream) {
  const Guard guard(streams().mutex);
  return static_cast<int64_t>(streams().queues[key_of(stream)].entries.size());
}

void run_everything() {
  const Guard guard(streams().mutex);
  for (auto& [key, queue] : streams().queues) run_all_of(key);
}

Status synchronize(Stream stream, SourceLocation location) {
  note(Deed::waits);
  Status status = require_stream("synchronize", stream, location);
  if (status == Status::ok) status = require_no_capture("synchronize", stream, location);
  if (status != Status::ok) return status;
  const Guard guard(streams().mutex);
  run_all_of(key_of(stream));
  return tell();
}

// ----------------------------------------------------------------------------------------------------------- marks
Status event_create(Event* event, SourceLocation) {
  *event = new EventState;
  return Status::ok;
}

Status event_free(Event event, SourceLocation) {
  const Guard guard(streams().mutex);
  delete static_cast<EventState*>(event);
  return Status::ok;
}

Status event_record(Event event, Stream stream, SourceLocation location) {
  const Status status = require_stream("event_record", stream, location);
  if (status != Status::ok) return status;
  const Guard guard(streams().mutex);
  const Key key = key_of(stream);
  Queue& queue = streams().queues[key];
  const auto point = std::make_shared<Point>();
  point->key = key;
  static_cast<EventState*>(event)->point = point;
  if (queue.capture == nullptr) {
    put(queue, {0, {Work::books, nullptr, nullptr}, point, nullptr});
  } else {
    point->capture = queue.capture;
    point->behind = queue.last;
  }
  return Status::ok;
}

Status event_wait(Stream stream, Event event, SourceLocation location) {
  const Status status = require_stream("event_wait", stream, location);
  if (status != Status::ok) return status;
  const Guard guard(streams().mutex);
  const Key key = key_of(stream);
  Queue& queue = streams().queues[key];
  const std::shared_ptr<Point> point = static_cast<EventState*>(event)->point;
  if (point == nullptr) return Status::ok;
  if (point->capture == nullptr && queue.capture == nullptr) {
    put(queue, {0, {Work::books, nullptr, nullptr}, nullptr, point});
    return Status::ok;
  }
  if (queue.capture == nullptr && queue.entries.empty()) queue.capture = point->capture;  // it joins
  if (queue.capture != point->capture) {
    Capture& spoilt = queue.capture != nullptr ? *queue.capture : *point->capture;
    spoilt.failure = "an event was waited for across its border";
    return fail(Status::device_error,
                "event_wait at %s:%d: the event was recorded outside of the capture of stream %#zx",
                source_name(location.file), location.line, static_cast<size_t>(number(stream)));
  }
  queue.last.insert(point->behind.begin(), point->behind.end());
  return Status::ok;
}

// Asking leaves the device time: who asks again and again hears yes in the end.
Status event_query(Event event, bool* yes, SourceLocation location) {
  const Guard guard(streams().mutex);
  const std::shared_ptr<Point> point = static_cast<EventState*>(event)->point;
  *yes = true;
  if (point == nullptr) return Status::ok;
  if (point->capture != nullptr) {
    point->capture->failure = "event_query was asked for an event of it";
    return fail(Status::device_error, "event_query at %s:%d: the event was recorded in a captured stream",
                source_name(location.file), location.line);
  }
  *yes = point->reached;
  Streams& s = streams();
  if (!*yes) run_next(point->key, s.queues[point->key]);
  return s.failed == Status::ok ? Status::ok : fail(s.failed, "%s", s.failure.c_str());
}

// ---------------------------------------------------------------------------------------------------------- graphs
Status capturing(Stream stream, bool* yes, SourceLocation) {
  const Guard guard(streams().mutex);
  *yes = streams().queues[key_of(stream)].capture != nullptr;
  return Status::ok;
}

Status capture_hold(Stream stream, void* object, void (*release)(void*), SourceLocation location) {
  const Guard guard(streams().mutex);
  Queue& queue = streams().queues[key_of(stream)];
  if (queue.capture == nullptr) {
    return fail(Status::device_error, "capture_hold at %s:%d: stream %#zx is not being captured into a graph",
                source_name(location.file), location.line, static_cast<size_t>(number(stream)));
  }
  queue.capture->held.push_back({object, release});
  return Status::ok;
}

Status capture(Stream stream, SourceLocation location) {
  const Guard guard(streams().mutex);
  const Key key = key_of(stream);
  Queue& queue = streams().queues[key];
  if (key.first == kLegacy || queue.capture != nullptr) {
    return fail(Status::device_error, "capture at %s:%d: stream %#zx %s", source_name(location.file), location.line,
                static_cast<size_t>(number(stream)),
                key.first == kLegacy ? "is the legacy stream, which cannot be captured" : "is being captured already");
  }
  queue.capture = std::make_shared<Capture>();
  queue.capture->origin = key;
  queue.last.clear();
  return Status::ok;
}

Status capture_begin(Stream* stream, SourceLocation location) {
  const Guard guard(streams().mutex);
  *stream = reinterpret_cast<Stream>(++streams().own);
  return capture(*stream, location);
}

Status capture_end(Stream stream, Graph* graph, SourceLocation location) {
  Streams& s = streams();
  std::shared_ptr<Capture> ended;
  const Guard guard(s.mutex);
  if (graph != nullptr) *graph = nullptr;
  const Key key = key_of(stream);
  ended = s.queues[key].capture;
  if (ended == nullptr || ended->origin != key) {
    return fail(Status::device_error, "capture_end at %s:%d: no capture began on stream %#zx",
                source_name(location.file), location.line, static_cast<size_t>(number(stream)));
  }
  std::string failure = ended->failure;
  for (auto& [other, queue] : s.queues) {
    if (queue.capture != ended) continue;
    // What a stream that joined has recorded last must have been waited for by the one that captured.
    const std::set<size_t>& last = s.queues[key].last;
    std::set<size_t> known = last;
    std::vector<size_t> open(last.begin(), last.end());
    while (!open.empty()) {
      const size_t node = open.back();
      open.pop_back();
      for (const size_t behind : ended->nodes[node].behind)
        if (known.insert(behind).second) open.push_back(behind);
    }
    if (!std::includes(known.begin(), known.end(), queue.last.begin(), queue.last.end()))
      failure = "a stream that joined it was not waited for in the end";
  }
  for (auto& [other, queue] : s.queues) {
    if (queue.capture != ended) continue;
    queue.capture = nullptr;
    queue.last.clear();
  }
  if (graph == nullptr) return Status::ok;
  if (!failure.empty()) {
    return fail(Status::device_error, "capture_end at %s:%d: the capture of stream %#zx has failed: %s",
                source_name(location.file), location.line, static_cast<size_t>(number(stream)), failure.c_str());
  }
  if (static_cast<int64_t>(ended->nodes.size()) > most_nodes()) {
    return fail(Status::out_of_memory, "capture_end at %s:%d: out of memory for a graph of %zu nodes",
                source_name(location.file), location.line, ended->nodes.size());
  }
  *graph = new GraphState{ended};
  return Status::ok;
}

Status call_later(Stream stream, std::function<bool()> work, SourceLocation location) {
  return enqueue("call_library", stream, location, Work::ordinary, [work = std::move(work), location] {
    if (work()) return Status::ok;
    return fail(Status::device_error, "call_library at %s:%d: the library refuses what it took in a capture",
                source_name(location.file), location.line);
  });
}

Status graph_launch(Graph graph, Stream stream, SourceLocation location) {
  return enqueue("graph_launch", stream, location, Work::ordinary,
                 [captured = static_cast<GraphState*>(graph)->capture] { return run_graph(*captured); });
}

Status graph_free(Graph graph, SourceLocation) {
  const Guard guard(streams().mutex);
  delete static_cast<GraphState*>(graph);
  return Status::ok;
}

}  // namespace fusedrnn::cuda::simt
