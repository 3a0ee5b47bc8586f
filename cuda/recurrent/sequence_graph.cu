// The cache of graphs.
#include "recurrent/sequence_graph.hpp"

#include <list>
#include <mutex>
//
#include "device/env_flags.hpp"

namespace fusedrnn::cuda {
namespace {

constexpr int64_t kLeastLaunches = 16, kMostLaunches = 1 << 14;  // less is not worth it, more is too large
constexpr size_t kKept = 32;

struct Kept {
  std::string key;
  Graph graph;  // nullptr until the key is seen again
};

struct Graphs {
  std::mutex mutex;      // a graph is not for several threads at once either
  std::list<Kept> used;  // the latest first
};

Graphs& graphs() {
  static Graphs* g = new Graphs;  // never destroyed: the device may be gone before
  return *g;
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

void add_desc(GraphKey& key, const SequenceDesc& desc) {
  SequenceDesc same = desc;
  same.threads = 0;
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
  {
    const std::lock_guard<std::mutex> lock(g.mutex);
    auto found = g.used.begin();
    while (found != g.used.end() && found->key != key.bytes()) ++found;
    if (found != g.used.end()) {
      g.used.splice(g.used.begin(), g.used, found);
      if (found->graph == nullptr) status = record(run, &found->graph);
      return status == Status::ok ? hw::graph_launch(found->graph, stream) : status;
    }
    g.used.push_front({key.bytes(), nullptr});
    if (g.used.size() > kKept) {
      if (g.used.back().graph != nullptr) status = hw::graph_free(g.used.back().graph);
      g.used.pop_back();
    }
  }
  return status == Status::ok ? run(stream) : status;
}

}  // namespace fusedrnn::cuda
