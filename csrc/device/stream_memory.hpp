// A device's memory and who uses it: what lets calls return while their work is still to be done.
//
// A call says of every block what its work will do with it (`Block::use`) and, when the work is in its stream, that it
// is there (`mark_uses`). From this a block knows where in which stream it was written and read last, so that
//
//   * work on another stream waits for it: the stream of a reader for the writer, that of a writer for all readers;
//   * memory made here is freed in the order of a stream, behind all of its uses, while the host goes on;
//   * memory of others is held until the last work that uses it is done;
//   * what was used while a stream was captured is held until the graph is gone, which may run at any time;
//   * a child of a fork, where CUDA does not work and other threads' locks stay locked, leaves all of it alone.
//
// Work of others, a consumer's of DLPack for one, is not known here: who brings it orders it, as between any two of
// their own streams.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "backend/backend.hpp"

namespace fusedrnn {

// The CUDA stream of the calling thread: what its calls run on. set_current_stream() gives the one before.
Stream current_stream();
Stream set_current_stream(Stream stream);

// Whether it is being captured into a graph: nothing may be waited for then, nor read by the host.
bool stream_is_captured(const Backend& backend);

// RuntimeError if it is: `what` would have the host read or write, "numpy()" for one.
void require_no_capture(const Backend& backend, const char* what);

// Which stream, beyond its number: the default stream of a thread is each thread's own, and the number of a stream that
// has been destroyed may become another's, so numbers count only within one block of `fr.cuda.stream`.
struct StreamId {
  Stream stream;
  uint64_t scope;
  int32_t device;
  bool operator==(const StreamId& other) const {
    return stream == other.stream && scope == other.scope && device == other.device;
  }
};

// A point in a stream's work.
class EventRef {
 public:
  EventRef(const Backend& backend, const StreamId& on, Event event) : backend_(backend), on_(on), event_(event) {}
  ~EventRef();
  EventRef(const EventRef&) = delete;
  EventRef& operator=(const EventRef&) = delete;

  const StreamId& on() const { return on_; }
  bool done() const;                  // or failed, as all work behind it then
  void wait_on(Stream stream) const;  // the stream's work waits

 private:
  const Backend& backend_;
  const StreamId on_;
  const Event event_;
};

enum class Access { read, write };

class Block : public std::enable_shared_from_this<Block> {
 public:
  // New memory, not initialised, for the work of the calling thread's stream. MemoryError where there is not that much.
  static std::shared_ptr<Block> allocate(const Backend& backend, size_t bytes, const char* what);
  // Memory of another library, which `owner` keeps, ready for the work of the calling thread's stream.
  static std::shared_ptr<Block> adopt(const Backend& backend, void* data, std::shared_ptr<void> owner);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void* data() const { return data_; }
  const Backend& backend() const { return backend_; }

  // Says what the calling thread's call is about to do with it: its stream waits for what others still do.
  void use(Access access);

  // A consumer's stream waits until the block is written. What goes into the stream from here on counts as a read,
  // until left_by() says that the consumer needs it no more; but its stream may be gone by then, and is left alone
  // unless it is certain to be there: a default stream, or the one of the block of `fr.cuda.stream` that is still the
  // calling thread's.
  StreamId given_to(Stream stream);
  void left_by(const StreamId& consumer);

  // The number that tells a reader of __cuda_array_interface__ what to wait for: 1, 2 or a stream that there is for
  // certain; nullptr where there is nothing to wait for.
  Stream writing_stream();

 private:
  struct Read {
    std::shared_ptr<const EventRef> event;
    bool waited_for;  // by the call that is about to write
  };
  friend void mark_uses(const Backend& backend);

  Block(const Backend& backend, void* data, bool pooled, std::shared_ptr<void> owner);
  void set(const std::shared_ptr<const EventRef>& event, Access access);

  const Backend& backend_;
  void* const data_;
  const int32_t device_;
  const bool pooled_;  // allocated in the order of a stream
  std::shared_ptr<void> owner_;
  std::mutex mutex_;  // of what follows
  std::shared_ptr<const EventRef> written_;
  std::vector<Read> reads_;
};

// The work of the calling thread's call is in its stream: remembers where, for all blocks that it said it uses.
void mark_uses(const Backend& backend);

// The same where the work is done, as behind copy_to_host(): there is nothing to remember.
void drop_uses();

// Gives the device's memory back that was freed and that this process keeps for arrays to come; waits for all work of
// the device.
void empty_cache(const Backend& backend);

// The calling thread's stream waits for what is in another one.
void wait_for(const Backend& backend, Stream other);

// A copy into host memory, which is there on return. `what` names the call where it fails.
void copy_to_host(const Backend& backend, void* to, const void* from, size_t bytes, const char* what);

}  // namespace fusedrnn
