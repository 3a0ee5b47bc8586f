// Numbers in Python's dicts that a call counts up as it ends: versions of weights, updates of an optimizer, dropout
// keys.
//
// What raises between two instructions of Python (Ctrl-C, an alarm) cannot come between a call's work and its counts
// here, as it could if Python counted after the call.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

namespace fusedrnn {

namespace py = pybind11;

class Counts {
 public:
  // counters: a list of tuples (dict, name), each once. TypeError or ValueError unless every number is in 0..2**64 - 1.
  explicit Counts(const py::list& counters);

  std::vector<uint64_t> values() const;  // before
  void count() const;                    // adds 1, modulo 2**64

 private:
  struct Counter {
    py::dict dict;
    py::str name;
    uint64_t value() const;
  };
  std::vector<Counter> counters_;
};

}  // namespace fusedrnn
