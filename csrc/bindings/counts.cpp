#include "bindings/counts.hpp"

#include "bindings/arrays/argument.hpp"

namespace fusedrnn {

Counts::Counts(const py::list& counters) {
  for (const py::handle counter : counters) {
    const py::tuple pair = py::cast<py::tuple>(counter);
    counters_.push_back({py::cast<py::dict>(pair[0]), py::cast<py::str>(pair[1])});
    counters_.back().value();
  }
}

uint64_t Counts::Counter::value() const { return unsigned_integer("count", dict[name]); }

std::vector<uint64_t> Counts::values() const {
  std::vector<uint64_t> values;
  for (const Counter& counter : counters_) values.push_back(counter.value());
  return values;
}

void Counts::count() const {
  for (const Counter& counter : counters_) counter.dict[counter.name] = py::int_(counter.value() + 1);
}

}  // namespace fusedrnn
