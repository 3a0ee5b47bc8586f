// Segment tables of optimizers, and how an update's scalars come from Python.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/rule_facts.hpp"
#include "bindings/arrays/argument.hpp"
#include "device/stream_memory.hpp"

namespace fusedrnn {

// Pieces of parameters of one dtype with gradients and states; keeps their arrays alive.
class Segments {
 public:
  // `tensors`: pieces may be tensors of other libraries in host memory.
  Segments(const std::string& kind, const py::list& pieces, bool tensors);

  // False unless the parameters are those of the table, where they were; takes gradients from where they are now.
  bool refresh(const py::list& params, const py::list& grads);

  const RuleFacts& rule() const { return rule_; }
  DType dtype() const { return pieces_.empty() ? DType::float32 : pieces_[0].dtype(); }
  const std::vector<Segment>& segments() const { return segments_; }
  const Backend* device() const { return device_; }  // where the arrays are, nullptr for NumPy's
  void use() const;                                  // by the call under way

 private:
  void add(std::shared_ptr<Block> block, Access access);

  Location location() const;

  const RuleFacts& rule_;
  const bool tensors_;
  const Backend* device_ = nullptr;
  std::vector<Segment> segments_;
  std::vector<Argument> pieces_;                                   // keeps the arrays alive
  std::vector<std::pair<std::shared_ptr<Block>, Access>> blocks_;  // of a device, what they lie in, each once
};

// An update of the table, which the call under way makes: its first, without clip factor, and with scalars that are
// still to be set. With `scalars`, a number for each of the rule's by its name, else ValueError.
OptimizerArgs update_of(const Segments& segments);
OptimizerArgs update_of(const Segments& segments, const py::dict& scalars);

}  // namespace fusedrnn
