// What only a device has, whose calls return before their work is done: stream-ordered memory, events, graphs, checks
// of values, and what goes around a step of training there. cuda/hw/device.cuh says what each does.
#pragma once

#include "backend/fault.hpp"

namespace fusedrnn {

struct CheckArgs {
  int64_t what;  // not 0: the caller's name for what is looked at
  int64_t count;
  Strided values;  // int64, `count` elements: each is to be in [low, high]
  int64_t low, high;
  Strided mask;  // uint8, or absent: where it is 0, a value may be anything, as where it is ignore_index
  int32_t has_ignore_index;
  int64_t ignore_index;
  int64_t* firsts;  // as many as check_firsts (scratch.hpp) says
  Fault* fault;     // written if it is all zeros
};

// --------------------------------------------------------------------------- around a step of training on a device
// A step's arguments are gathered into memory of its own, so that it can be a graph that is replayed with others.

// `to`, contiguous, becomes the elements of `from`, of 1, 4 or 8 bytes each.
struct Gather {
  Strided from;
  void* to;
  int64_t bytes;
};

struct AsyncOps {
  Status (*alloc_on)(size_t bytes, void** memory, Stream);
  Status (*free_on)(void* memory, Stream);
  Status (*trim)();
  Status (*event_create)(Event*);
  void (*event_free)(Event);
  Status (*event_record)(Event, Stream);
  Status (*event_wait)(Stream, Event);
  Status (*event_query)(Event, int32_t* yes);
  Status (*capturing)(Stream, int32_t* yes);
  Status (*capture_hold)(Stream, void* object, void (*release)(void* object));
  Status (*capture_begin)(Stream*);
  Status (*capture_end)(Stream, Graph*);
  Status (*graph_launch)(Graph, Stream);
  void (*graph_free)(Graph);
  Status (*check_values)(const CheckArgs*, Stream);
  Status (*gather)(const Gather*, int64_t count, Stream);
  // From host memory, which may be used again on return. It travels as kernels' arguments: for little.
  Status (*upload)(void* to, const void* from, size_t bytes, Stream);
  Status (*increment)(uint64_t* numbers, int64_t count, Stream);  // each by one
};

}  // namespace fusedrnn
