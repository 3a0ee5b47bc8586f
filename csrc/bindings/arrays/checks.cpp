#include "bindings/arrays/checks.hpp"

#include "backend/loss_facts.hpp"
#include "backend/scratch.hpp"
#include "bindings/arrays/strided.hpp"
#include "bindings/call.hpp"
#include "bindings/gil.hpp"
#include "runtime/error.hpp"

namespace fusedrnn {
namespace {

Fault first_wrong_here(const CheckArgs& a) {
  Elements<int64_t> values(a.values);
  Elements<uint8_t> mask(a.mask);
  for (int64_t i = 0; i < a.count; ++i) {
    const int64_t value = values.next();
    const bool counts = (!a.mask.data || mask.next() != 0) && !(a.has_ignore_index && value == a.ignore_index);
    if (counts && (value < a.low || value > a.high)) return {1, i, value};
  }
  return {};
}

std::string found(const Fault& fault, const char* where) {
  return std::to_string(fault.value) + " at " + where + " " + std::to_string(fault.index);
}

std::string half_open(int64_t limit) { return "in [0, " + std::to_string(limit) + ")"; }

}  // namespace

void bad_element(const char* name, int64_t limit, const Fault& fault) {
  bad_value(name, half_open(limit), found(fault, "flat index"));
}

void bad_length(int64_t T, const Fault& fault) {
  bad_value("lengths", "between 0 and T = " + std::to_string(T), found(fault, "index"));
}

void bad_class(int64_t classes, const Fault& fault) {
  bad_value("target", half_open(classes) + " where it counts", found(fault, "flat index"));
}

Fault first_wrong(const char* name, const CheckArgs& args, const Backend* device) {
  if (device == nullptr) return first_wrong_here(args);
  Fault fault = {};
  if (args.count == 0) return fault;
  const GilRelease release;
  const Memory there(*device, sizeof fault, "check of values");
  const Memory firsts(*device, check_firsts(args.count) * sizeof(int64_t), "check of values");
  CheckArgs a = args;
  a.what = 1;
  a.firsts = firsts.as<int64_t>();
  a.fault = there.as<Fault>();
  // No call of its own, which would end the one that asks: all is done when this returns.
  require_no_capture(*device, name);
  check(*device, device->fill(there.data(), 0, sizeof fault, current_stream()), "check of values");
  check(*device, device->async->check_values(&a, current_stream()), "check of values");
  copy_to_host(*device, &fault, there.data(), sizeof fault, "check of values");
  return fault;
}

void require_below(const char* name, const Strided& elements, int64_t limit, const Backend* device) {
  CheckArgs a = {};
  a.values = elements;
  a.count = elements.rows * elements.width;
  a.high = limit - 1;
  const Fault fault = first_wrong(name, a, device);
  if (fault.what != 0) bad_element(name, limit, fault);
}

void require_lengths(const int64_t* lengths, int64_t T, int64_t B, const Backend* device) {
  CheckArgs a = {};
  a.values.data = lengths;
  a.values.rows = 1;
  a.values.width = a.count = B;
  a.high = T;
  const Fault fault = first_wrong("lengths", a, device);
  if (fault.what != 0) bad_length(T, fault);
}

void require_classes(const LossArgs& loss, const Backend* device) {
  if (!has_class_targets(loss.spec.kind)) return;
  CheckArgs a = {};
  a.values = loss.target;
  a.mask = loss.mask;
  a.has_ignore_index = loss.spec.has_ignore_index;
  a.ignore_index = loss.spec.ignore_index;
  a.count = loss.rows;
  a.high = loss.classes - 1;
  const Fault fault = first_wrong("target", a, device);
  if (fault.what != 0) bad_class(loss.classes, fault);
}

}  // namespace fusedrnn
