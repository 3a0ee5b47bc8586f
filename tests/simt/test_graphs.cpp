// Stacks whose steps are many go by a graph when a call comes again: the same bits, never another call's arrays.
#include <cstring>
#include <deque>
#include <functional>
#include <thread>

#include "../native/random.hpp"
#include "fixture.hpp"
#include "recurrent/sequence_graph.hpp"
#include "streams.hpp"

extern "C" const fusedrnn::Backend* fusedrnn_plugin(uint32_t abi, char* why, size_t why_bytes);
extern "C" int64_t fusedrnn_simt_launches();
extern "C" int64_t fusedrnn_simt_overlapping();

namespace {

using namespace fixture;

const Backend* backend;
constexpr int64_t B = 3, I = 2, H = 5;

// An LSTM of one layer and all that its calls read and write.
class Net {
 public:
  explicit Net(int64_t steps)
      : T(steps),
        x_(drawn(T * B * I)),
        dy_(drawn(T * B * H)),
        w_(drawn(4 * H * I)),
        r_(drawn(4 * H * H)),
        y_(T * B * H),
        hn_(B * H),
        cn_(B * H),
        dx_(T * B * I),
        dh0_(B * H),
        dc0_(B * H),
        dw_(4 * H * I),
        dr_(4 * H * H) {
    desc.cell = CellKind::lstm;
    desc.layers = desc.directions = desc.train = 1;
    desc.T = T;
    desc.B = B;
    desc.I = I;
    desc.H = H;
    SequenceSizes sizes;
    require_ok(backend->sequence->sizes(&desc, &sizes));
    for (const size_t bytes : {sizes.packed, sizes.tape, sizes.forward, sizes.backward}) blocks_.emplace_back(bytes);
    const LayerWeights weights{{{w_.data(), I}, {r_.data(), H}}};
    require_ok(backend->sequence->pack(&desc, &weights, blocks_[0].data(), nullptr));
  }

  void forward(Stream stream) {
    ForwardArgs f{};
    f.x = {x_.data(), B * I, I};
    f.packed = blocks_[0].data();
    f.y = {y_.data(), B * H, H};
    f.hn = {hn_.data(), B * H, H};
    f.cn = {cn_.data(), B * H, H};
    f.tape = blocks_[1].data();
    require_ok(backend->sequence->forward(&desc, &f, blocks_[2].data(), stream));
  }

  void backward(Stream stream) {
    require_ok(fill(dw_.data(), 0, sizeof(float) * 4 * H * I, stream));
    require_ok(fill(dr_.data(), 0, sizeof(float) * 4 * H * H, stream));
    const LayerGrads grads{{dw_.data(), dr_.data()}};
    BackwardArgs b{};
    b.x = {x_.data(), B * I, I};
    b.packed = blocks_[0].data();
    b.tape = blocks_[1].data();
    b.dy = {dy_.data(), B * H, H};
    b.dx = {dx_.data(), B * I, I};
    b.dh0 = {dh0_.data(), B * H, H};
    b.dc0 = {dc0_.data(), B * H, H};
    b.dweights = &grads;
    require_ok(backend->sequence->backward(&desc, &b, blocks_[3].data(), stream));
  }

  // How many kernels both passes put into a stream, one by one.
  int64_t train(Stream stream = nullptr) {
    const int64_t before = fusedrnn_simt_launches();
    forward(stream);
    backward(stream);
    return fusedrnn_simt_launches() - before;
  }

  std::vector<std::vector<float>> results(Stream stream = nullptr) const {
    require_ok(synchronize(stream));
    return {y_.values(), hn_.values(), cn_.values(), dx_.values(), dw_.values(), dr_.values()};
  }

  void draw_input() {
    const std::vector<float> values = drawn(T * B * I);
    require_ok(copy(x_.data(), values.data(), values.size() * sizeof(float), nullptr));
  }

  const int64_t T;
  SequenceDesc desc{};

 private:
  static std::vector<float> drawn(int64_t count) {
    static Random random(1);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = static_cast<float>(random.uniform(-1, 1));
    return values;
  }

  const Device<float> x_, dy_, w_, r_, y_, hn_, cn_, dx_, dh0_, dc0_, dw_, dr_;
  std::deque<Device<char>> blocks_;
};

// Nobody's memory is given back before the end, so that nobody else's calls have the same addresses.
Net& made(int64_t steps) {
  static std::deque<Net> nets;
  return nets.emplace_back(steps);
}

std::vector<std::vector<float>> plainly(Net& net) {
  setenv("FUSEDRNN_GRAPHS", "0", 1);
  require_ok(synchronize(nullptr));
  net.train();
  auto results = net.results();
  unsetenv("FUSEDRNN_GRAPHS");
  return results;
}

void replays() {
  Net &net = made(20), &other = made(20);
  const int64_t launches = net.train();
  check::require(launches > 40, "a kernel for each step and pass: %lld", static_cast<long long>(launches));
  const auto first = net.results();
  check::require(net.train() == launches, "the second call records");
  check::require(net.results() == first, "the second call's bits");
  for (int i = 0; i < 3; ++i) {
    check::require(net.train() == 0, "a replay launches no kernel of its own");
    check::require(net.results() == first, "a replay's bits");
  }
  net.draw_input();
  check::require(net.train() == 0, "other numbers are no other call");
  const auto replayed = net.results();
  check::require(replayed != first, "a replay reads what is there now");
  check::require(replayed == plainly(net), "a replay's bits of other numbers");
  check::require(other.train() == launches, "other arrays are another call");
  check::require(other.results() == plainly(other), "another call's bits");
  check::require(net.results() == replayed, "arrays of a call that is over");
  net.desc.dropout_key = 7;
  check::require(net.train() == 0, "a key that nothing reads is no other call");
  net.desc.precision = Precision::bf16;
  check::require(net.train() == launches, "another precision is another call");
}

void few_steps() {
  Net& net = made(7);
  const int64_t launches = net.train();
  for (int i = 0; i < 3; ++i) check::require(net.train() == launches, "few launches are launched");
}

// FUSEDRNN_OVERLAP=0, set and unset between calls.
void without_overlap() {
  Net& net = made(20);
  const auto overlapping = [&net] {
    const int64_t before = fusedrnn_simt_overlapping();
    net.train();
    return fusedrnn_simt_overlapping() - before;
  };
  const int64_t most = 2 * (net.T - 1);
  check::require(overlapping() == most, "all steps but the first of a pass overlap");
  const auto expected = net.results();
  setenv("FUSEDRNN_OVERLAP", "0", 1);
  check::require(overlapping() == 0, "no step overlaps");
  check::require(net.results() == expected, "bits without overlap");
  unsetenv("FUSEDRNN_OVERLAP");
  check::require(overlapping() == most, "a graph is of one of both");
  check::require(net.results() == expected, "bits of either");
}

// The caller's own graph gets the kernels.
void while_captured() {
  const Stream stream = reinterpret_cast<Stream>(0x7000);
  Net& net = made(20);
  const auto expected = plainly(net);
  const int64_t launches = net.train();
  Graph graph = nullptr;
  for (int i = 0; i < 3; ++i) {
    require_ok(simt::capture(stream, SourceLocation::here()));
    check::require(net.train(stream) == launches, "a captured call launches its kernels");
    require_ok(capture_end(stream, &graph));
    net.draw_input();
    require_ok(synchronize(nullptr));
    require_ok(graph_launch(graph, stream));
    const auto got = net.results(stream);
    check::require(got != expected && got == plainly(net), "what was captured reads what is there then");
    require_ok(graph_free(graph));
  }
}

// Small graphs are kept, many of them.
void many_calls() {
  std::vector<Net*> nets;
  for (int i = 0; i < 20; ++i) nets.push_back(&made(16 + i));
  for (Net* net : nets) {
    net->train();
    net->train();
    check::require(net->train() == 0, "the latest call is there");
    check::require(net->results() == plainly(*net), "its bits");
  }
  check::require(nets.front()->train() == 0, "the oldest call is there");
  check::require(nets.front()->results() == plainly(*nets.front()), "and right");
}

// Calls of one kind each, which are said to have so many launches: how often one is run, not replayed.
class Calls {
 public:
  explicit Calls(char kind, int64_t launches = 20) : kind_(kind), launches_(launches) {}
  int run(int number) {
    const int before = runs_;
    GraphKey key(kind_);
    key.add(number);
    require_ok(by_graph(key, launches_, nullptr, [&](Stream stream) {
      ++runs_;
      inside();
      return fill(x_.data(), number, 1, stream);
    }));
    require_ok(synchronize(nullptr));
    return runs_ - before;
  }
  void record(int number) {
    for (int i = 0; i < 2; ++i) check::require(run(number) == 1, "the first calls run");
  }
  std::function<void()> inside = [] {};

 private:
  const char kind_;
  const int64_t launches_;
  const Device<char> x_{1};
  int runs_ = 0;
};

// What is kept is bounded by nodes, and calls that never come again do not stay either.
void many_nodes() {
  Calls large('1', 10000), other('2');
  for (int i = 0; i < 3; ++i) large.record(i);
  for (int i = 0; i < 3; ++i) check::require(large.run(i) == 0, "30000 nodes are kept");
  large.record(3);
  check::require(large.run(0) == 1, "the oldest graph made room");
  check::require(large.run(3) == 0, "for the latest");
  for (int i = 0; i < 1000; ++i) other.run(i);
  check::require(large.run(3) == 1, "as for many calls that came once");
}

// A call that another thread's has to wait for would wait for ever here.
void while_recorded() {
  Calls recorded('3'), other('4');
  other.record(0);
  int replayed = -1;
  recorded.run(0);
  recorded.inside = [&] { std::thread([&] { replayed = other.run(0); }).join(); };
  recorded.run(0);
  check::require(replayed == 0, "a graph is launched while another is recorded");
}

// A device without room for a graph: the call is launched as before, and nothing tries again.
void refused() {
  Net& net = made(20);
  const int64_t launches = net.train();
  const auto expected = net.results();
  char text[1024] = "";
  require_ok(backend->describe(text, sizeof text));
  check::require(std::strstr(text, "kernel by kernel") == nullptr, "all graphs were made: %s", text);
  setenv("FUSEDRNN_SIMT_NODES", "19", 1);
  check::require(net.train() == 2 * launches, "it is tried, and the kernels are launched");
  unsetenv("FUSEDRNN_SIMT_NODES");
  for (int i = 0; i < 2; ++i) {
    check::require(net.results() == expected, "its bits");
    check::require(net.train() == launches, "and not tried again");
  }
  require_ok(backend->describe(text, sizeof text));
  check::require(std::strstr(text, ", kernel by kernel where no graph could be made (capture_end at ") != nullptr,
                 "it is said: %s", text);
}

void on_threads() {
  std::vector<Net*> nets;
  for (int i = 0; i < 3; ++i) nets.push_back(&made(20));
  std::vector<std::vector<std::vector<float>>> expected;
  for (Net* net : nets) expected.push_back(plainly(*net));
  require_ok(synchronize(nullptr));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < nets.size(); ++i) {
    threads.emplace_back([&, i] {
      const Stream stream = reinterpret_cast<Stream>(0x8000 + i);
      for (int n = 0; n < 4; ++n) nets[i]->train(stream);
      check::require(nets[i]->results(stream) == expected[i], "thread %d", static_cast<int>(i));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main() {
  char why[256] = "";
  backend = fusedrnn_plugin(kBackendAbi, why, sizeof why);
  if (!check::require(backend != nullptr, "%s", why)) return 1;
  for (const int seed : {0, 1, 2}) {
    set_seed(seed);
    replays();
  }
  few_steps();
  without_overlap();
  while_captured();
  many_calls();
  on_threads();
  many_nodes();
  while_recorded();
  refused();
  return check::finish("test_graphs");
}
