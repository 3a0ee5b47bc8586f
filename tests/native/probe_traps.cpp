// Decoding follows Intel's manual (volume 2, the instructions' own pages, and 2.3.5 for the prefix VEX); what a
// configuration must be is its LDTILECFG.
#if defined(FUSEDRNN_ISA_AVX512) && defined(__linux__)
#undef FUSEDRNN_ISA
#define FUSEDRNN_ISA traps_avx512

#include "probe_traps.hpp"

#include "tile_sum.hpp"

#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

namespace {

struct Tiles {
  bool configured;
  uint8_t rows[8];
  uint16_t bytes_of_row[8];
  unsigned char data[8][16][64];
};
thread_local Tiles tiles;
int wrong = 0, configured = 0;
long count = 0;
struct sigaction before;

void require(bool right) {
  if (!right) __atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
}

// An instruction with the prefix VEX of three bytes, of the map 0F 38.
struct Instruction {
  int prefix, opcode;  // prefix: 0 none, 1 66, 2 F3, 3 F2
  bool in_memory;
  int reg, rm, vvvv;
  const char* address;  // of the operand in memory: base and displacement alone where there is an index
  int64_t index;        // scaled
  bool has_index;
  int length;
};

int64_t register_of(const greg_t* registers, int number) {
  constexpr int order[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                           REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return registers[order[number]];
}

template <class T>
T read(const unsigned char*& at) {
  T value;
  __builtin_memcpy(&value, at, sizeof value);
  at += sizeof value;
  return value;
}

bool decode(const unsigned char* at, const greg_t* registers, Instruction& out) {
  const unsigned char* const start = at;
  if (read<uint8_t>(at) != 0xC4) return false;
  const uint8_t first = read<uint8_t>(at), second = read<uint8_t>(at);
  if ((first & 0x1F) != 2 || (second & 0x84) != 0) return false;  // map 0F 38, W0, 128 bits
  const int r = first & 0x80 ? 0 : 8, x = first & 0x40 ? 0 : 8, b = first & 0x20 ? 0 : 8;
  out.prefix = second & 3;
  out.vvvv = ~(second >> 3) & 0xF;
  out.opcode = read<uint8_t>(at);
  const uint8_t modrm = read<uint8_t>(at);
  const int mod = modrm >> 6, low = modrm & 7;
  out.reg = (modrm >> 3 & 7) | r;
  out.rm = low | b;
  out.in_memory = mod != 3;
  out.address = nullptr;
  out.index = 0;
  out.has_index = false;
  if (out.in_memory) {
    int64_t base = 0;
    bool from_next = false;
    if (low == 4) {
      const uint8_t sib = read<uint8_t>(at);
      const int index = (sib >> 3 & 7) | x;
      out.has_index = index != 4;
      if (out.has_index) out.index = register_of(registers, index) << (sib >> 6);
      if ((sib & 7) == 5 && mod == 0)
        base = read<int32_t>(at);
      else
        base = register_of(registers, (sib & 7) | b);
    } else if (low == 5 && mod == 0) {
      base = read<int32_t>(at);
      from_next = true;
    } else {
      base = register_of(registers, out.rm);
    }
    if (mod == 1) base += read<int8_t>(at);
    if (mod == 2) base += read<int32_t>(at);
    if (from_next) base += reinterpret_cast<int64_t>(at);
    out.address = reinterpret_cast<const char*>(base);
  }
  out.length = static_cast<int>(at - start);
  return true;
}

void configure(const char* from) {
  uint8_t c[64];
  __builtin_memcpy(c, from, sizeof c);
  require(c[0] == 1 && c[1] == 0);  // palette 1, start_row 0
  for (int i = 2; i < 64; ++i) {
    const bool used = (i >= 16 && i < 32) || (i >= 48 && i < 56);
    require(used || c[i] == 0);
  }
  if (!tiles.configured) __atomic_add_fetch(&configured, 1, __ATOMIC_RELAXED);
  __builtin_memset(&tiles, 0, sizeof tiles);
  for (int t = 0; t < 8; ++t) {
    __builtin_memcpy(&tiles.bytes_of_row[t], c + 16 + 2 * t, 2);
    tiles.rows[t] = c[48 + t];
    require(tiles.rows[t] <= 16 && tiles.bytes_of_row[t] <= 64 && (tiles.rows[t] == 0) == (tiles.bytes_of_row[t] == 0));
  }
  tiles.configured = true;
}

void load(int t, const char* from, int64_t stride) {
  __builtin_memset(tiles.data[t], 0, sizeof tiles.data[t]);
  for (int i = 0; i < tiles.rows[t]; ++i) __builtin_memcpy(tiles.data[t][i], from + i * stride, tiles.bytes_of_row[t]);
}

void store(int t, char* to, int64_t stride) {
  for (int i = 0; i < tiles.rows[t]; ++i) __builtin_memcpy(to + i * stride, tiles.data[t][i], tiles.bytes_of_row[t]);
}

void multiply(int c, int a, int b) {
  require(c != a && c != b && a != b && tiles.rows[c] == tiles.rows[a] && tiles.bytes_of_row[c] % 4 == 0 &&
          tiles.bytes_of_row[a] % 4 == 0 && tiles.bytes_of_row[a] / 4 == tiles.rows[b] &&
          tiles.bytes_of_row[c] == tiles.bytes_of_row[b]);
  require(tiles.bytes_of_row[a] == 64);  // add_block has 32 steps
  uint16_t right[16][32];
  __builtin_memcpy(right, tiles.data[b], sizeof right);
  for (int m = 0; m < tiles.rows[c]; ++m) {
    uint16_t left[32];
    float sums[16];
    __builtin_memcpy(left, tiles.data[a][m], sizeof left);
    __builtin_memcpy(sums, tiles.data[c][m], sizeof sums);
    for (int n = 0; n < tiles.bytes_of_row[c] / 4; ++n)
      sums[n] = tile_sum::add_block(
          sums[n], [&](int k) { return left[k]; }, [&](int k) { return right[k / 2][2 * n + k % 2]; });
    __builtin_memcpy(tiles.data[c][m], sums, sizeof sums);
  }
}

bool run(const Instruction& i) {
  const int what = i.opcode << 4 | i.prefix;
  const bool moves = i.in_memory && i.has_index && i.reg < 8 && i.vvvv == 0;
  if (what == 0x490 && i.in_memory && i.reg == 0 && i.vvvv == 0) {  // LDTILECFG
    configure(i.address + i.index);
    return true;
  }
  require(tiles.configured);
  if (what == 0x490 && i.reg == 0 && i.rm == 0 && i.vvvv == 0) {  // TILERELEASE
    if (tiles.configured) __atomic_sub_fetch(&configured, 1, __ATOMIC_RELAXED);
    __builtin_memset(&tiles, 0, sizeof tiles);
  } else if (what == 0x493 && !i.in_memory && i.rm == 0 && i.reg < 8 && i.vvvv == 0) {  // TILEZERO
    __builtin_memset(tiles.data[i.reg], 0, sizeof tiles.data[i.reg]);
  } else if (what == 0x4B3 && moves) {  // TILELOADD
    load(i.reg, i.address, i.index);
  } else if (what == 0x4B2 && moves) {  // TILESTORED
    store(i.reg, const_cast<char*>(i.address), i.index);
  } else if (what == 0x5C2 && !i.in_memory && i.reg < 8 && i.rm < 8 && i.vvvv < 8) {  // TDPBF16PS
    multiply(i.reg, i.rm, i.vvvv);
  } else {
    return false;
  }
  return true;
}

void trapped(int, siginfo_t*, void* context) {
  greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  Instruction instruction;
  if (decode(reinterpret_cast<const unsigned char*>(registers[REG_RIP]), registers, instruction) && run(instruction)) {
    registers[REG_RIP] += instruction.length;
    __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    return;
  }
  sigaction(SIGILL, &before, nullptr);  // the instruction runs again, and its signal goes where it would have gone
}

bool install() {
  if (!__builtin_cpu_supports("avx512bf16")) return false;
  struct sigaction action{};
  action.sa_sigaction = trapped;
  action.sa_flags = SA_SIGINFO;
  return sigaction(SIGILL, &action, &before) == 0;
}

void admit() {
  sigset_t illegal;
  sigemptyset(&illegal);
  sigaddset(&illegal, SIGILL);
  pthread_sigmask(SIG_UNBLOCK, &illegal, nullptr);
}

}  // namespace

extern "C" {
const TileTraps fusedrnn_tile_traps = {install, admit, [] { return __atomic_load_n(&wrong, __ATOMIC_RELAXED); },
                                       [] { return __atomic_load_n(&count, __ATOMIC_RELAXED); },
                                       [] { return __atomic_load_n(&configured, __ATOMIC_RELAXED); }};
}
#endif
