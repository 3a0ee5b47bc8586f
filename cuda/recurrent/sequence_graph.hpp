// A stack's many small kernels as one graph, for calls that come again with all the same arguments.
//
// A graph has the arguments of its kernels in it. They are pointers, and three things could be done about those that
// change from call to call. To set them in each node costs the host about what launching the kernel does. To have
// kernels read them from a block in device memory puts a load before every step, and a kernel's arguments come in
// constant memory for good reason. Here a graph is for one set of addresses: they come again in training steps that
// reuse their memory, in inference from fixed buffers, and with an allocator that hands out what was given back last.
// Calls whose addresses are new launch their kernels, as all do the first time.
#pragma once

#include <functional>
#include <string>

#include "hw/device.cuh"

namespace fusedrnn::cuda {

// What a graph is for: the bytes of all that a call's launches are made of.
class GraphKey {
 public:
  explicit GraphKey(char pass) : bytes_(1, pass) {}

  template <class T>
  void add(const T& part) {
    static_assert(std::is_trivially_copyable_v<T>, "its bytes are all there is to it");
    bytes_.append(reinterpret_cast<const char*>(&part), sizeof part);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// The part that a descriptor has in it. A dropout key that nothing reads makes no difference.
void add_desc(GraphKey& key, const SequenceDesc& desc);

// Runs run(stream), which does nothing but put kernels into the stream, `launches` of them or more: itself where they
// are few, where the stream is being captured, or the first time that a key is seen; else by a graph of them, recorded
// the second time. The results are those of run(stream) to the last bit. Threads may call it at the same time. The
// graphs of the keys used last are kept, as many as have 2^15 launches together. A call that no graph can be made of is
// run(stream) from then on. FUSEDRNN_GRAPHS=0 makes none.
Status by_graph(GraphKey key, int64_t launches, Stream stream, const std::function<Status(Stream)>& run);

// Remembers why a graph could not be made, if it could not; gives the status back.
Status note_recording(Status status);

// Empty, or that a graph could not be made and why: a few words.
std::string graphs_state();

}  // namespace fusedrnn::cuda
