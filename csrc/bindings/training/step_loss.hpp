// The loss of a step on a device, which can be NaN because a value was not what it must be.
#pragma once

#include "bindings/arrays/checks.hpp"
#include "bindings/arrays/device_array.hpp"
#include "training/graph_executor.hpp"

namespace fusedrnn {

// What values had to be, of a call shape.
struct Limits {
  int64_t ids, T, classes;

  void require(const Fault& fault) const {
    switch (static_cast<training::Checked>(fault.what)) {
      case training::Checked::ids:
        bad_element("ids", ids, fault);
      case training::Checked::lengths:
        bad_length(T, fault);
      case training::Checked::classes:
        bad_class(classes, fault);
    }
  }
};

class StepLoss : public DeviceArray {
 public:
  // `report` holds a training::Report.
  StepLoss(const DeviceArray& report, const Limits& limits)
      : DeviceArray(report.piece(0, {}, true)), report_(report), limits_(limits) {}

  // Waits for the step. ValueError, the same that the separate calls raise, where it found a wrong value.
  double value() const {
    const py::array found = report_.numpy();
    const auto* report = static_cast<const training::Report*>(found.data());
    limits_.require(report->fault);
    return report->loss;
  }

 private:
  DeviceArray report_;
  Limits limits_;
};

}  // namespace fusedrnn
