#include "bindings/counts.hpp"

#include "bindings/arrays/argument.hpp"

namespace fusedrnn {

Counts::Counts(const py::list& places) {
  for (const py::handle place : places) {
    const py::tuple pair = py::cast<py::tuple>(place);
    places_.push_back({py::cast<py::dict>(pair[0]), py::cast<py::str>(pair[1])});
    places_.back().value();
  }
}

uint64_t Counts::Place::value() const { return unsigned_integer("count", dict[name]); }

std::vector<uint64_t> Counts::values() const {
  std::vector<uint64_t> values;
  for (const Place& place : places_) values.push_back(place.value());
  return values;
}

void Counts::count() const {
  for (const Place& place : places_) place.dict[place.name] = py::int_(place.value() + 1);
}

}  // namespace fusedrnn
