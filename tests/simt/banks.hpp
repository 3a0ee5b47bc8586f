// Bank conflicts: how many passes through shared memory an access of a warp takes. Words of 4 bytes lie in 32 banks,
// and a bank gives one word at a time, to however many lanes; 8 bytes a lane are served by half warps, 16 by quarters.
//
// Lanes are fibers that run one after the other, so an access of the warp is put together afterwards: the n-th time
// that its lanes come to one place in the machine code, counted from when they last met.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace fusedrnn::cuda::simt {

// Passes of the worst phase of one access, of which `lanes` says who takes part; 1 without a conflict.
int bank_passes(const uint32_t (&offsets)[32], uint32_t lanes, size_t bytes);

// Of a block.
class BankMeter {
 public:
  void begin(int threads);
  // The running thread's access of `bytes` at `offset`, from `site` in the machine code.
  void note(int thread, const void* site, uint32_t offset, size_t bytes);
  // It has met other threads.
  void met(int thread) {
    ++lanes_[thread].meetings;
    lanes_[thread].times.clear();
  }
  // The most passes that an access took, and where; forgets all.
  int worst(const void** site);

 private:
  struct Lane {
    uint32_t meetings = 0;
    std::unordered_map<const void*, uint32_t> times;
  };
  struct Key {
    const void* site;
    uint32_t warp, meetings, times;
    bool operator==(const Key& o) const {
      return site == o.site && warp == o.warp && meetings == o.meetings && times == o.times;
    }
  };
  struct Hash {
    size_t operator()(const Key& key) const {
      const size_t mixed =
          reinterpret_cast<size_t>(key.site) ^ (uint64_t{key.meetings} << 40 | uint64_t{key.warp} << 32);
      return (mixed ^ key.times) * 0x9e3779b97f4a7c15u;
    }
  };
  struct Access {
    uint32_t lanes = 0, offsets[32];
    size_t bytes;
  };

  std::vector<Lane> lanes_;
  std::unordered_map<Key, Access, Hash> accesses_;
};

}  // namespace fusedrnn::cuda::simt
