// The structs of dlpack.h (https://dmlc.github.io/dlpack), version 1.0, in memory layout.
#pragma once

#include <cstdint>

#include "bindings/arrays/argument.hpp"

namespace fusedrnn {

struct DlDevice {
  int32_t type, index;
};
struct DlType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DlTensor {
  void* data;
  DlDevice device;
  int32_t axes;
  DlType type;
  int64_t* sizes;
  int64_t* strides;  // in elements; nullptr where contiguous
  uint64_t offset;   // bytes
};
struct DlManaged {
  DlTensor tensor;
  void* context;
  void (*deleter)(DlManaged*);
};
struct DlVersioned {
  uint32_t major, minor;
  void* context;
  void (*deleter)(DlVersioned*);
  uint64_t flags;
  DlTensor tensor;
};

DlType type_of(Element element);

// any_float where no Element is of that type.
Element element_or_any(DlType type);

}  // namespace fusedrnn
