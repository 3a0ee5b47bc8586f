// The training step of backends in host memory.
//
// What it saves is what lies between the separate calls: arrays, tapes and scratch are kept from step to step, nothing
// is looked up or checked twice, and one lease of the team serves all.
#pragma once

#include <vector>

#include "training/executor.hpp"

namespace fusedrnn::training {

class HostExecutor : public Executor {
 public:
  // The updates' lr and steps are nullptr: calls tell the steps.
  HostExecutor(const Backend& backend, DType dtype, std::vector<std::unique_ptr<Layer>> layers,
               std::vector<Cleared> gradients, std::vector<UpdateGroup> updates);

  void fit(const CallShape& shape, int32_t threads) override;
  double flops() const override { return flops_; }

  // The stream is a Team.
  void run(const CallShape& shape, const Call& call, const Results& results, Stream stream) override;

 private:
  void plan_preparation();
  void plan_updates(int32_t threads);
  void load_inputs(const Call& call, const Results& results);
  void load_flow(const Results& results);
  NormArgs norm_args() const;
  void prepare(Team* team);
  void update(const double* factor, Team* team);

  std::vector<Layer*> large_, small_;  // layers with preparation: each with all threads, or one thread each
  // Pieces of updates_, each for one thread, where all of them together are small; else none. One thread alone needs
  // none and leaves them.
  struct Piece {
    size_t update;
    std::vector<Segment> segments;
  };
  std::vector<Piece> pieces_;
  int32_t shared_by_ = 0;
  std::vector<GradientGroup> measured_;  // of updates_
  double parameters_ = 0;                // how many they update
  Buffer partials_;
  double flops_ = 0;
};

}  // namespace fusedrnn::training
