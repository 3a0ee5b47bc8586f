// The cache of graphs.
#include "recurrent/sequence_graph.hpp"

#include <list>
#include <mutex>
#include <utility>

#include "device/env_flags.hpp"

namespace fusedrnn::cuda {
namespace {

constexpr int64_t kLeastLaunches = 16, kMostLaunches = 1 << 14;  // less is not worth it, more is too large
// What is kept, in nodes: 1 to 2 KB each, of the host and of the device. A call counts as some however small, because
// it is looked for among all.
constexpr int64_t kMostNodes = 1 << 15, kLeastWeight = 256;

struct Kept {
  std::string key;
  int64_t launches;
  bool tried = false;  // to make a graph of it, which may still be under way
  Graph graph = nullptr;

  int64_t weight() const { return launches > kLeastWeight && graph != nullptr ? launches : kLeastWeight; }
};

struct Graphs {
  std::mutex mutex;      // a graph is not for several threads at once either
  std::list<Kept> used;  // the latest first
  std::string refusal;   // the latest
};

Graphs& graphs() {
  static Graphs* g = new Graphs;  // never destroyed: the device may be gone before
  return *g;
}

// The call, from now on the latest one; seen just now where it is new. Those that came least lately make room.
Kept& latest(Graphs& g, const std::string& key, int64_t launches, bool* is_new) {
  auto found = g.used.begin();
  while (found != g.used.end() && found->key != key) ++found;
  *is_new = found == g.used.end();
  if (*is_new)
    g.used.push_front({key, launches});
  else
    g.used.splice(g.used.begin(), g.used, found);
  return g.used.front();
}

void make_room(Graphs& g) {
  int64_t nodes = 0;
  for (auto kept = g.used.begin(); kept != g.used.end();) {
    nodes += kept->weight();
    if (nodes <= kMostNodes) {
      ++kept;
      continue;
    }
    if (kept->graph != nullptr) (void)hw::graph_free(kept->graph);
    kept = g.used.erase(kept);
  }
}

Status record(const std::function<Status(Stream)>& run, Graph* graph) {
  Stream recorded = nullptr;
  Status status = hw::capture_begin(&recorded);
  if (status != Status::ok) return status;
  status = run(recorded);
  const Status ended = hw::capture_end(recorded, status == Status::ok ? graph : nullptr);
  return status == Status::ok ? ended : status;
}

}  // namespace

Status note_recording(Status status) {
  if (status == Status::ok) return status;
  const std::lock_guard<std::mutex> lock(graphs().mutex);
  graphs().refusal = status_text();
  return status;
}

std::string graphs_state() {
  const std::lock_guard<std::mutex> lock(graphs().mutex);
  return graphs().refusal.empty() ? "" : "kernel by kernel where no graph could be made (" + graphs().refusal + ")";
}

void add_desc(GraphKey& key, const SequenceDesc& desc) {
  SequenceDesc same = desc;
  same.threads = 0;
  same.barrier_flops = 0;
  if (!desc.train || desc.dropout == 0) same.dropout_key = 0;
  key.add(same);
}

Status by_graph(GraphKey key, int64_t launches, Stream stream, const std::function<Status(Stream)>& run) {
  bool captured = false;
  if (launches < kLeastLaunches || launches > kMostLaunches || !graphs_wanted()) return run(stream);
  Status status = hw::capturing(stream, &captured);
  if (status != Status::ok) return status;
  if (captured) return run(stream);
  int32_t device = 0;
  status = hw::current_device(&device);
  if (status != Status::ok) return status;
  key.add(device);

  Graphs& g = graphs();
  bool is_new = false, records = false;
  {
    const std::lock_guard<std::mutex> lock(g.mutex);
    Kept& call = latest(g, key.bytes(), launches, &is_new);
    if (call.graph != nullptr) return hw::graph_launch(call.graph, stream);
    records = !is_new && !call.tried;
    call.tried = records || call.tried;
    make_room(g);
  }
  if (!records) return run(stream);

  // Others' calls do not wait for it.
  Graph graph = nullptr;
  const bool made = note_recording(record(run, &graph)) == Status::ok;
  {
    const std::lock_guard<std::mutex> lock(g.mutex);
    Kept& call = latest(g, key.bytes(), launches, &is_new);  // room may have been made of it
    call.tried = true;
    std::swap(call.graph, graph);
    make_room(g);
    if (made) status = hw::graph_launch(call.graph, stream);
  }
  if (graph != nullptr) hw::graph_free(graph);  // another thread's, of the same call
  return made ? status : run(stream);
}

}  // namespace fusedrnn::cuda
