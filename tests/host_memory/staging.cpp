#include "staging.hpp"

#include <algorithm>
#include <cstring>

namespace fusedrnn::host_memory {
namespace {

thread_local const char* own_failure = nullptr;

// body(offset in elements) for each row.
template <class Body>
void each_row(const Extent& extent, Body body) {
  std::vector<int64_t> index(extent.sizes.size(), 0);
  for (int64_t row = extent.rows(); row > 0; --row) {
    int64_t offset = 0;
    for (size_t axis = 0; axis < index.size(); ++axis) offset += index[axis] * extent.strides[axis];
    body(offset);
    for (size_t axis = index.size(); axis-- > 0;) {
      if (++index[axis] < extent.sizes[axis]) break;
      index[axis] = 0;
    }
  }
}

Extent three(int64_t bytes, int64_t size0, int64_t size1, int64_t width, const Array3& a) {
  return {bytes, width, {size0, size1}, {a.stride0, a.stride1}};
}

}  // namespace

int64_t Extent::rows() const {
  int64_t n = 1;
  for (const int64_t size : sizes) n *= size;
  return n;
}

size_t Extent::span() const {
  if (rows() == 0 || width == 0) return 0;
  int64_t last = width;
  for (size_t axis = 0; axis < sizes.size(); ++axis) last += (sizes[axis] - 1) * strides[axis];
  return static_cast<size_t>(last * bytes);
}

Extent contiguous(int64_t bytes, int64_t count) { return {bytes, count, {}, {}}; }

const char* Staging::failure() { return own_failure; }

Staging::~Staging() {
  for (const Block& block : blocks_) device_.free(block.device);
}

void* Staging::take(void* host, const Extent& extent, Use use) {
  own_failure = nullptr;
  if (host == nullptr || status_ != Status::ok) return nullptr;
  const size_t bytes = extent.span();
  void* device = scratch(std::max<size_t>(bytes, 1));
  if (device == nullptr) return nullptr;
  blocks_.back() = {static_cast<char*>(host), static_cast<char*>(device), extent, use};
  if (bytes == 0) return device;
  status_ =
      use == Use::written ? device_.fill(device, 0xFF, bytes, stream_) : device_.copy(device, host, bytes, stream_);
  return device;
}

void* Staging::scratch(size_t bytes) {
  own_failure = nullptr;
  if (bytes == 0 || status_ != Status::ok) return nullptr;
  void* device = nullptr;
  status_ = device_.alloc(bytes, &device);
  if (status_ == Status::ok) blocks_.push_back({nullptr, static_cast<char*>(device), {}, Use::read});
  return device;
}

Array3 Staging::in(const Array3& a, int64_t bytes, int64_t size0, int64_t size1, int64_t width) {
  return {in(a.data, three(bytes, size0, size1, width, a)), a.stride0, a.stride1};
}

Array3 Staging::out(const Array3& a, int64_t bytes, int64_t size0, int64_t size1, int64_t width) {
  return {out(a.data, three(bytes, size0, size1, width, a)), a.stride0, a.stride1};
}

Strided Staging::in(const Strided& s, int64_t bytes) {
  Strided on_device = s;
  Extent extent{bytes, s.width, {}, {}};
  extent.sizes.assign(s.size, s.size + s.axes);
  extent.strides.assign(s.stride, s.stride + s.axes);
  if (s.axes == 0 && s.rows == 0) extent.width = 0;
  on_device.data = in(s.data, extent);
  return on_device;
}

Status Staging::bring_back() {
  std::vector<char> bytes;
  for (const Block& block : blocks_) {
    const size_t span = block.host == nullptr ? 0 : block.extent.span();
    if (span == 0) continue;
    bytes.resize(span);
    const Status status = device_.copy(bytes.data(), block.device, span, stream_);
    if (status != Status::ok) return status;
    if (block.use == Use::read) {
      if (std::memcmp(bytes.data(), block.host, span) != 0) {
        own_failure = "a kernel wrote to one of its inputs";
        return Status::device_error;
      }
      continue;
    }
    const size_t row = static_cast<size_t>(block.extent.width * block.extent.bytes);
    each_row(block.extent, [&](int64_t offset) {
      std::memcpy(block.host + offset * block.extent.bytes, bytes.data() + offset * block.extent.bytes, row);
    });
  }
  return device_.synchronize(stream_);  // where nothing came back, this is where failures do
}

}  // namespace fusedrnn::host_memory
