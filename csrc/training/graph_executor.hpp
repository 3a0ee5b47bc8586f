// The training step of a device: put into its stream, without waiting for it.
//
// One kernel gathers a call's arguments into memory of the step's own; from there on every call of a shape does the
// same with the same addresses, so from its second call on it is a graph that is launched as a whole; loss, norm and
// final states are gathered from where it leaves them. A copy of the arguments costs less than a kernel whose arguments
// lie behind a pointer each would: x is read several times by the step itself, and the layers need not know. What
// changes from step to step otherwise is read from memory that the device itself counts up: dropout keys here, learning
// rates and numbers of updates where the optimizer has them.
//
// Values are checked on the device. Of one that is wrong the loss becomes NaN and the update is skipped; the fault is
// left beside the loss.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "training/executor.hpp"

namespace fusedrnn::training {

// Values that are checked, by the number that a Fault has, in the order in which the separate calls come to them.
enum class Checked : int64_t { ids = 1, lengths, classes };

class GraphExecutor : public Executor {
 public:
  // Learning rates and steps of the updates lie in device memory.
  GraphExecutor(const Backend& backend, DType dtype, std::vector<std::unique_ptr<Layer>> layers,
                std::vector<Cleared> gradients, std::vector<UpdateGroup> updates);
  ~GraphExecutor() override;

  void set_update(size_t i, const OptimizerArgs& update) override;

  // x, target, mask and states of the shape are contiguous. What it allocates it keeps.
  void fit(const CallShape& shape, int32_t threads) override;
  bool validates_values(const CallShape& shape) const override;

  // Where the stream is being captured into a graph of the caller's, that graph will read the arguments and count the
  // keys up whenever it runs, so nothing may have been different from what the device counted: RuntimeError.
  void run(const CallShape& shape, const Call& call, const Results& results, Stream stream) override;

  // What was recorded is recorded anew.
  void forget() override;

 private:
  // What a graph was made for beside the shape.
  struct Key {
    const CallShape* shape;
    bool skip;
    double clip, value;
    PlanOverride plan;
    bool operator<(const Key& other) const;
  };
  struct Recorded {
    bool seen_once = false, refused = false;
    Graph graph = nullptr;
  };

  Graph graph_of(const CallShape& shape, const Call& call);
  void load_inputs(const CallShape& shape, const Call& call, Stream stream);
  void copy_in(Buffer& kept, const Source& from, int64_t bytes, Stream stream);
  void compute(const CallShape& shape, const Call& call, Stream stream);
  void check_values(const CallShape& shape, Stream stream);
  void update(const Call& call, Stream stream);
  void store_results(const CallShape& shape, const Results& results, Stream stream);
  void free_graphs();
  int64_t states_of(const CallShape& shape, size_t i) const;
  int64_t steps_of(const CallShape& shape) const { return shape.x.shape.size[chain_.batch_first() ? 1 : 0]; }
  int64_t rows_of(const CallShape& shape) const { return shape.x.shape.size[chain_.batch_first() ? 0 : 1]; }
  Report* report() const { return static_cast<Report*>(report_.data()); }
  uint64_t* keys() const { return static_cast<uint64_t*>(keys_.data()); }

  Buffer x_, target_, mask_, lengths_, resets_, report_, keys_, partials_, firsts_;
  std::vector<std::unique_ptr<Buffer>> states_, finals_;  // of h and c of every recurrent layer
  std::vector<uint64_t> counted_;                         // what the keys on the device will be
  std::vector<Gather> gathers_;
  std::map<Key, Recorded> graphs_;
};

}  // namespace fusedrnn::training
