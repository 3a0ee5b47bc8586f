// Streams of the emulator: queues of work that is put off for as long as nobody needs it.
//
// What a program may rely on is what runs, and no more: a stream's work runs in its order, behind the marks it waits
// for, and no sooner than somebody waits for it. So what one stream leaves for another without a mark is not there yet,
// and what is freed on one stream while another still reads it is gone, unless the program is right. With a seed
// other than 0 work also runs now and then between the program's calls, as it would on a device.
//
// Streams 0 and 1 are the legacy default stream, 2 the default stream of the calling thread; these two kinds wait for
// each other as in CUDA. Any other number is a stream that waits for nobody, as those of PyTorch are.
#pragma once

#include <functional>
#include <memory>

#include "runtime.hpp"

namespace fusedrnn::cuda::simt {

enum class Work {
  ordinary,  // is not done any more after a failure, until somebody has been told of it
  books,     // is done in any case
};

// Puts work behind what is in the stream; or into the graph that the stream is captured into, as often to be run.
Status enqueue(const char* call, Stream stream, SourceLocation location, Work kind, std::function<Status()> work);

// The same for a kernel.
struct KernelCall;
Status enqueue_kernel(Stream stream, std::shared_ptr<const KernelCall> kernel);

// A failure, and the end of the capture, where the stream is captured: `call` may not be.
Status require_no_capture(const char* call, Stream stream, SourceLocation location);

// How much is still in a stream.
int64_t pending(Stream stream);

// Does all that is in any queue: what waits for the whole device.
void run_everything();

// For programs in the place of users with graphs of their own: the stream's work is captured from now on, until
// capture_end.
Status capture(Stream stream, SourceLocation location);

}  // namespace fusedrnn::cuda::simt
