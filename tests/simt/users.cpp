// What other libraries do with the device's streams, for tests in Python to call (tests/streams.py; captures are in
// exports.cpp). 0 where all went well, else user_failure() says what did not.
#include <cstdint>

#include "hw/device.cuh"
#include "streams.hpp"

using namespace fusedrnn;
using namespace fusedrnn::cuda;

#define USER extern "C" __attribute__((visibility("default")))

USER const char* user_failure() { return status_text(); }

// to[i] = from[i] + by, in time.
USER int user_add(Stream stream, const float* from, float* to, float by, int64_t count) {
  return static_cast<int>(simt::enqueue("user_add", stream, SourceLocation::here(), simt::Work::ordinary, [=] {
    for (const void* side : {static_cast<const void*>(from), static_cast<const void*>(to)}) {
      if (simt::device_of(side) < 0)
        return fail(Status::device_error, "user_add: %p is no device memory (or is no more)", side);
    }
    for (int64_t i = 0; i < count; ++i) to[i] = from[i] + by;
    return Status::ok;
  }));
}

// Work that fails.
USER int user_fault(Stream stream) {
  return static_cast<int>(simt::enqueue("user_fault", stream, SourceLocation::here(), simt::Work::ordinary,
                                        [] { return fail(Status::device_error, "a planted failure"); }));
}

USER int64_t user_pending(Stream stream) { return simt::pending(stream); }
USER int user_synchronize(Stream stream) { return static_cast<int>(hw::synchronize(stream)); }

// `stream` waits for what is in `other`.
USER int user_wait(Stream stream, Stream other) {
  Event event = nullptr;
  Status status = hw::event_create(&event);
  if (status == Status::ok) status = hw::event_record(event, other);
  if (status == Status::ok) status = hw::event_wait(stream, event);
  (void)hw::event_free(event);
  return static_cast<int>(status);
}
