#include "banks.hpp"

#include <algorithm>
#include <set>

namespace fusedrnn::cuda::simt {

int bank_passes(const uint32_t (&offsets)[32], uint32_t lanes, size_t bytes) {
  constexpr int kWarp = 32, kBanks = 32, kWord = 4;
  const int together = bytes <= kWord ? kWarp : bytes == 8 ? kWarp / 2 : kWarp / 4;
  size_t passes = 1;
  for (int first = 0; first < kWarp; first += together) {
    std::set<uint32_t> words[kBanks];
    for (int lane = first; lane < first + together; ++lane) {
      if ((lanes >> lane & 1) == 0) continue;
      for (uint32_t word = offsets[lane] / kWord; word <= (offsets[lane] + bytes - 1) / kWord; ++word)
        words[word % kBanks].insert(word);
    }
    for (const std::set<uint32_t>& of_bank : words) passes = std::max(passes, of_bank.size());
  }
  return static_cast<int>(passes);
}

void BankMeter::begin(int threads) {
  lanes_.assign(static_cast<size_t>(threads), {});
  accesses_.clear();
}

void BankMeter::note(int thread, const void* site, uint32_t offset, size_t bytes) {
  constexpr size_t kMost = 16;  // of an instruction
  for (; bytes > kMost; bytes -= kMost, offset += kMost) note(thread, site, offset, kMost);
  Lane& lane = lanes_[static_cast<size_t>(thread)];
  const uint32_t number = static_cast<uint32_t>(thread) % 32;
  Access& access = accesses_[{site, static_cast<uint32_t>(thread) / 32, lane.meetings, lane.times[site]++}];
  access.lanes |= 1u << number;
  access.offsets[number] = offset;
  access.bytes = bytes;
}

int BankMeter::worst(const void** site) {
  int worst = 0;
  for (const auto& [key, access] : accesses_) {
    const int passes = bank_passes(access.offsets, access.lanes, access.bytes);
    if (passes <= worst) continue;
    worst = passes;
    *site = key.site;
  }
  accesses_.clear();
  return worst;
}

}  // namespace fusedrnn::cuda::simt
